//===- RandomExpert.cpp - Random bodies of experts --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RandomLayer.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/IR/MoE.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::test;

namespace {

/// Builds the body in a block of its own; what it takes from above is built
/// before the expert.
class BodyBuilder {
public:
  BodyBuilder(RandomBuilder &b, const ExpertOperands &operands);

  /// Adds a few random steps.
  void build();
  /// Moves the body into a new moe.expert that yields some of its values.
  SmallVector<Value> finish(const LayerSizes &sizes);

private:
  RandomBuilder &b;
  OpBuilder &builder;
  Random &random;
  Location loc;
  const ExpertOperands &operands;
  Block *body;
  OpBuilder::InsertPoint outside;

  Value expert, numRows;
  /// Values of floating point types: rows (n×C), numbers a row (n), and weights
  /// of one expert or shared ones (N×K, N).
  SmallVector<Value> matrices, columns, weights, vectors;

  RankedTensorType typeOf(Value value) {
    return cast<RankedTensorType>(value.getType());
  }
  Type elementOf(Value value) { return getElementTypeOrSelf(value); }
  Value empty(ArrayRef<Size> sizes, Type type) {
    return b.makeEmpty(sizes, type);
  }
  Value filled(ArrayRef<Size> sizes, Type type, double value);
  Value constant(Type type, double value) {
    return arith::ConstantOp::create(builder, loc,
                                     builder.getFloatAttr(type, value));
  }
  void classify(Value argument, Value operand, bool isRows);
  Size sizeOf(Value value, int64_t dim);
  Value castTo(Value value, Type elementType);

  void addStep();
  void addContraction();
  void addUnary();
  void addBinary();
  void addCast();
  void addRowReduction();
  void addColumnReduction();
  void addBroadcast();
  void addExpertIndex();
  void addSlice();
  void addCondition();
};

} // namespace

BodyBuilder::BodyBuilder(RandomBuilder &b, const ExpertOperands &operands)
    : b(b), builder(b.builder), random(b.random), loc(b.loc),
      operands(operands), body(new Block),
      outside(b.builder.saveInsertionPoint()) {
  expert = body->addArgument(builder.getIndexType(), loc);
  auto argumentType = [&](Value value, bool isRows) {
    RankedTensorType type = typeOf(value);
    SmallVector<int64_t> shape(type.getShape().drop_front());
    for (int64_t &size : shape)
      if (random.oneIn(8))
        size = ShapedType::kDynamic;
    if (isRows)
      shape.insert(shape.begin(), ShapedType::kDynamic);
    return type.clone(shape);
  };
  for (Value value : operands.rows)
    body->addArgument(argumentType(value, /*isRows=*/true), loc);
  for (Value value : operands.params)
    body->addArgument(argumentType(value, /*isRows=*/false), loc);

  // A weight that all experts share.
  if (random.oneIn(2))
    weights.push_back(
        b.argument(RankedTensorType::get({4, 4}, b.makeFloatType())));
  builder.setInsertionPointToEnd(body);
  auto rows = body->getArguments().slice(1, operands.rows.size());
  auto params = body->getArguments().drop_front(1 + operands.rows.size());
  if (!rows.empty())
    numRows = tensor::DimOp::create(builder, loc, rows[0], 0);
  for (auto [argument, operand] : llvm::zip(rows, operands.rows))
    classify(argument, operand, /*isRows=*/true);
  for (auto [argument, operand] : llvm::zip(params, operands.params))
    classify(argument, operand, /*isRows=*/false);
}

/// A size as a number where the type tells it.
Size BodyBuilder::sizeOf(Value value, int64_t dim) {
  int64_t size = typeOf(value).getDimSize(dim);
  if (!ShapedType::isDynamic(size))
    return size;
  return tensor::DimOp::create(builder, loc, value, dim).getResult();
}

Value BodyBuilder::filled(ArrayRef<Size> sizes, Type type, double value) {
  return linalg::FillOp::create(builder, loc, constant(type, value),
                                empty(sizes, type))
      .getResult(0);
}

/// Remembers what the argument for `operand` may be used for, with the sizes
/// that the operand's type tells and the argument's may not.
void BodyBuilder::classify(Value argument, Value operand, bool isRows) {
  SmallVector<int64_t> shape(typeOf(operand).getShape());
  shape.erase(shape.begin());
  if (isRows)
    shape.insert(shape.begin(), ShapedType::kDynamic);
  RankedTensorType type = typeOf(argument);
  if (!isa<Float32Type, Float16Type, BFloat16Type>(type.getElementType()))
    return;
  if (type.getShape() != ArrayRef(shape))
    argument =
        tensor::CastOp::create(builder, loc, type.clone(shape), argument);
  if (type.getRank() == 2)
    (isRows ? matrices : weights).push_back(argument);
  if (type.getRank() == 1)
    (isRows ? columns : vectors).push_back(argument);
}

/// The same elements in f32, bf16 or f16.
Value BodyBuilder::castTo(Value value, Type elementType) {
  RankedTensorType type = typeOf(value);
  if (type.getElementType() == elementType)
    return value;
  Type f32 = builder.getF32Type();
  if (type.getElementType() != f32)
    value = arith::ExtFOp::create(builder, loc, type.clone(f32), value);
  if (elementType == f32)
    return value;
  return arith::TruncFOp::create(builder, loc, type.clone(elementType), value);
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

/// rows·W or rows·Wᵀ, whichever fits, summed in a type of its own.
void BodyBuilder::addContraction() {
  Value rows = random.choose(matrices);
  int64_t width = typeOf(rows).getDimSize(1);
  MLIRContext *context = builder.getContext();
  AffineExpr m, n, k;
  bindDims(context, m, n, k);
  for (Value weight : weights) {
    ArrayRef<int64_t> shape = typeOf(weight).getShape();
    bool transposed = shape[1] == width;
    if (ShapedType::isDynamic(width) || (!transposed && shape[0] != width))
      continue;
    // linalg does not cast bf16 to f16.
    bool oneType = elementOf(rows) == elementOf(weight);
    Type sumType =
        oneType && random.oneIn(3) ? elementOf(rows) : builder.getF32Type();
    Value sum =
        filled({numRows, sizeOf(weight, transposed ? 0 : 1)}, sumType, 0);
    SmallVector<AffineMap> maps = {
        AffineMap::get(3, 0, {m, k}, context),
        AffineMap::get(3, 0, transposed ? ArrayRef{n, k} : ArrayRef{k, n},
                       context),
        AffineMap::get(3, 0, {m, n}, context)};
    auto matmul = linalg::MatmulOp::create(
        builder, loc, TypeRange(sum), ValueRange{rows, weight}, ValueRange(sum),
        {builder.getNamedAttr("indexing_maps",
                              builder.getAffineMapArrayAttr(maps))});
    matrices.push_back(matmul.getResult(0));
    return;
  }
}

void BodyBuilder::addUnary() {
  Value x = random.choose(matrices);
  switch (random.pick(6)) {
  case 0:
    x = math::ExpOp::create(builder, loc, x);
    break;
  case 1:
    x = math::TanhOp::create(builder, loc, x);
    break;
  case 2:
    x = math::ErfOp::create(builder, loc, x);
    break;
  case 3:
    x = math::SqrtOp::create(builder, loc,
                             math::AbsFOp::create(builder, loc, x));
    break;
  case 4:
    x = math::RsqrtOp::create(builder, loc, x);
    break;
  default:
    x = arith::NegFOp::create(builder, loc, x);
  }
  matrices.push_back(x);
}

void BodyBuilder::addBinary() {
  Value x = random.choose(matrices), y = random.choose(matrices);
  // Two widths that no type tells may differ.
  if (typeOf(x).getShape() != typeOf(y).getShape() || typeOf(x).isDynamicDim(1))
    y = x;
  y = castTo(y, elementOf(x));
  switch (random.pick(6)) {
  case 0:
    x = arith::AddFOp::create(builder, loc, x, y);
    break;
  case 1:
    x = arith::MulFOp::create(builder, loc, x, y);
    break;
  case 2:
    x = arith::DivFOp::create(builder, loc, x, y);
    break;
  case 3:
    x = arith::MaximumFOp::create(builder, loc, x, y);
    break;
  case 4:
    x = arith::MinNumFOp::create(builder, loc, x, y);
    break;
  default:
    Value isLess =
        arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OLT, x, y);
    x = arith::SelectOp::create(builder, loc, isLess, x, y);
  }
  matrices.push_back(x);
}

void BodyBuilder::addCast() {
  matrices.push_back(castTo(random.choose(matrices), b.makeFloatType()));
}

/// The sum or the maximum of each row, n numbers.
void BodyBuilder::addRowReduction() {
  Value x = random.choose(matrices);
  bool isSum = random.oneIn(2);
  Value init = filled({numRows}, elementOf(x), isSum ? 0 : -1e4);
  auto reduce = linalg::ReduceOp::create(
      builder, loc, x, init, ArrayRef<int64_t>{1},
      [&](OpBuilder &b, Location l, ValueRange args) {
        Value next =
            isSum ? Value(arith::AddFOp::create(b, l, args[0], args[1]))
                  : Value(arith::MaximumFOp::create(b, l, args[0], args[1]));
        linalg::YieldOp::create(b, l, next);
      });
  columns.push_back(reduce.getResult(0));
}

/// The sum over all rows of an expert, as gradients of weights have it.
void BodyBuilder::addColumnReduction() {
  Value x = random.choose(matrices);
  Value init = filled({sizeOf(x, 1)}, elementOf(x), 0);
  auto reduce = linalg::ReduceOp::create(
      builder, loc, x, init, ArrayRef<int64_t>{0},
      [&](OpBuilder &b, Location l, ValueRange args) {
        linalg::YieldOp::create(
            b, l, Value(arith::AddFOp::create(b, l, args[0], args[1])));
      });
  vectors.push_back(reduce.getResult(0));
}

/// A number a row, or a bias of the expert, spread over the rows.
void BodyBuilder::addBroadcast() {
  bool ofRows = !columns.empty() && (vectors.empty() || random.oneIn(2));
  if (!ofRows && vectors.empty())
    return;
  Value from = random.choose(ofRows ? columns : vectors);
  Size width = ofRows ? Size(4) : sizeOf(from, 0);
  auto broadcast = linalg::BroadcastOp::create(
      builder, loc, from, empty({numRows, width}, elementOf(from)),
      ArrayRef<int64_t>{ofRows ? 1 : 0});
  matrices.push_back(broadcast->getResult(0));
}

/// A function of the expert's number.
void BodyBuilder::addExpertIndex() {
  Type f32 = builder.getF32Type();
  Value number = arith::SIToFPOp::create(
      builder, loc, f32,
      arith::IndexCastOp::create(builder, loc, builder.getI32Type(), expert));
  matrices.push_back(
      linalg::FillOp::create(builder, loc, number, empty({numRows, 4}, f32))
          .getResult(0));
}

/// Some of the columns, as of a joint gate and up projection.
void BodyBuilder::addSlice() {
  Value x = random.choose(matrices);
  int64_t width = typeOf(x).getDimSize(1);
  if (width <= 0) // Empty, or not known.
    return;
  int64_t size = random.between(1, width);
  auto attr = [&](int64_t value) -> OpFoldResult {
    return builder.getIndexAttr(value);
  };
  matrices.push_back(tensor::ExtractSliceOp::create(
      builder, loc, x,
      ArrayRef<OpFoldResult>{attr(0), attr(random.between(0, width - size))},
      ArrayRef<OpFoldResult>{numRows, attr(size)},
      ArrayRef<OpFoldResult>{attr(1), attr(1)}));
}

/// One function for the first two experts, another one for the rest.
void BodyBuilder::addCondition() {
  Value x = random.choose(matrices);
  Value isFirst =
      arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, expert,
                            arith::ConstantIndexOp::create(builder, loc, 2));
  auto branch = scf::IfOp::create(
      builder, loc, isFirst,
      [&](OpBuilder &b, Location l) {
        scf::YieldOp::create(b, l, Value(math::ExpOp::create(b, l, x)));
      },
      [&](OpBuilder &b, Location l) { scf::YieldOp::create(b, l, x); });
  matrices.push_back(branch.getResult(0));
}

void BodyBuilder::addStep() {
  switch (random.pick(14)) {
  case 0:
  case 1:
  case 2:
  case 3:
    return addContraction();
  case 4:
  case 5:
    return addUnary();
  case 6:
  case 7:
    return addBinary();
  case 8:
    return addCast();
  case 9:
    return addRowReduction();
  case 10:
    return addColumnReduction();
  case 11:
    return addBroadcast();
  case 12:
    return addExpertIndex();
  default:
    return random.oneIn(2) ? addSlice() : addCondition();
  }
}

void BodyBuilder::build() {
  if (matrices.empty() && numRows)
    addExpertIndex();
  for (uint64_t left = random.pick(8); left > 0 && !matrices.empty(); --left)
    addStep();
}

//===----------------------------------------------------------------------===//
// The op
//===----------------------------------------------------------------------===//

SmallVector<Value> BodyBuilder::finish(const LayerSizes &sizes) {
  SmallVector<Value> yielded, inits;
  builder.restoreInsertionPoint(outside);
  auto yield = [&](Value value, Size outer, bool isRows) {
    SmallVector<int64_t> shape(typeOf(value).getShape().drop_front(isRows));
    yielded.push_back(value);
    if (llvm::any_of(shape, ShapedType::isDynamic)) {
      shape.insert(shape.begin(), outer.number);
      inits.push_back(
          b.argument(RankedTensorType::get(shape, elementOf(value))));
      return;
    }
    SmallVector<Size> sizes = {outer};
    llvm::append_range(sizes, shape);
    inits.push_back(b.makeTensor(sizes, elementOf(value)));
  };
  // The last ones depend on most of the others.
  if (!matrices.empty())
    yield(matrices.back(), sizes.rows, /*isRows=*/true);
  if (!columns.empty() && random.oneIn(2))
    yield(columns.back(), sizes.rows, /*isRows=*/true);
  if (!matrices.empty() && random.oneIn(3))
    yield(random.choose(matrices), sizes.rows, /*isRows=*/true);
  if (!vectors.empty() && random.oneIn(2))
    yield(vectors.back(), sizes.experts, /*isRows=*/false);
  if (!weights.empty() && random.oneIn(6))
    yield(weights.back(), sizes.experts, /*isRows=*/false);

  auto op = ExpertOp::create(builder, loc, TypeRange(inits), operands.offsets,
                             operands.rows, operands.params, inits);
  op.getBody().push_back(body);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToEnd(body);
  YieldOp::create(builder, loc, yielded);
  return op.getResults();
}

SmallVector<Value>
mlir::moe::test::buildRandomExpert(RandomBuilder &b, const LayerSizes &sizes,
                                   const ExpertOperands &operands) {
  BodyBuilder body(b, operands);
  body.build();
  return body.finish(sizes);
}
