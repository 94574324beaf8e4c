//===- SizeChecks.cpp - What a call checks, in numbers ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/SizeChecks.h"

#include "EntryShapes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "llvm/Support/CheckedArithmetic.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::moe;

using Evaluate = decltype(SizeFormula::evaluate);
using Binary = std::optional<int64_t> (*)(int64_t, int64_t);

//===----------------------------------------------------------------------===//
// Formulas
//===----------------------------------------------------------------------===//

static Evaluate makeConstant(int64_t value) {
  return [value](ArrayRef<int64_t>) { return std::optional<int64_t>(value); };
}

static Evaluate makeBinary(Evaluate lhs, Evaluate rhs, Binary binary) {
  return [=](ArrayRef<int64_t> sizes) -> std::optional<int64_t> {
    std::optional<int64_t> left = lhs(sizes), right = rhs(sizes);
    return left && right ? binary(*left, *right) : std::nullopt;
  };
}

static std::optional<int64_t> divide(int64_t lhs, int64_t rhs) {
  return rhs > 0 ? std::optional<int64_t>(lhs / rhs) : std::nullopt;
}

static std::optional<int64_t> remainder(int64_t lhs, int64_t rhs) {
  return rhs > 0 ? std::optional<int64_t>(lhs % rhs) : std::nullopt;
}

static std::optional<int64_t> maximum(int64_t lhs, int64_t rhs) {
  return std::max(lhs, rhs);
}

static Evaluate evaluate(AffineExpr expr, ArrayRef<Evaluate> operands,
                         unsigned numDims) {
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return operands[dim.getPosition()];
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return operands[numDims + symbol.getPosition()];
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return makeConstant(constant.getValue());
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Evaluate lhs = evaluate(binary.getLHS(), operands, numDims);
  Evaluate rhs = evaluate(binary.getRHS(), operands, numDims);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return makeBinary(lhs, rhs, llvm::checkedAdd<int64_t>);
  case AffineExprKind::Mul:
    return makeBinary(lhs, rhs, llvm::checkedMul<int64_t>);
  case AffineExprKind::Mod:
    return makeBinary(lhs, rhs, remainder);
  case AffineExprKind::FloorDiv:
    return makeBinary(lhs, rhs, divide);
  default:
    return [](ArrayRef<int64_t>) { return std::nullopt; };
  }
}

static Binary getBinary(Operation *op) {
  if (isa<arith::AddIOp>(op))
    return llvm::checkedAdd<int64_t>;
  if (isa<arith::SubIOp>(op))
    return llvm::checkedSub<int64_t>;
  if (isa<arith::MulIOp>(op))
    return llvm::checkedMul<int64_t>;
  if (isa<arith::DivUIOp>(op))
    return divide;
  if (isa<arith::RemUIOp>(op))
    return remainder;
  if (isa<arith::MaxSIOp, arith::MaxUIOp>(op))
    return maximum;
  return nullptr;
}

static Evaluate evaluate(Value size) {
  if (auto argument = dyn_cast<BlockArgument>(size))
    return [i = argument.getArgNumber()](ArrayRef<int64_t> sizes) {
      return std::optional<int64_t>(sizes[i]);
    };
  if (std::optional<int64_t> constant = getConstantIntValue(size))
    return makeConstant(*constant);
  Operation *op = size.getDefiningOp();
  if (auto apply = dyn_cast<affine::AffineApplyOp>(op)) {
    SmallVector<Evaluate> operands;
    for (Value operand : apply.getMapOperands())
      operands.push_back(evaluate(operand));
    return evaluate(apply.getAffineMap().getResult(0), operands,
                    apply.getAffineMap().getNumDims());
  }
  if (Binary binary = getBinary(op))
    return makeBinary(evaluate(op->getOperand(0)), evaluate(op->getOperand(1)),
                      binary);
  return [](ArrayRef<int64_t>) { return std::nullopt; };
}

/// "size 0 of 'x'" of the dynamic size number `index`.
static std::string describeArgument(unsigned index,
                                    const EntrySignature &signature) {
  for (const EntryTensor &argument : signature.arguments)
    for (auto [dim, size] : llvm::enumerate(argument.shape))
      if (ShapedType::isDynamic(size) && index-- == 0)
        return "size " + std::to_string(dim) + " of '" + argument.name + "'";
  llvm_unreachable("the shapes function has an argument a dynamic size");
}

static SizeFormula makeFormula(Value size, func::FuncOp shapes,
                               const EntrySignature &signature) {
  auto argument = dyn_cast<BlockArgument>(size);
  return {argument ? describeArgument(argument.getArgNumber(), signature)
                   : printSize(shapes, size),
          evaluate(size), getConstantIntValue(size).has_value()};
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

namespace {
/// Appends the comparisons behind a status.
class CheckReader {
public:
  CheckReader(func::FuncOp shapes, EntrySignature &signature)
      : shapes(shapes), signature(signature) {}

  void read(int32_t status, Value condition) {
    Operation *op = condition.getDefiningOp();
    if (auto either = dyn_cast_if_present<arith::OrIOp>(op)) {
      read(status, either.getLhs());
      read(status, either.getRhs());
    } else if (auto compare = dyn_cast_if_present<arith::CmpIOp>(op)) {
      read(status, compare);
    }
  }

private:
  void read(int32_t status, arith::CmpIOp compare);
  void add(int32_t status, Value first, SizeCheck::Violation violation,
           Value second) {
    signature.sizeChecks.push_back(
        {status, makeFormula(first, shapes, signature), violation,
         makeFormula(second, shapes, signature)});
  }

  func::FuncOp shapes;
  EntrySignature &signature;
};
} // namespace

void CheckReader::read(int32_t status, arith::CmpIOp compare) {
  Value lhs = compare.getLhs(), rhs = compare.getRhs();
  switch (compare.getPredicate()) {
  case arith::CmpIPredicate::ne:
    return add(status, lhs, SizeCheck::Violation::NotEqual, rhs);
  case arith::CmpIPredicate::ugt:
    return add(status, lhs, SizeCheck::Violation::More, rhs);
  case arith::CmpIPredicate::ult:
    return add(status, rhs, SizeCheck::Violation::More, lhs);
  case arith::CmpIPredicate::uge:
    return add(status, lhs, SizeCheck::Violation::AtLeast, rhs);
  case arith::CmpIPredicate::ule:
    return add(status, rhs, SizeCheck::Violation::AtLeast, lhs);
  default:
    return; // Another form that folding found: told without numbers.
  }
}

void mlir::moe::readSizeChecks(func::FuncOp shapes, EntrySignature &signature) {
  signature.sizeChecks.clear();
  CheckReader reader(shapes, signature);
  Value status = shapes.getBody().front().getTerminator()->getOperand(0);
  // The first check comes last: ShapesWriter::write.
  while (auto select = status.getDefiningOp<arith::SelectOp>()) {
    if (auto code = getConstantIntValue(select.getTrueValue()))
      reader.read(static_cast<int32_t>(*code), select.getCondition());
    status = select.getFalseValue();
  }
}

void mlir::moe::readWorkspace(func::FuncOp workspace,
                              EntrySignature &signature) {
  if (!workspace) {
    signature.workspace = {"0", makeConstant(0), /*isConstant=*/true};
    return;
  }
  Value bytes = workspace.getBody().front().getTerminator()->getOperand(0);
  signature.workspace = makeFormula(bytes, workspace, signature);
  // Of one number the name is wanted, not where it comes from.
  signature.workspace.text = printSize(workspace, bytes);
}

//===----------------------------------------------------------------------===//
// In words
//===----------------------------------------------------------------------===//

static bool isViolated(SizeCheck::Violation violation, int64_t first,
                       int64_t second) {
  switch (violation) {
  case SizeCheck::Violation::NotEqual:
    return first != second;
  case SizeCheck::Violation::More:
    return first > second;
  case SizeCheck::Violation::AtLeast:
    return first >= second;
  }
  llvm_unreachable("not a violation");
}

/// "T * 2 is 10", or "10" alone.
static std::string describe(const SizeFormula &formula, int64_t value) {
  std::string number = std::to_string(value);
  return formula.isConstant ? number : formula.text + " is " + number;
}

static std::string explain(const SizeCheck &check, int64_t first,
                           int64_t second) {
  std::string left = describe(check.first, first);
  std::string right = describe(check.second, second);
  switch (check.violation) {
  case SizeCheck::Violation::NotEqual:
    if (check.first.isConstant)
      return right + ", not " + left;
    return left + (check.second.isConstant ? ", not " : ", but ") + right;
  case SizeCheck::Violation::More: // SizeConstraints: gate_c6 and gate_c9.
    return "a token chooses k experts, and " +
           (check.first.isConstant ? "k is " + left : left) +
           ", but there are fewer to choose from: " + right;
  case SizeCheck::Violation::AtLeast: // ShapesWriter::checkChoices.
    return "tokens times k reaches 2^31: " + left;
  }
  llvm_unreachable("not a violation");
}

/// The dynamic sizes of the arguments; none where a tensor is not as described.
static std::optional<SmallVector<int64_t>>
getSizes(const EntrySignature &signature,
         ArrayRef<const moe_tensor *> tensors) {
  SmallVector<int64_t> sizes;
  if (tensors.size() < signature.arguments.size())
    return std::nullopt;
  for (auto [argument, tensor] : llvm::zip(signature.arguments, tensors)) {
    int64_t rank = argument.shape.size();
    if (!tensor || tensor->rank != rank || (rank && !tensor->shape))
      return std::nullopt;
    for (int64_t dim = 0; dim < rank; ++dim)
      if (ShapedType::isDynamic(argument.shape[dim]))
        sizes.push_back(tensor->shape[dim]);
  }
  return sizes;
}

std::optional<int64_t>
mlir::moe::getWorkspaceBytes(const EntrySignature &signature,
                             ArrayRef<const moe_tensor *> tensors) {
  std::optional<SmallVector<int64_t>> sizes = getSizes(signature, tensors);
  if (!sizes || !signature.workspace.evaluate)
    return std::nullopt;
  return signature.workspace.evaluate(*sizes);
}

std::string mlir::moe::explainWorkspace(const EntrySignature &signature,
                                        ArrayRef<const moe_tensor *> tensors,
                                        std::optional<size_t> bytes) {
  std::optional<int64_t> needed = getWorkspaceBytes(signature, tensors);
  if (!needed || !bytes)
    return "the workspace is too small or not aligned to 64 bytes";
  if (*bytes >= static_cast<size_t>(*needed))
    return "the workspace is NULL or not aligned to 64 bytes";
  std::string text = "the workspace has " + std::to_string(*bytes) +
                     " bytes, and " + std::to_string(*needed) + " are needed";
  if (!signature.workspace.isConstant)
    text += ": " + signature.workspace.text;
  return text;
}

std::string mlir::moe::explainSizes(int32_t status,
                                    const EntrySignature &signature,
                                    ArrayRef<const moe_tensor *> tensors) {
  std::optional<SmallVector<int64_t>> sizes = getSizes(signature, tensors);
  if (!sizes)
    return {};
  for (const SizeCheck &check : signature.sizeChecks) {
    if (check.status != status)
      continue;
    std::optional<int64_t> first = check.first.evaluate(*sizes);
    std::optional<int64_t> second = check.second.evaluate(*sizes);
    if (first && second && isViolated(check.violation, *first, *second))
      return explain(check, *first, *second);
  }
  return {};
}
