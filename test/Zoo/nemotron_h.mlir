// RUN: %python %S/Inputs/make_checkpoint.py %s %t
// RUN: moe-import %t --layer 1 -o - | diff %t/layer.mlir -
// RUN: moe-opt %s --verify-roundtrip | moe-opt --moe-decompose | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering -o /dev/null
// CHECK: func.func @layer
// CHECK-NOT: {{(= |  )moe[.]}}

// Nemotron-H (model_type nemotron_h): the MoE block of layer 1. Written by moe-import.
//
//   x  T×H, hidden states after the norm      H = 40    I = 24 inside an expert
//   y  T×H, what the residual is added to     E = 8 experts, k = 3 of them a token
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
!router = tensor<8x40xbf16>  // E×H
!logits = tensor<?x8xf32>  // T×E
!weights = tensor<?x3xf32>  // T×k
!ids = tensor<?x3xi32>  // T×k
!offsets = tensor<9xi32>  // E+1
!z = tensor<?x32xbf16>  // T×L, M×L: experts work on L = 32 features
!z_sum = tensor<?x32xf32>
!to_latent = tensor<32x40xbf16>
!from_latent = tensor<40x32xbf16>
!bias = tensor<8xf32>  // E
!up = tensor<8x24x32xbf16>  // E×I×L
!down = tensor<8x32x24xbf16>  // E×L×I
!expert_up = tensor<24x32xbf16>
!expert_down = tensor<32x24xbf16>
!expert_inner = tensor<?x24xbf16>  // one expert's rows, within it
!expert_sum = tensor<?x24xf32>
!shared_up = tensor<32x40xbf16>  // S×H
!shared_down = tensor<40x32xbf16>
!shared_inner = tensor<?x32xbf16>
!shared_sum = tensor<?x32xf32>

func.func @layer(
    %x: !x {moe.name = "x"},
    %router: !router {moe.param = "backbone.layers.1.mixer.gate.weight"},
    %bias: !bias {moe.param = "backbone.layers.1.mixer.gate.e_score_correction_bias"},
    %to_latent: !to_latent {moe.param = "backbone.layers.1.mixer.fc1_latent_proj.weight"},
    %from_latent: !from_latent {moe.param = "backbone.layers.1.mixer.fc2_latent_proj.weight"},
    %up: !up {moe.param = "backbone.layers.1.mixer.experts.{expert}.up_proj.weight"},
    %down: !down {moe.param = "backbone.layers.1.mixer.experts.{expert}.down_proj.weight"},
    %shared_up: !shared_up {moe.param = "backbone.layers.1.mixer.shared_experts.up_proj.weight"},
    %shared_down: !shared_down {moe.param = "backbone.layers.1.mixer.shared_experts.down_proj.weight"})
    -> (!x {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %k = arith.constant 3 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %M = arith.muli %T, %k : index
  %nothing = arith.constant 0.0 : bf16

  // Each token chooses k experts. The logits are never rounded, the weights stay in f32; the
  // bias takes part in choosing, but not in the weights.
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, !router) outs(%logits_zero : !logits) -> !logits
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %weights, %ids = moe.gate score(sigmoid)
      groups<count = 4, keep = 2, score = top2_sum>
      renormalize<eps = 1.0e-20 : f32>
      scale(1.0)
      ins(%logits : !logits) bias(%bias : !bias)
      outs(%weights_empty, %ids_empty : !weights, !ids)

  // To fewer features for the experts.
  %z_empty = tensor.empty(%T) : !z_sum
  %z_zero = linalg.fill ins(%zero : f32) outs(%z_empty : !z_sum) -> !z_sum
  %z_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %to_latent : !x, !to_latent) outs(%z_zero : !z_sum) -> !z_sum
  %z = arith.truncf %z_sum : !z_sum to !z

  // One row a choice, sorted by expert.
  %offsets_empty = tensor.empty() : !offsets
  %rows_empty = tensor.empty(%M) : !z
  %offsets, %slots, %rows = moe.dispatch ids(%ids : !ids) tokens(%z : !z)
      outs(%offsets_empty, %ids_empty, %rows_empty : !offsets, !ids, !z)

  // Each expert works on its rows: down(relu(up(x))²).
  %results = moe.expert offsets(%offsets : !offsets) rows(%rows : !z)
      params(%up, %down : !up, !down) outs(%rows_empty : !z) {
  ^bb0(%expert: index, %ze: !z, %expert_up: !expert_up, %expert_down: !expert_down):
    %n = tensor.dim %ze, %c0 : !z
    %inner_empty = tensor.empty(%n) : !expert_sum
    %inner_zero = linalg.fill ins(%zero : f32) outs(%inner_empty : !expert_sum) -> !expert_sum
    %h = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%ze, %expert_up : !z, !expert_up) outs(%inner_zero : !expert_sum) -> !expert_sum
    %p_empty = tensor.empty(%n) : !expert_inner
    %p = linalg.map ins(%h : !expert_sum) outs(%p_empty : !expert_inner)
      (%v_sum: f32, %init: bf16) {
        %v = arith.truncf %v_sum : f32 to bf16
        %positive = arith.maximumf %v, %nothing : bf16
        %square = arith.mulf %positive, %positive : bf16
        linalg.yield %square : bf16
      }
    %d_empty = tensor.empty(%n) : !z_sum
    %d_zero = linalg.fill ins(%zero : f32) outs(%d_empty : !z_sum) -> !z_sum
    %d_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%p, %expert_down : !expert_inner, !expert_down) outs(%d_zero : !z_sum) -> !z_sum
    %d = arith.truncf %d_sum : !z_sum to !z
    moe.yield %d : !z
  }

  // The results of a token's experts, weighted and added.
  %sum_empty = tensor.empty(%T) : !z
  %latent_sum = moe.combine rows(%results : !z) slots(%slots : !ids) weights(%weights : !weights)
      outs(%sum_empty : !z)
  %routed_empty = tensor.empty(%T) : !x_sum
  %routed_zero = linalg.fill ins(%zero : f32) outs(%routed_empty : !x_sum) -> !x_sum
  %routed_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%latent_sum, %from_latent : !z, !from_latent) outs(%routed_zero : !x_sum) -> !x_sum
  %routed = arith.truncf %routed_sum : !x_sum to !x

  // The shared expert sees every token.
  %inner_empty = tensor.empty(%T) : !shared_sum
  %inner_zero = linalg.fill ins(%zero : f32) outs(%inner_empty : !shared_sum) -> !shared_sum
  %h = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %shared_up : !x, !shared_up) outs(%inner_zero : !shared_sum) -> !shared_sum
  %p_empty = tensor.empty(%T) : !shared_inner
  %p = linalg.map ins(%h : !shared_sum) outs(%p_empty : !shared_inner)
    (%v_sum: f32, %init: bf16) {
      %v = arith.truncf %v_sum : f32 to bf16
      %positive = arith.maximumf %v, %nothing : bf16
      %square = arith.mulf %positive, %positive : bf16
      linalg.yield %square : bf16
    }
  %d_empty = tensor.empty(%T) : !x_sum
  %d_zero = linalg.fill ins(%zero : f32) outs(%d_empty : !x_sum) -> !x_sum
  %d_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%p, %shared_down : !shared_inner, !shared_down) outs(%d_zero : !x_sum) -> !x_sum
  %d = arith.truncf %d_sum : !x_sum to !x
  %y = arith.addf %routed, %d : !x
  return %y : !x
}
