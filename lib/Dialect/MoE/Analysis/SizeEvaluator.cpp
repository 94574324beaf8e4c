//===- SizeEvaluator.cpp - Sizes of tensors, in numbers ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Analysis/SizeEvaluator.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "moe/Dialect/MoE/IR/MoE.h"

using namespace mlir;
using namespace mlir::moe;

using Size = std::optional<int64_t>;

Size SizeEvaluator::getSize(Value tensor, unsigned dim) {
  auto type = cast<ShapedType>(tensor.getType());
  if (!type.isDynamicDim(dim))
    return type.getDimSize(dim);
  if (auto argument = dyn_cast<BlockArgument>(tensor))
    return getArgumentSize(argument, dim);
  return getResultSize(cast<OpResult>(tensor), dim);
}

std::optional<double> SizeEvaluator::getNumElements(Value tensor) {
  double count = 1;
  for (int64_t dim = 0, e = cast<ShapedType>(tensor.getType()).getRank();
       dim < e; ++dim) {
    Size size = getSize(tensor, dim);
    if (!size)
      return std::nullopt;
    count *= *size;
  }
  return count;
}

Size SizeEvaluator::getArgumentSize(BlockArgument argument, unsigned dim) {
  Operation *parent = argument.getOwner()->getParentOp();
  auto expert = dyn_cast<ExpertOp>(parent);
  if (!expert)
    return argument.getOwner()->isEntryBlock() ? argumentSize(argument, dim)
                                               : std::nullopt;
  unsigned i = argument.getArgNumber() - 1; // After the expert's number.
  unsigned numRowArgs = expert.getRows().size();
  if (i >= numRowArgs)
    return getSize(expert.getParams()[i - numRowArgs], dim + 1);
  return dim == 0 ? rowsOfExpert : getSize(expert.getRows()[i], dim);
}

/// The size `dim` of the source of a slice: sizes that are dropped do not
/// count.
static Size getSliceSize(tensor::ExtractSliceOp slice, unsigned dim,
                         SizeEvaluator &evaluator) {
  llvm::SmallBitVector dropped = slice.getDroppedDims();
  for (auto [i, size] : llvm::enumerate(slice.getMixedSizes())) {
    if (dropped.test(i) || dim-- != 0)
      continue;
    if (auto value = dyn_cast<Value>(size))
      return evaluator.getValue(value);
    return getConstantIntValue(size);
  }
  return std::nullopt;
}

static Size getCollapsedSize(tensor::CollapseShapeOp collapse, unsigned dim,
                             SizeEvaluator &evaluator) {
  int64_t product = 1;
  for (int64_t from : collapse.getReassociationIndices()[dim]) {
    Size size = evaluator.getSize(collapse.getSrc(), from);
    if (!size || llvm::MulOverflow(product, *size, product))
      return std::nullopt;
  }
  return product;
}

static Size getConcatenatedSize(tensor::ConcatOp concat, unsigned dim,
                                SizeEvaluator &evaluator) {
  if (dim != concat.getDim())
    return evaluator.getSize(concat.getInputs().front(), dim);
  int64_t sum = 0;
  for (Value input : concat.getInputs()) {
    Size size = evaluator.getSize(input, dim);
    if (!size || llvm::AddOverflow(sum, *size, sum))
      return std::nullopt;
  }
  return sum;
}

Size SizeEvaluator::getResultSize(OpResult result, unsigned dim) {
  Operation *op = result.getOwner();
  if (auto empty = dyn_cast<tensor::EmptyOp>(op))
    return getValue(empty.getDynamicSize(dim));
  if (auto cast = dyn_cast<tensor::CastOp>(op))
    return isa<RankedTensorType>(cast.getSource().getType())
               ? getSize(cast.getSource(), dim)
               : std::nullopt;
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op))
    return getSliceSize(slice, dim, *this);
  if (auto collapse = dyn_cast<tensor::CollapseShapeOp>(op))
    return getCollapsedSize(collapse, dim, *this);
  if (auto expand = dyn_cast<tensor::ExpandShapeOp>(op)) {
    OpFoldResult size = expand.getMixedOutputShape()[dim];
    if (auto value = dyn_cast<Value>(size))
      return getValue(value);
    return getConstantIntValue(size);
  }
  if (auto concat = dyn_cast<tensor::ConcatOp>(op))
    return getConcatenatedSize(concat, dim, *this);
  if (auto insert = dyn_cast<tensor::InsertSliceOp>(op))
    return getSize(insert.getDest(), dim);
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return getSize(loop.getTiedLoopInit(result)->get(), dim);
  if (auto branch = dyn_cast<scf::IfOp>(op))
    return getSize(branch.thenYield().getOperand(result.getResultNumber()),
                   dim);
  if (auto destination = dyn_cast<DestinationStyleOpInterface>(op))
    return getSize(destination.getTiedOpOperand(result)->get(), dim);
  if (!op->hasTrait<OpTrait::Elementwise>())
    return std::nullopt;
  for (Value operand : op->getOperands())
    if (isa<RankedTensorType>(operand.getType()))
      return getSize(operand, dim);
  return std::nullopt;
}

Size SizeEvaluator::getValue(Value value) {
  auto known = values.find(value);
  if (known != values.end())
    return known->second;
  Size result = fold(value);
  values[value] = result;
  return result;
}

/// Folds arithmetic of any dialect, on constants in place of its operands.
Size SizeEvaluator::fold(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op || !value.getType().isIntOrIndex())
    return std::nullopt;
  if (auto size = dyn_cast<ShapedDimOpInterface>(op)) {
    Size dim = getConstantIntValue(size.getDimension());
    auto type = dyn_cast<RankedTensorType>(size.getShapedValue().getType());
    if (!dim || !type || *dim < 0 || *dim >= type.getRank())
      return std::nullopt;
    return getSize(size.getShapedValue(), *dim);
  }
  if (Size constant = getConstantIntValue(value))
    return constant;
  if (op->getNumRegions() != 0)
    return std::nullopt;
  SmallVector<Attribute> operands;
  for (Value operand : op->getOperands()) {
    Size number =
        operand.getType().isIntOrIndex() ? getValue(operand) : std::nullopt;
    operands.push_back(number ? IntegerAttr::get(operand.getType(), *number)
                              : Attribute());
  }
  SmallVector<OpFoldResult> results;
  // A fold may change the op in place: on a copy.
  Operation *copy = op->clone();
  bool isFolded = succeeded(copy->fold(operands, results));
  Size result;
  unsigned number = cast<OpResult>(value).getResultNumber();
  if (isFolded && number < results.size()) {
    if (auto folded = dyn_cast<Value>(results[number]))
      result = getValue(folded);
    else
      result = getConstantIntValue(results[number]);
  }
  copy->destroy();
  return result;
}
