// RUN: %python %S/Inputs/make_checkpoint.py %s %t
// RUN: moe-import %t --layer 1 -o - | diff %t/layer.mlir -
// RUN: moe-opt %s --verify-roundtrip | moe-opt --moe-decompose | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering -o /dev/null
// CHECK: func.func @layer
// CHECK-NOT: {{(= |  )moe[.]}}

// gpt-oss (model_type gpt_oss): the MoE block of layer 1. Written by moe-import.
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

// The weights of the experts are stored as [in, out].
#weight_t = affine_map<(m, n, k) -> (k, n)>

#same = affine_map<(m, n) -> (m, n)>
#row = affine_map<(m, n) -> (m)>
#row_1 = affine_map<(m, n) -> (m, 0)>
#column = affine_map<(m, n) -> (n)>

!x = tensor<?x40xbf16>  // T×H, and M×H with a row for each of the M = T·k choices
!x_sum = tensor<?x40xf32>
!router = tensor<8x40xbf16>  // E×H
!logits = tensor<?x8xf32>  // T×E
!weights = tensor<?x3xf32>  // T×k
!ids = tensor<?x3xi32>  // T×k
!offsets = tensor<9xi32>  // E+1
!choice_weights = tensor<?x3xbf16>  // T×k
!row_weights = tensor<?xbf16>  // M
!gate_up = tensor<8x40x48xbf16>  // E×H×2I
!down = tensor<8x24x40xbf16>  // E×I×H
!expert_gate_up = tensor<40x48xbf16>
!expert_gate = tensor<40x24xbf16>
!expert_down = tensor<24x40xbf16>
!expert_inner = tensor<?x24xbf16>  // one expert's rows, within it
!expert_sum = tensor<?x24xf32>
!router_bias = tensor<8xbf16>  // E
!gate_up_bias = tensor<8x48xbf16>  // E×2I
!down_bias = tensor<8x40xbf16>  // E×H
!both_bias = tensor<48xbf16>  // one expert's
!inner_bias = tensor<24xbf16>
!out_bias = tensor<40xbf16>

func.func @layer(
    %x: !x {moe.name = "x"},
    %router: !router {moe.param = "model.layers.1.mlp.router.weight"},
    %router_bias: !router_bias {moe.param = "model.layers.1.mlp.router.bias"},
    %gate_up: !gate_up {moe.param = "model.layers.1.mlp.experts.gate_up_proj"},
    %gate_up_bias: !gate_up_bias {moe.param = "model.layers.1.mlp.experts.gate_up_proj_bias"},
    %down: !down {moe.param = "model.layers.1.mlp.experts.down_proj"},
    %down_bias: !down_bias {moe.param = "model.layers.1.mlp.experts.down_proj_bias"})
    -> (!x {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %k = arith.constant 3 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %M = arith.muli %T, %k : index

  // Each token chooses k experts, by logit; the softmax is over these k.
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %products = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, !router) outs(%logits_zero : !logits) -> !logits
  %logits = linalg.generic {indexing_maps = [#same, #column, #same],
                            iterator_types = ["parallel", "parallel"]}
      ins(%products, %router_bias : !logits, !router_bias) outs(%logits_empty : !logits) {
  ^bb0(%product: f32, %b_bf16: bf16, %init: f32):
    %b = arith.extf %b_bf16 : bf16 to f32
    %logit_sum = arith.addf %product, %b : f32
    %logit_bf16 = arith.truncf %logit_sum : f32 to bf16
    %logit = arith.extf %logit_bf16 : bf16 to f32
    linalg.yield %logit : f32
  } -> !logits
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %weights_f32, %ids = moe.gate score(softmax) scope(selected)
      ins(%logits : !logits) outs(%weights_empty, %ids_empty : !weights, !ids)
  %weights = arith.truncf %weights_f32 : !weights to !choice_weights

  // One row a choice, sorted by expert: the token, and the weight of the choice.
  %offsets_empty = tensor.empty() : !offsets
  %rows_empty = tensor.empty(%M) : !x
  %row_weights_empty = tensor.empty(%M) : !row_weights
  %offsets, %slots, %rows, %row_weights = moe.dispatch ids(%ids : !ids)
      tokens(%x : !x) choices(%weights : !choice_weights)
      outs(%offsets_empty, %ids_empty, %rows_empty, %row_weights_empty
           : !offsets, !ids, !x, !row_weights)

  // Each expert works on its rows, as below, and multiplies them by their weights.
  %alpha = arith.constant 1.702 : f32
  %limit = arith.constant 1.5 : bf16
  %minus_limit = arith.negf %limit : bf16
  %unit = arith.constant 1.0 : bf16
  %results = moe.expert offsets(%offsets : !offsets) rows(%rows, %row_weights : !x, !row_weights)
      params(%gate_up, %gate_up_bias, %down, %down_bias
             : !gate_up, !gate_up_bias, !down, !down_bias)
      outs(%rows_empty : !x) {
  ^bb0(%expert: index, %xe: !x, %we: !row_weights, %expert_gate_up: !expert_gate_up,
       %both_bias: !both_bias, %expert_down: !expert_down, %out_bias: !out_bias):
    %n = tensor.dim %xe, %c0 : !x
    // Gate and up are interleaved: even columns, odd columns.
    %expert_gate = tensor.extract_slice %expert_gate_up[0, 0] [40, 24] [1, 2]
        : !expert_gate_up to !expert_gate
    %expert_up = tensor.extract_slice %expert_gate_up[0, 1] [40, 24] [1, 2]
        : !expert_gate_up to !expert_gate
    %gate_bias = tensor.extract_slice %both_bias[0] [24] [2] : !both_bias to !inner_bias
    %up_bias = tensor.extract_slice %both_bias[1] [24] [2] : !both_bias to !inner_bias
    %inner_empty = tensor.empty(%n) : !expert_sum
    %inner_zero = linalg.fill ins(%zero : f32) outs(%inner_empty : !expert_sum) -> !expert_sum
    %g = linalg.matmul indexing_maps = [#in, #weight_t, #out]
        ins(%xe, %expert_gate : !x, !expert_gate) outs(%inner_zero : !expert_sum) -> !expert_sum
    %u = linalg.matmul indexing_maps = [#in, #weight_t, #out]
        ins(%xe, %expert_up : !x, !expert_gate) outs(%inner_zero : !expert_sum) -> !expert_sum

    // p = (u' + 1) * g' * sigmoid(alpha * g'), with g' = min(g + bias, limit) and
    // u' = clamp(u + bias, -limit, limit).
    %p_empty = tensor.empty(%n) : !expert_inner
    %p = linalg.generic {indexing_maps = [#same, #same, #column, #column, #same],
                         iterator_types = ["parallel", "parallel"]}
        ins(%g, %u, %gate_bias, %up_bias : !expert_sum, !expert_sum, !inner_bias, !inner_bias)
        outs(%p_empty : !expert_inner) {
    ^bb0(%g0_sum: f32, %u0_sum: f32,
         %bg: bf16, %bu: bf16, %init: bf16):
      %g0 = arith.truncf %g0_sum : f32 to bf16
      %u0 = arith.truncf %u0_sum : f32 to bf16
      %g1 = arith.addf %g0, %bg : bf16
      %u1 = arith.addf %u0, %bu : bf16
      %g2 = arith.minimumf %g1, %limit : bf16
      %u2 = arith.minimumf %u1, %limit : bf16
      %u3 = arith.maximumf %u2, %minus_limit : bf16
      %g2_f32 = arith.extf %g2 : bf16 to f32
      %v_sum = arith.mulf %g2_f32, %alpha : f32
      %v_bf16 = arith.truncf %v_sum : f32 to bf16
      %v = arith.extf %v_bf16 : bf16 to f32
      %minus_v = arith.negf %v : f32
      %exp = math.exp %minus_v : f32
      %denominator = arith.addf %one, %exp : f32
      %sigmoid_f32 = arith.divf %one, %denominator : f32
      %sigmoid = arith.truncf %sigmoid_f32 : f32 to bf16
      %glu = arith.mulf %g2, %sigmoid : bf16
      %u4 = arith.addf %u3, %unit : bf16
      %product = arith.mulf %u4, %glu : bf16
      linalg.yield %product : bf16
    } -> !expert_inner

    // q = (p · down + bias) * weight of the row.
    %d_empty = tensor.empty(%n) : !x_sum
    %d_zero = linalg.fill ins(%zero : f32) outs(%d_empty : !x_sum) -> !x_sum
    %d = linalg.matmul indexing_maps = [#in, #weight_t, #out]
        ins(%p, %expert_down : !expert_inner, !expert_down) outs(%d_zero : !x_sum) -> !x_sum
    %q_empty = tensor.empty(%n) : !x
    %q = linalg.generic {indexing_maps = [#same, #column, #row, #same],
                         iterator_types = ["parallel", "parallel"]}
        ins(%d, %out_bias, %we : !x_sum, !out_bias, !row_weights) outs(%q_empty : !x) {
    ^bb0(%d0_sum: f32, %b: bf16, %w: bf16, %init: bf16):
      %d0 = arith.truncf %d0_sum : f32 to bf16
      %d1 = arith.addf %d0, %b : bf16
      %weighted = arith.mulf %d1, %w : bf16
      linalg.yield %weighted : bf16
    } -> !x
    moe.yield %q : !x
  }

  // The rows have their weights already, so each counts once.
  %ones = linalg.fill ins(%one : f32) outs(%weights_empty : !weights) -> !weights
  %y_empty = tensor.empty(%T) : !x
  %y = moe.combine rows(%results : !x) slots(%slots : !ids) weights(%ones : !weights)
      outs(%y_empty : !x)
  return %y : !x
}
