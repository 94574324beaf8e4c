//===- LayerBuilder.cpp - A whole MoE layer in one call ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Utils/LayerBuilder.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Diagnostics.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

namespace {
/// Checks operands against the sizes T, H, E, I that they share.
class SpecChecker {
public:
  SpecChecker(Location loc) : loc(loc) {}

  /// `dims` has a letter for each dimension of `value`; a null `elementType`
  /// stands for f32, f16 or bf16.
  LogicalResult check(StringRef name, Value value, StringRef dims,
                      Type elementType) {
    auto type = value ? dyn_cast<RankedTensorType>(value.getType()) : nullptr;
    if (!type || type.getRank() != static_cast<int64_t>(dims.size()) ||
        !hasElementType(type, elementType))
      return complain(name, value, dims, elementType);
    for (auto [letter, size] : llvm::zip(dims, type.getShape())) {
      auto [it, isNew] = sizes.try_emplace(letter, size, name);
      auto &[known, owner] = it->second;
      if (ShapedType::isDynamic(known))
        it->second = {size, name};
      else if (!ShapedType::isDynamic(size) && size != known)
        return emitError(loc)
               << "layer: '" << name << "' has " << letter << " = " << size
               << ", but '" << owner << "' has " << letter << " = " << known;
    }
    return success();
  }

  LogicalResult checkTopK(int64_t topK) {
    int64_t numExperts = sizes.at('E').first;
    if (topK >= 1 && (ShapedType::isDynamic(numExperts) || topK <= numExperts))
      return success();
    InFlightDiagnostic diag = emitError(loc)
                              << "layer: topK = " << topK
                              << " must be between 1 and the number of experts";
    if (!ShapedType::isDynamic(numExperts))
      diag << ", " << numExperts;
    return diag;
  }

private:
  static bool hasElementType(RankedTensorType type, Type elementType) {
    Type own = type.getElementType();
    return elementType ? own == elementType
                       : own.isF32() || own.isF16() || own.isBF16();
  }

  LogicalResult complain(StringRef name, Value value, StringRef dims,
                         Type elementType) {
    InFlightDiagnostic diag = emitError(loc)
                              << "layer: '" << name << "' must be a tensor ";
    llvm::interleave(
        dims, [&](char letter) { diag << Twine(letter); },
        [&] { diag << "×"; });
    if (elementType)
      diag << " of " << elementType;
    else
      diag << " of f32, f16 or bf16";
    if (value)
      return diag << ", got " << value.getType();
    return diag << ", but is missing";
  }

  Location loc;
  /// Size by letter, and the operand that it is from.
  llvm::SmallDenseMap<char, std::pair<int64_t, StringRef>> sizes;
};
} // namespace

static LogicalResult checkSpec(Location loc, const LayerSpec &spec) {
  SpecChecker checker(loc);
  if (failed(checker.check("x", spec.x, "TH", /*elementType=*/{})))
    return failure();
  Type type = cast<RankedTensorType>(spec.x.getType()).getElementType();
  Type f32 = Float32Type::get(loc.getContext());
  if (failed(checker.check("router", spec.router, "EH", type)) ||
      failed(checker.check("gateProj", spec.gateProj, "EIH", type)) ||
      (spec.upProj &&
       failed(checker.check("upProj", spec.upProj, "EIH", type))) ||
      failed(checker.check("downProj", spec.downProj, "EHI", type)) ||
      (spec.bias && failed(checker.check("bias", spec.bias, "E", f32))) ||
      (spec.base &&
       failed(checker.check("base", spec.base, "TH", /*elementType=*/{}))))
    return failure();
  return checker.checkTopK(spec.topK);
}

//===----------------------------------------------------------------------===//
// Steps of the layer
//===----------------------------------------------------------------------===//

namespace {
class LayerBuilder {
public:
  LayerBuilder(OpBuilder &builder, Location loc, const LayerSpec &spec,
               ActivationBuilder activation)
      : b(builder), loc(loc), spec(spec), activation(activation),
        type(cast<RankedTensorType>(spec.x.getType()).getElementType()),
        isNarrow(!type.isF32()), f32(b.getF32Type()),
        numTokens(size(spec.x, 0)), width(size(spec.x, 1)),
        topK(b.getIndexAttr(spec.topK)) {}

  Value build() {
    GateOp gate = buildGate(buildLogits());
    bool inBody = spec.weightedIn == WeightedIn::Body;
    Value weights = gate.getResult(0);
    SmallVector<Value> choices;
    if (inBody)
      choices.push_back(round(weights));
    DispatchOp dispatch = buildDispatch(gate.getResult(1), choices);
    Value rows = buildExperts(dispatch);
    if (inBody)
      weights = fill(1.0f, {numTokens, topK});
    return CombineOp::create(b, loc, rows, dispatch.getResult(1), weights,
                             spec.base)
        .getResult(0);
  }

private:
  OpFoldResult size(Value tensor, int64_t dim) {
    return tensor::getMixedSize(b, loc, tensor, dim);
  }
  Value empty(ArrayRef<OpFoldResult> sizes, Type elementType) {
    return tensor::EmptyOp::create(b, loc, sizes, elementType);
  }
  /// An f32 tensor full of `value`.
  Value fill(float value, ArrayRef<OpFoldResult> sizes) {
    Value scalar = arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
    return linalg::FillOp::create(b, loc, scalar, empty(sizes, f32))
        .getResult(0);
  }
  /// in·matrixᵀ, summed in f32.
  Value linear(Value in, Value matrix) {
    Value zero = fill(0.0f, {size(in, 0), size(matrix, 0)});
    return linalg::MatmulTransposeBOp::create(b, loc, ValueRange{in, matrix},
                                              ValueRange{zero})
        .getResult(0);
  }
  /// `value`, a scalar or tensor of f32, as the layer's element type.
  Value round(Value value) {
    if (!isNarrow)
      return value;
    Type target = type;
    if (auto tensor = dyn_cast<RankedTensorType>(value.getType()))
      target = tensor.clone(type);
    return arith::TruncFOp::create(b, loc, target, value);
  }

  Value buildLogits() {
    Value logits = linear(spec.x, spec.router);
    if (!spec.roundLogits || !isNarrow)
      return logits;
    return arith::ExtFOp::create(b, loc, logits.getType(), round(logits));
  }

  GateOp buildGate(Value logits) {
    SmallVector<OpFoldResult> sizes = {numTokens, topK};
    SmallVector<Value> inits = {empty(sizes, f32),
                                empty(sizes, b.getI32Type())};
    return GateOp::create(b, loc, TypeRange(inits), logits, spec.bias,
                          /*mix=*/Value(), inits, spec.score, spec.selectOn,
                          spec.softmaxScope, spec.groups, spec.renormalize,
                          APFloat(spec.scale));
  }

  /// `expr` of the one symbol s0 = `value`.
  OpFoldResult apply(AffineExpr expr, OpFoldResult value) {
    return affine::makeComposedFoldedAffineApply(b, loc, expr, {value});
  }

  /// T·k rows for the tokens, and for the choices if there are any.
  DispatchOp buildDispatch(Value ids, ArrayRef<Value> choices) {
    AffineExpr symbol = b.getAffineSymbolExpr(0);
    OpFoldResult numRows = apply(symbol * spec.topK, numTokens);
    OpFoldResult numOffsets = apply(symbol + 1, size(spec.router, 0));
    Type i32 = b.getI32Type();
    SmallVector<Value> inits = {empty({numOffsets}, i32),
                                empty({numTokens, topK}, i32),
                                empty({numRows, width}, type)};
    for (unsigned i = 0; i < choices.size(); ++i)
      inits.push_back(empty({numRows}, type));
    return DispatchOp::create(b, loc, TypeRange(inits), ids, spec.x, choices,
                              /*capacity=*/Value(), /*priority=*/Value(),
                              /*tokens_per_group=*/Value(), inits,
                              CapacityOrder::TokenMajor, /*in_bounds=*/false);
  }

  Value buildExperts(DispatchOp dispatch) {
    SmallVector<Value> params = {spec.gateProj};
    if (spec.upProj)
      params.push_back(spec.upProj);
    params.push_back(spec.downProj);
    auto body = [&](OpBuilder &, Location, Value, ValueRange rows,
                    ValueRange args) -> SmallVector<Value> {
      Value gate = linear(rows[0], args.front());
      Value up = spec.upProj ? linear(rows[0], args[1]) : Value();
      Value out = round(linear(buildActivation(gate, up), args.back()));
      return {rows.size() == 2 ? multiplyByWeights(out, rows[1]) : out};
    };
    return ExpertOp::create(b, loc, dispatch.getResult(0),
                            dispatch.getResults().drop_front(2), params,
                            dispatch.getRowInits().take_front(1), body)
        .getResult(0);
  }

  /// The activation of the rounded sums, element by element. `up` may be null.
  Value buildActivation(Value gate, Value up) {
    SmallVector<Value> inputs = {gate};
    if (up)
      inputs.push_back(up);
    Value init = empty(tensor::getMixedSizes(b, loc, gate), type);
    return linalg::MapOp::create(
               b, loc, inputs, init,
               [&](OpBuilder &nested, Location nestedLoc, ValueRange args) {
                 Value g = round(args[0]);
                 Value u = up ? round(args[1]) : Value();
                 linalg::YieldOp::create(nested, nestedLoc,
                                         activation(nested, nestedLoc, g, u));
               })
        .getResult()[0];
  }

  Value multiplyByWeights(Value rows, Value weights) {
    Value init = empty(tensor::getMixedSizes(b, loc, rows), type);
    Value wide =
        linalg::BroadcastOp::create(b, loc, weights, init, ArrayRef<int64_t>{1})
            .getResult()[0];
    return arith::MulFOp::create(b, loc, rows, wide);
  }

  OpBuilder &b;
  Location loc;
  const LayerSpec &spec;
  ActivationBuilder activation;
  Type type;
  bool isNarrow;
  Type f32;
  OpFoldResult numTokens, width, topK;
};
} // namespace

FailureOr<Value> mlir::moe::buildLayer(OpBuilder &builder, Location loc,
                                       const LayerSpec &spec,
                                       ActivationBuilder activation) {
  if (failed(checkSpec(loc, spec)))
    return failure();
  return LayerBuilder(builder, loc, spec, activation).build();
}
