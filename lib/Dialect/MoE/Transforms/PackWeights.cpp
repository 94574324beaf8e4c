//===- PackWeights.cpp - Layers with packed weights -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A function whose weights are arguments gets packed ones in their place, and a
// function beside it makes those from what a checkpoint stores.
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Transforms/PackWeights.h"

#include "FusionRemarks.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/SymbolTable.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPACKWEIGHTS
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static constexpr StringLiteral kRemark("moe-pack-weights");
static constexpr StringLiteral kName("moe.name");
static constexpr StringLiteral kParam("moe.param");

namespace {

/// What a term reads of an E×N×K or E×K×N tensor: columns `first`, `first` +
/// `stride`, …, `columns` of them.
struct WeightRead {
  unsigned columnDim = 1, sumDim = 2;
  int64_t first = 0, stride = 1, columns = 0;

  bool operator==(const WeightRead &other) const {
    return columnDim == other.columnDim && first == other.first &&
           stride == other.stride && columns == other.columns;
  }
};

/// A factor of a grouped matmul that is such a read.
struct WeightUse {
  GroupedMatmulOp op;
  unsigned factor;
  WeightRead read;
};

/// Why something is not packed, and what to change.
struct Obstacle {
  std::string reason;
  StringRef advice;
};

/// An argument of a layer, and the reads of it that differ: a packed tensor
/// each, with the attributes that it has as an argument.
struct PackedArgument {
  BlockArgument argument;
  SmallVector<WeightUse> uses;
  SmallVector<WeightRead> reads;
  SmallVector<DictionaryAttr> attributes;
};

} // namespace

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

static void remarkNotPacked(Operation *op, const Twine &what,
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
  if (auto name = layer.getArgAttrOfType<StringAttr>(number, kName))
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

/// The arguments of `layer` that can be packed, in their order.
static SmallVector<PackedArgument> findWeights(func::FuncOp layer) {
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

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

static std::string getSuffix(size_t i, size_t count) {
  return count > 1 ? "_" + std::to_string(i) : "";
}

/// What the tensors that an argument becomes are called: `text`, with _0, _1, …
/// behind where they are several. Where one of these is in `taken`, `separator`
/// and a number go between. Adds them to `taken`.
static std::string takeNames(StringRef text, StringRef separator, size_t count,
                             llvm::StringSet<> &taken) {
  auto isFree = [&](StringRef candidate) {
    return llvm::none_of(llvm::seq(count), [&](size_t i) {
      return taken.contains((candidate + getSuffix(i, count)).str());
    });
  };
  std::string name = text.str();
  for (unsigned number = 2; !isFree(name); ++number)
    name = (text + separator + Twine(number)).str();
  for (size_t i : llvm::seq(count))
    taken.insert(name + getSuffix(i, count));
  return name;
}

/// The values of `attribute` that arguments and results of `layer` have.
static llvm::StringSet<> getNames(func::FuncOp layer, StringRef attribute) {
  llvm::StringSet<> names;
  for (unsigned i : llvm::seq(layer.getNumArguments()))
    if (auto name = layer.getArgAttrOfType<StringAttr>(i, attribute))
      names.insert(name.getValue());
  for (unsigned i : llvm::seq(layer.getNumResults()))
    if (auto name = layer.getResultAttrOfType<StringAttr>(i, attribute))
      names.insert(name.getValue());
  return names;
}

/// Sets the attributes of what `weights` become: those of the arguments, with
/// names that nothing else in `layer` has.
static void setAttributes(func::FuncOp layer,
                          MutableArrayRef<PackedArgument> weights) {
  Builder b(layer.getContext());
  llvm::StringSet<> names = getNames(layer, kName);
  llvm::StringSet<> params = getNames(layer, kParam);
  for (PackedArgument &weight : weights) {
    NamedAttrList packed(layer.getArgAttrDict(weight.argument.getArgNumber()));
    auto name = dyn_cast_or_null<StringAttr>(packed.get(kName));
    auto param = dyn_cast_or_null<StringAttr>(packed.get(kParam));
    size_t count = weight.reads.size();
    std::string baseName, baseParam;
    if (name) // One that becomes one keeps its name.
      baseName = count == 1 ? name.getValue().str()
                            : takeNames(name.getValue(), "_", count, names);
    if (param)
      baseParam =
          takeNames(getPackedParam(param.getValue()), ".", count, params);
    for (size_t i : llvm::seq(count)) {
      std::string suffix = getSuffix(i, count);
      if (name)
        packed.set(kName, b.getStringAttr(baseName + suffix));
      if (param)
        packed.set(kParam, b.getStringAttr(baseParam + suffix));
      weight.attributes.push_back(packed.getDictionary(b.getContext()));
    }
  }
}

//===----------------------------------------------------------------------===//
// The function that packs
//===----------------------------------------------------------------------===//

/// The columns of `source` that are read, as a tensor of their own.
static Value buildColumns(OpBuilder &b, Location loc, Value source,
                          Value experts, const WeightRead &read) {
  auto type = cast<RankedTensorType>(source.getType());
  if (read.columns == type.getDimSize(read.columnDim))
    return source;
  Attribute zero = b.getIndexAttr(0), one = b.getIndexAttr(1);
  SmallVector<OpFoldResult> offsets(3, zero), strides(3, one);
  SmallVector<OpFoldResult> sizes(3, experts);
  offsets[read.columnDim] = b.getIndexAttr(read.first);
  strides[read.columnDim] = b.getIndexAttr(read.stride);
  sizes[read.columnDim] = b.getIndexAttr(read.columns);
  sizes[read.sumDim] = b.getIndexAttr(type.getDimSize(read.sumDim));
  return tensor::ExtractSliceOp::create(b, loc, source, offsets, sizes,
                                        strides);
}

/// The type of what is packed from a tensor of `type`, for `experts` experts.
static RankedTensorType getPackedType(RankedTensorType type,
                                      const WeightRead &read, int64_t experts) {
  SmallVector<int64_t> shape = getPackedShape(
      type.getElementType(), read.columns, type.getDimSize(read.sumDim));
  shape.insert(shape.begin(), experts);
  return type.clone(shape);
}

static Value buildPack(OpBuilder &b, Location loc, Value source,
                       const WeightRead &read) {
  auto type = cast<RankedTensorType>(source.getType());
  Type element = type.getElementType();
  int64_t length = type.getDimSize(read.sumDim), pair = getPanelPair(element);
  Value experts = tensor::DimOp::create(b, loc, source, 0);
  Value columns = buildColumns(b, loc, source, experts, read);

  SmallVector<int64_t> tiled = {read.columnDim}, order;
  SmallVector<OpFoldResult> tiles = {b.getIndexAttr(kPanelColumns)};
  if (pair > 1) {
    tiled.push_back(read.sumDim);
    tiles.push_back(b.getIndexAttr(pair));
  }
  if (read.columnDim > read.sumDim)
    order = {0, 2, 1};
  std::optional<Value> padding;
  if (read.columns % kPanelColumns != 0 || length % pair != 0)
    padding = arith::ConstantOp::create(b, loc, b.getZeroAttr(element));
  RankedTensorType packed = getPackedType(type, read, ShapedType::kDynamic);
  Value empty = tensor::EmptyOp::create(b, loc, packed.getShape(), element,
                                        ValueRange{experts});
  return linalg::PackOp::create(b, loc, columns, empty, tiled, tiles, padding,
                                order)
      .getResult();
}

static std::string getPackName(func::FuncOp layer) {
  return (layer.getName() + "_pack").str();
}

/// The attributes of the result for an argument with `attributes`.
static DictionaryAttr getResultAttrs(Builder &b, DictionaryAttr attributes,
                                     llvm::StringSet<> &names) {
  NamedAttrList result(attributes);
  result.erase(kParam);
  // A signature has no name twice.
  if (auto name = dyn_cast_or_null<StringAttr>(result.get(kName)))
    result.set(kName, b.getStringAttr(takeNames(
                          (name.getValue() + "_packed").str(), "_", 1, names)));
  return result.getDictionary(b.getContext());
}

/// The function that makes the packed tensors of `weights`, still arguments of
/// `layer`, from any number of experts.
static func::FuncOp buildPackFunction(func::FuncOp layer,
                                      ArrayRef<PackedArgument> weights) {
  Location loc = layer.getLoc();
  OpBuilder b(layer.getContext());
  auto pack =
      func::FuncOp::create(loc, getPackName(layer), b.getFunctionType({}, {}));
  b.setInsertionPointToStart(pack.addEntryBlock());
  SmallVector<Value> results;
  for (const PackedArgument &weight : weights) {
    auto type = cast<RankedTensorType>(weight.argument.getType());
    SmallVector<int64_t> shape(type.getShape());
    shape[0] = ShapedType::kDynamic;
    DictionaryAttr attributes =
        layer.getArgAttrDict(weight.argument.getArgNumber());
    unsigned number = pack.getNumArguments();
    (void)pack.insertArgument(number, type.clone(shape), attributes,
                              weight.argument.getLoc());
    for (const WeightRead &read : weight.reads)
      results.push_back(buildPack(b, loc, pack.getArgument(number), read));
  }
  llvm::StringSet<> names = getNames(pack, kName);
  for (const PackedArgument &weight : weights)
    for (DictionaryAttr attributes : weight.attributes) {
      unsigned number = pack.getNumResults();
      (void)pack.insertResult(number, results[number].getType(),
                              getResultAttrs(b, attributes, names));
    }
  func::ReturnOp::create(b, loc, results);
  return pack;
}

//===----------------------------------------------------------------------===//
// The layer
//===----------------------------------------------------------------------===//

/// Lets `use` read `packed`.
static void replaceUse(const WeightUse &use, Value packed) {
  GroupedMatmulOp op = use.op;
  SmallVector<AffineMap> maps(
      op.getFactorMaps().getAsValueRange<AffineMapAttr>());
  maps[use.factor] = getPackedMap(getElementTypeOrSelf(packed.getType()),
                                  maps[use.factor].getResult(0));
  op.setFactorMapsAttr(Builder(op.getContext()).getAffineMapArrayAttr(maps));
  op.getFactorsMutable()[use.factor].set(packed);
}

/// Replaces an argument of `layer` by packed ones, which are appended to
/// `added`.
static void replaceArgument(func::FuncOp layer, const PackedArgument &weight,
                            SmallVectorImpl<BlockArgument> &added) {
  BlockArgument argument = weight.argument;
  auto type = cast<RankedTensorType>(argument.getType());
  BlockArgument first;
  for (auto [i, read] : llvm::enumerate(weight.reads)) {
    unsigned number = argument.getArgNumber() + i + 1;
    RankedTensorType packed = getPackedType(type, read, type.getDimSize(0));
    (void)layer.insertArgument(number, packed, weight.attributes[i],
                               argument.getLoc());
    added.push_back(layer.getArgument(number));
    first = first ? first : added.back();
    for (const WeightUse &use : weight.uses)
      if (use.read == read)
        replaceUse(use, added.back());
  }
  argument.replaceAllUsesWith(first); // Of the number of experts.
  (void)layer.eraseArgument(argument.getArgNumber());
}

/// An error if the function that packs the weights of `layer` cannot be called
/// as artifacts look for it.
static LogicalResult checkPackName(func::FuncOp layer, Operation *scope) {
  std::string name = getPackName(layer);
  Operation *other = SymbolTable::lookupSymbolIn(scope, name);
  if (!other)
    return success();
  InFlightDiagnostic error = layer.emitError()
                             << "the function that packs the weights of @"
                             << layer.getName() << " has to be called @" << name
                             << ", and there is one already: rename that, or @"
                             << layer.getName();
  error.attachNote(other->getLoc()) << "@" << name << " is here";
  return error;
}

FailureOr<func::FuncOp> mlir::moe::packWeights(func::FuncOp layer) {
  if (layer.isExternal())
    return func::FuncOp();
  SmallVector<PackedArgument> weights = findWeights(layer);
  if (weights.empty())
    return func::FuncOp();
  Operation *scope = SymbolTable::getNearestSymbolTable(layer->getParentOp());
  if (!scope || !SymbolTable::symbolKnownUseEmpty(layer, scope)) {
    remarkNotPacked(weights.front().uses.front().op, "",
                    {"the function is called by others", "inline it first"});
    return func::FuncOp();
  }
  if (failed(checkPackName(layer, scope)))
    return failure();
  setAttributes(layer, weights);
  func::FuncOp pack = buildPackFunction(layer, weights);
  SymbolTable(scope).insert(pack, std::next(layer->getIterator()));
  SmallVector<BlockArgument> added;
  for (const PackedArgument &weight : weights)
    replaceArgument(layer, weight, added);
  SmallVector<int32_t> numbers =
      llvm::map_to_vector(added, [](BlockArgument argument) -> int32_t {
        return argument.getArgNumber();
      });
  Builder b(layer.getContext());
  layer->setAttr(kPackAttr, FlatSymbolRefAttr::get(pack));
  layer->setAttr(kPackedAttr, b.getDenseI32ArrayAttr(numbers));
  return pack;
}

std::string mlir::moe::getPackedParam(StringRef param) {
  std::string text = param.str();
  for (StringRef part : {"{expert}.", ".{expert}", "{expert}"})
    for (size_t at; (at = StringRef(text).find(part)) != StringRef::npos;)
      text.erase(at, part.size());
  return text + ".packed";
}

func::FuncOp mlir::moe::findPack(func::FuncOp layer) {
  auto symbol = layer->getAttrOfType<FlatSymbolRefAttr>(kPackAttr);
  if (!symbol)
    return {};
  return SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(layer, symbol);
}

namespace {
struct PackWeightsPass final : moe::impl::MoEPackWeightsBase<PackWeightsPass> {
  bool canScheduleOn(RegisteredOperationName name) const override {
    return name.hasTrait<OpTrait::SymbolTable>();
  }

  void runOnOperation() override {
    auto functions =
        llvm::to_vector(getOperation()->getRegion(0).getOps<func::FuncOp>());
    for (func::FuncOp function : functions) {
      FailureOr<func::FuncOp> pack = packWeights(function);
      if (failed(pack))
        return signalPassFailure();
      if (*pack)
        numPacked += pack->getNumResults();
    }
  }
};
} // namespace
