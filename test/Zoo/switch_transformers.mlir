// RUN: %python %S/Inputs/make_checkpoint.py %s %t
// RUN: moe-import %t --layer 1 -o - | diff %t/layer.mlir -
// RUN: moe-opt %s --verify-roundtrip | moe-opt --moe-decompose | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering -o /dev/null
// CHECK: func.func @layer
// CHECK-NOT: {{(= |  )moe[.]}}

// Switch Transformers (model_type switch_transformers): the MoE block of layer 1. Written by moe-import.
//
//   x  T×H, hidden states after the norm      H = 40    I = 24 inside an expert
//   y  T×H, what the residual is added to     E = 8 experts, k = 1 of them a token
//
// It rounds to bf16 wherever the model does, but in one place: moe.combine adds the k rows of
// a token in f32, in the order of the experts, and rounds once. A framework may add in another
// order, and may round each partial sum.

// A linear layer: out = in · weightᵀ, with the weight as [out, in].
#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>

!x = tensor<?x40xbf16>  // T×H, and M×H with a row for each of the M = T·k choices
!x_sum = tensor<?x40xf32>
!router = tensor<8x40xf32>  // E×H
!logits = tensor<?x8xf32>  // T×E
!weights = tensor<?x1xf32>  // T×k
!ids = tensor<?x1xi32>  // T×k
!offsets = tensor<9xi32>  // E+1
!wi = tensor<8x24x40xbf16>  // E×I×H
!wo = tensor<8x40x24xbf16>  // E×H×I
!expert_wi = tensor<24x40xbf16>
!expert_down = tensor<40x24xbf16>
!expert_inner = tensor<?x24xbf16>  // one expert's rows, within it
!expert_sum = tensor<?x24xf32>

// x is one sequence: an expert takes at most 6 of its tokens, the first ones.
func.func @layer(
    %x: !x {moe.name = "x"},
    %router: !router {moe.param = "encoder.block.1.layer.1.mlp.router.classifier.weight"},
    %wi: !wi {moe.param = "encoder.block.1.layer.1.mlp.experts.expert_{expert}.wi.weight"},
    %wo: !wo {moe.param = "encoder.block.1.layer.1.mlp.experts.expert_{expert}.wo.weight"})
    -> (!x {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %k = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %M = arith.muli %T, %k : index
  %capacity = arith.constant 6 : index

  // Each token chooses an expert. The logits are never rounded, the weight is.
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, !router) outs(%logits_zero : !logits) -> !logits
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %weights_f32, %ids = moe.gate score(softmax)
      ins(%logits : !logits) outs(%weights_empty, %ids_empty : !weights, !ids)
  %weights_bf16 = arith.truncf %weights_f32 : !weights to tensor<?x1xbf16>
  %weights = arith.extf %weights_bf16 : tensor<?x1xbf16> to !weights

  // One row a choice, sorted by expert; what an expert has no room for has no row.
  %offsets_empty = tensor.empty() : !offsets
  %rows_empty = tensor.empty(%M) : !x
  %offsets, %slots, %rows = moe.dispatch ids(%ids : !ids) tokens(%x : !x) capacity(%capacity)
      outs(%offsets_empty, %ids_empty, %rows_empty : !offsets, !ids, !x)

  // Each expert works on its rows: wo(relu(wi(x))).
  %results = moe.expert offsets(%offsets : !offsets) rows(%rows : !x)
      params(%wi, %wo : !wi, !wo) outs(%rows_empty : !x) {
  ^bb0(%expert: index, %xe: !x, %expert_wi: !expert_wi, %expert_down: !expert_down):
    %n = tensor.dim %xe, %c0 : !x
    %inner_empty = tensor.empty(%n) : !expert_sum
    %inner_zero = linalg.fill ins(%zero : f32) outs(%inner_empty : !expert_sum) -> !expert_sum
    %h = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %expert_wi : !x, !expert_wi) outs(%inner_zero : !expert_sum) -> !expert_sum
    %p_sum = arith.maximumf %h, %inner_zero : !expert_sum
    %p = arith.truncf %p_sum : !expert_sum to !expert_inner
    %d_empty = tensor.empty(%n) : !x_sum
    %d_zero = linalg.fill ins(%zero : f32) outs(%d_empty : !x_sum) -> !x_sum
    %d_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%p, %expert_down : !expert_inner, !expert_down) outs(%d_zero : !x_sum) -> !x_sum
    %d = arith.truncf %d_sum : !x_sum to !x
    moe.yield %d : !x
  }

  // The results of a token's experts, weighted and added.
  %y_empty = tensor.empty(%T) : !x
  %y = moe.combine rows(%results : !x) slots(%slots : !ids) weights(%weights : !weights)
      outs(%y_empty : !x)
  return %y : !x
}
