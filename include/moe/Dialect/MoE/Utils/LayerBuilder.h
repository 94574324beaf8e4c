//===- LayerBuilder.h - A whole MoE layer in one call -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// For frontends that have a layer as an object rather than as IR: one call
// builds router, gate, dispatch, experts and combine, as moe-import writes
// them. A layer of another form is built from the ops themselves; that is not
// much longer (docs/Tutorials).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_LAYERBUILDER_H
#define MOE_DIALECT_MOE_UTILS_LAYERBUILDER_H

#include "mlir/IR/Builders.h"
#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// What an expert does between its matmuls, on scalars of the layer's element
/// type: `gate` and `up` are elements of x·gateProjᵀ and x·upProjᵀ, rounded;
/// `up` is null in a layer without `upProj`. Returns a value of the same type.
/// May be called more than once.
using ActivationBuilder =
    function_ref<Value(OpBuilder &, Location, Value gate, Value up)>;

/// Ready activations: f(gate) · up, or f(gate) without an up projection. f is
/// computed in f32 and rounded once to the element type, and so is the product:
/// what the frameworks do.
///   silu      x / (1 + exp(−x))
///   gelu      x/2 · (1 + erf(x / √2))
///   geluTanh  x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
///   relu      max(x, 0); NaN stays
///   relu2     max(x, 0)²
Value buildSilu(OpBuilder &builder, Location loc, Value gate, Value up);
Value buildGelu(OpBuilder &builder, Location loc, Value gate, Value up);
Value buildGeluTanh(OpBuilder &builder, Location loc, Value gate, Value up);
Value buildRelu(OpBuilder &builder, Location loc, Value gate, Value up);
Value buildRelu2(OpBuilder &builder, Location loc, Value gate, Value up);

/// Where the weights of the gate are multiplied, which is where they round.
enum class WeightedIn {
  /// In f32, in the sum of combine: Mixtral, DeepSeek-V3.
  Combine,
  /// In the body: the weight is rounded to the element type, and so is each
  /// product; combine adds with weights of 1. OLMoE, Qwen3-MoE.
  Body,
};

/// A layer of T tokens of width H, with E experts of inner width I, k of them a
/// token. All tensors but `bias` and `base` have one element type, f32, f16 or
/// bf16; matrices are [out, in] as checkpoints store them. Any size but k may
/// be dynamic.
struct LayerSpec {
  /// Hidden states T×H.
  Value x;
  /// Router E×H.
  Value router;
  /// Projections of the experts: E×I×H, E×I×H, E×H×I. Without `upProj` an
  /// expert is down(activation(gate(x))).
  Value gateProj, upProj, downProj;
  /// What is added to the scores for choosing, but not for weighting: E, f32.
  /// Optional.
  Value bias;
  /// What combine adds before its one rounding, such as a residual: T×H, f32,
  /// f16 or bf16. Optional. (A model that rounds the routed sum before it adds
  /// its shared experts, like DeepSeek-V3, adds them to the layer's result.)
  Value base;

  /// The gate; see moe.gate.
  int64_t topK = 1;
  Score score = Score::Softmax;
  SelectOn selectOn = SelectOn::Scores;
  SoftmaxScope softmaxScope = SoftmaxScope::All;
  GroupsAttr groups = {};
  RenormalizeAttr renormalize = {};
  float scale = 1.0f;

  /// Whether the logits are rounded to the element type, as those of a linear
  /// layer are, or stay in f32.
  bool roundLogits = true;
  WeightedIn weightedIn = WeightedIn::Combine;
};

/// Builds the layer at the insertion point and returns y, T×H of the element
/// type of x. Rounding is strict: every matmul sums in f32 and rounds once to
/// the element type; every step between is rounded to it. Fails with an error
/// at `loc`, and builds nothing, where the operands of `spec` do not fit. The
/// dialects affine, arith, linalg, math, moe and tensor must be loaded
/// (registerAllDialects has them).
FailureOr<Value> buildLayer(OpBuilder &builder, Location loc,
                            const LayerSpec &spec,
                            ActivationBuilder activation = buildSilu);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_LAYERBUILDER_H
