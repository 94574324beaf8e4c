//===- PackableWeights.cpp - Weights that can be packed ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PackableWeights.h"

#include "FusionRemarks.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "moe/Dialect/MoE/IR/EntryAttributes.h"

using namespace mlir;
using namespace mlir::moe;

static constexpr StringLiteral kRemark("moe-pack-weights");

static bool isDim(AffineExpr expr, unsigned dim) {
  return expr == getAffineDimExpr(dim, expr.getContext());
}

/// Takes a constant that `expr` adds (or multiplies) off it.
static std::optional<int64_t> takeConstant(AffineExpr &expr,
                                           AffineExprKind kind) {
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary || binary.getKind() != kind)
    return std::nullopt;
  auto constant = dyn_cast<AffineConstantExpr>(binary.getRHS());
  if (!constant)
    return std::nullopt;
  expr = binary.getLHS();
  return constant.getValue();
}

/// Whether `expr` is n · stride + first.
static bool readColumns(AffineExpr expr, WeightRead &read) {
  read.first = takeConstant(expr, AffineExprKind::Add).value_or(0);
  read.stride = takeConstant(expr, AffineExprKind::Mul).value_or(1);
  return isDim(expr, GroupedMatmulOp::kColumn) && read.first >= 0 &&
         read.stride > 0;
}

/// Whether `map` is [e, n, k] or [e, k, n], with any n · stride + first.
static bool readMap(AffineMap map, WeightRead &read) {
  if (map.getNumResults() != 3 ||
      !isDim(map.getResult(0), GroupedMatmulOp::kExpert))
    return false;
  read.sumDim = isDim(map.getResult(2), GroupedMatmulOp::kSum) ? 2 : 1;
  read.columnDim = 3 - read.sumDim;
  return isDim(map.getResult(read.sumDim), GroupedMatmulOp::kSum) &&
         readColumns(map.getResult(read.columnDim), read);
}

/// What keeps the weight of `term` from being packed, whatever else reads it;
/// otherwise `read` is what is read of it.
static std::optional<Obstacle> findObstacle(GroupedMatmulOp op,
                                            const GroupedMatmulOp::Term &term,
                                            WeightRead &read) {
  if (term.decode)
    return Obstacle{"a decode region computes it from what is stored", ""};
  auto type = dyn_cast<RankedTensorType>(term.getWeight().getType());
  if (!type)
    return Obstacle{"it is a memref", "run this pass before bufferization"};
  auto argument = dyn_cast<BlockArgument>(term.getWeight());
  auto function = op->getParentOfType<func::FuncOp>();
  if (!argument || argument.getOwner() != &function.getBody().front())
    return Obstacle{"it is no argument of the function",
                    "pass the stored tensor as an argument"};
  if (!term.getWeightMap().isFunctionOfDim(GroupedMatmulOp::kExpert))
    return Obstacle{"it is the same for all experts", ""};
  if (!readMap(term.getWeightMap(), read))
    return Obstacle{"its index is neither [e, n, k] nor [e, k, n] with columns "
                    "n * stride + first",
                    "store it as E×N×K or E×K×N"};
  read.columns = op.getNumColumns();
  if (ShapedType::isDynamic(read.columns) ||
      type.isDynamicDim(read.columnDim) || type.isDynamicDim(read.sumDim))
    return Obstacle{"its N or K is unknown", "give its type static sizes"};
  return std::nullopt;
}

static bool isNumberOfExperts(OpOperand &use) {
  auto dim = dyn_cast<tensor::DimOp>(use.getOwner());
  return dim && matchPattern(dim.getIndex(), m_Zero());
}

/// The same of what reads the argument as a whole.
static std::optional<Obstacle> findObstacle(const PackedArgument &packed) {
  size_t others = 0;
  StringRef reader;
  for (OpOperand &use : packed.argument.getUses())
    if (!isNumberOfExperts(use)) {
      ++others;
      if (!isa<GroupedMatmulOp>(use.getOwner()))
        reader = use.getOwner()->getName().getStringRef();
    }
  if (!reader.empty())
    return Obstacle{("'" + reader + "' reads it as well").str(),
                    "pass what that reads as another argument"};
  if (others != packed.uses.size())
    return Obstacle{"a grouped matmul reads it as another operand as well",
                    "pass that as another argument"};
  auto columnDim = [&](const WeightRead &read) {
    return read.columnDim != packed.reads.front().columnDim;
  };
  if (llvm::any_of(packed.reads, columnDim))
    return Obstacle{"it is read as [e, n, k] and as [e, k, n]", ""};
  return std::nullopt;
}

void mlir::moe::remarkNotPacked(Operation *op, const Twine &what,
                                const Obstacle &obstacle) {
  remarkMissed(kRemark, op, op->getLoc(), "a weight is not packed",
               (what + obstacle.reason).str(), obstacle.advice);
}

/// "argument 3 (gate)" or, where it has no name, "argument 3"; nothing for what
/// is no argument of `layer`.
static std::string getArgumentText(func::FuncOp layer, Value weight) {
  auto argument = dyn_cast<BlockArgument>(weight);
  if (!argument || argument.getOwner() != &layer.getBody().front())
    return "";
  unsigned number = argument.getArgNumber();
  std::string text = "argument " + std::to_string(number);
  if (auto name = layer.getArgAttrOfType<StringAttr>(number, kNameAttr))
    text += (" (" + name.getValue() + ")").str();
  return text;
}

/// The same as the beginning of a remark.
static std::string describe(func::FuncOp layer, Value weight) {
  std::string text = getArgumentText(layer, weight);
  return text.empty() ? text : text + ": ";
}

/// Adds the weights of `op`; those that cannot be packed go to `declined`.
static void collectWeights(func::FuncOp layer, GroupedMatmulOp op,
                           llvm::MapVector<Value, PackedArgument> &arguments,
                           llvm::SmallDenseSet<Value> &declined) {
  unsigned factor = 0, number = 0;
  for (const GroupedMatmulOp::Product &product : op.getProducts())
    for (const GroupedMatmulOp::Term &term : product) {
      Value weight = term.getWeight();
      unsigned place = factor + op.getLhsSizes()[number];
      factor += op.getTermSizes()[number++];
      WeightRead read;
      if (std::optional<Obstacle> obstacle = findObstacle(op, term, read)) {
        if (declined.insert(weight).second)
          remarkNotPacked(op, describe(layer, weight), *obstacle);
        continue;
      }
      PackedArgument &packed = arguments[weight];
      packed.argument = cast<BlockArgument>(weight);
      packed.uses.push_back({op, place, read});
      if (!llvm::is_contained(packed.reads, read))
        packed.reads.push_back(read);
    }
}

/// Declines what `op` reads beside a weight that is declined, since kernels
/// read packed weights alone or none. Returns whether there was any.
static bool declineBeside(func::FuncOp layer, GroupedMatmulOp op,
                          llvm::SmallDenseSet<Value> &declined) {
  SmallVector<Value> weights;
  for (const GroupedMatmulOp::Product &product : op.getProducts())
    for (const GroupedMatmulOp::Term &term : product)
      weights.push_back(term.getWeight());
  auto isDeclined = [&](Value weight) { return declined.contains(weight); };
  auto inTheWay = llvm::find_if(weights, isDeclined);
  if (inTheWay == weights.end())
    return false;
  std::string other = getArgumentText(layer, *inTheWay);
  if (other.empty())
    other = "a weight that is no argument";
  bool changed = false;
  for (Value weight : weights) {
    if (!declined.insert(weight).second)
      continue;
    changed = true;
    remarkNotPacked(op, describe(layer, weight),
                    {"it is read beside " + other +
                         ", which is not packed, and of an op's weights all "
                         "are packed or none",
                     "let that be packed, or read it in an op of its own"});
  }
  return changed;
}

SmallVector<PackedArgument> mlir::moe::findPackableWeights(func::FuncOp layer) {
  llvm::MapVector<Value, PackedArgument> arguments;
  llvm::SmallDenseSet<Value> declined;
  SmallVector<GroupedMatmulOp> ops;
  layer.walk([&](GroupedMatmulOp op) {
    ops.push_back(op);
    collectWeights(layer, op, arguments, declined);
  });
  for (auto &[weight, packed] : arguments) {
    if (declined.contains(weight))
      continue;
    if (std::optional<Obstacle> obstacle = findObstacle(packed)) {
      remarkNotPacked(packed.uses.front().op, describe(layer, weight),
                      *obstacle);
      declined.insert(weight);
    }
  }
  // Ops share weights, so one that is declined may keep others from being
  // packed in ops that were looked at before.
  for (bool changed = true; changed;) {
    changed = false;
    for (GroupedMatmulOp op : ops)
      changed |= declineBeside(layer, op, declined);
  }
  SmallVector<PackedArgument> weights;
  for (auto &[weight, packed] : arguments) {
    if (declined.contains(weight))
      continue;
    llvm::sort(packed.reads, [](const WeightRead &x, const WeightRead &y) {
      return std::tie(x.first, x.stride, x.columns) <
             std::tie(y.first, y.stride, y.columns);
    });
    weights.push_back(std::move(packed));
  }
  llvm::sort(weights, [](const PackedArgument &x, const PackedArgument &y) {
    return x.argument.getArgNumber() < y.argument.getArgNumber();
  });
  return weights;
}
