// RUN: %python %S/Inputs/make_checkpoint.py %s %t
// RUN: moe-import %t --layer 1 -o - | diff %t/layer.mlir -
// RUN: moe-opt %s --verify-roundtrip | moe-opt --moe-decompose | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering -o /dev/null
// CHECK: func.func @layer
// CHECK-NOT: {{(= |  )moe[.]}}

// Gemma 4 (model_type gemma4_text): the MoE block of layer 1. Written by moe-import.
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
!gate = tensor<8x24x40xbf16>  // E×I×H, also of up
!down = tensor<8x40x24xbf16>  // E×H×I
!expert_gate = tensor<24x40xbf16>
!expert_down = tensor<40x24xbf16>
!expert_inner = tensor<?x24xbf16>  // one expert's rows, within it
!expert_sum = tensor<?x24xf32>
!gate_up = tensor<8x48x40xbf16>  // E×2I×H
!expert_gate_up = tensor<48x40xbf16>
!squares = tensor<?xf32>  // T
!scale = tensor<40xbf16>  // H
!expert_scale = tensor<8xbf16>  // E

func.func @layer(
    %x: !x {moe.name = "x"},
    %router_scale: !scale {moe.param = "model.layers.1.router.scale"},
    %router: !router {moe.param = "model.layers.1.router.proj.weight"},
    %expert_scale: !expert_scale {moe.param = "model.layers.1.router.per_expert_scale"},
    %norm_before: !scale {moe.param = "model.layers.1.pre_feedforward_layernorm_2.weight"},
    %gate_up: !gate_up {moe.param = "model.layers.1.experts.gate_up_proj"},
    %down: !down {moe.param = "model.layers.1.experts.down_proj"},
    %norm_after: !scale {moe.param = "model.layers.1.post_feedforward_layernorm_2.weight"})
    -> (!x {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %k = arith.constant 3 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %M = arith.muli %T, %k : index
  %width = arith.constant 40.0 : f32
  %inverse_root = math.rsqrt %width : f32
  %norm_eps = arith.constant 1.0e-06 : f32
  %squares_empty = tensor.empty(%T) : !squares
  %squares_zero = linalg.fill ins(%zero : f32) outs(%squares_empty : !squares) -> !squares

  // Each token chooses k experts.
  %h_squares = linalg.generic {indexing_maps = [#same, #row],
      iterator_types = ["parallel", "reduction"]}
      ins(%x : !x) outs(%squares_zero : !squares) {
  ^bb0(%v_bf16: bf16, %sum: f32):
    %v = arith.extf %v_bf16 : bf16 to f32
    %square = arith.mulf %v, %v : f32
    %next = arith.addf %sum, %square : f32
    linalg.yield %next : f32
  } -> !squares
  %h_empty = tensor.empty(%T) : !x
  %h = linalg.generic {indexing_maps = [#same, #row, #column, #same],
      iterator_types = ["parallel", "parallel"]}
      ins(%x, %h_squares, %router_scale : !x, !squares, !scale) outs(%h_empty : !x) {
  ^bb0(%v_bf16: bf16, %sum: f32, %s_bf16: bf16, %init: bf16):
    %v = arith.extf %v_bf16 : bf16 to f32
    %s = arith.extf %s_bf16 : bf16 to f32
    %mean = arith.divf %sum, %width : f32
    %size = arith.addf %mean, %norm_eps : f32
    %inverse = math.rsqrt %size : f32
    %unit = arith.mulf %v, %inverse : f32
    // The router's norm: rounded before its weight, and after; then 1/sqrt(H).
    %unit_bf16 = arith.truncf %unit : f32 to bf16
    %scaled_bf16 = arith.mulf %unit_bf16, %s_bf16 : bf16
    %scaled = arith.extf %scaled_bf16 : bf16 to f32
    %result_f32 = arith.mulf %scaled, %inverse_root : f32
    %result = arith.truncf %result_f32 : f32 to bf16
    linalg.yield %result : bf16
  } -> !x
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%h, %router : !x, !router) outs(%logits_zero : !logits) -> !logits
  %logits_bf16 = arith.truncf %logits_sum : !logits to tensor<?x8xbf16>
  %logits = arith.extf %logits_bf16 : tensor<?x8xbf16> to !logits
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %shares, %ids = moe.gate score(softmax) renormalize<>
      ins(%logits : !logits) outs(%weights_empty, %ids_empty : !weights, !ids)

  // An expert has a scale.
  %weights = linalg.generic {indexing_maps = [#same, #same, #same],
                             iterator_types = ["parallel", "parallel"]}
      ins(%shares, %ids : !weights, !ids) outs(%weights_empty : !weights) {
  ^bb0(%share: f32, %id: i32, %init: f32):
    %e = arith.index_cast %id : i32 to index
    %s_bf16 = tensor.extract %expert_scale[%e] : !expert_scale
    %s = arith.extf %s_bf16 : bf16 to f32
    %weight = arith.mulf %share, %s : f32
    linalg.yield %weight : f32
  } -> !weights

  // One row a choice, sorted by expert.
  %z_squares = linalg.generic {indexing_maps = [#same, #row],
      iterator_types = ["parallel", "reduction"]}
      ins(%x : !x) outs(%squares_zero : !squares) {
  ^bb0(%v_bf16: bf16, %sum: f32):
    %v = arith.extf %v_bf16 : bf16 to f32
    %square = arith.mulf %v, %v : f32
    %next = arith.addf %sum, %square : f32
    linalg.yield %next : f32
  } -> !squares
  %z_empty = tensor.empty(%T) : !x
  %z = linalg.generic {indexing_maps = [#same, #row, #column, #same],
      iterator_types = ["parallel", "parallel"]}
      ins(%x, %z_squares, %norm_before : !x, !squares, !scale) outs(%z_empty : !x) {
  ^bb0(%v_bf16: bf16, %sum: f32, %s_bf16: bf16, %init: bf16):
    %v = arith.extf %v_bf16 : bf16 to f32
    %s = arith.extf %s_bf16 : bf16 to f32
    %mean = arith.divf %sum, %width : f32
    %size = arith.addf %mean, %norm_eps : f32
    %inverse = math.rsqrt %size : f32
    %unit = arith.mulf %v, %inverse : f32
    %result_f32 = arith.mulf %unit, %s : f32
    %result = arith.truncf %result_f32 : f32 to bf16
    linalg.yield %result : bf16
  } -> !x
  %offsets_empty = tensor.empty() : !offsets
  %rows_empty = tensor.empty(%M) : !x
  %offsets, %slots, %rows = moe.dispatch ids(%ids : !ids) tokens(%z : !x)
      outs(%offsets_empty, %ids_empty, %rows_empty : !offsets, !ids, !x)

  // Each expert works on its rows: down(gelu(gate(x)) * up(x)).
  %half = arith.constant 0.5 : f32
  %cubic = arith.constant 0.044715 : f32
  %slope = arith.constant 0.7978845608028654 : f32  // sqrt(2/π)
  %results = moe.expert offsets(%offsets : !offsets) rows(%rows : !x)
      params(%gate_up, %down : !gate_up, !down) outs(%rows_empty : !x) {
  ^bb0(%expert: index, %xe: !x, %expert_gate_up: !expert_gate_up, %expert_down: !expert_down):
    %n = tensor.dim %xe, %c0 : !x
    %expert_gate = tensor.extract_slice %expert_gate_up[0, 0] [24, 40] [1, 1]
        : !expert_gate_up to !expert_gate
    %expert_up = tensor.extract_slice %expert_gate_up[24, 0] [24, 40] [1, 1]
        : !expert_gate_up to !expert_gate
    %inner_empty = tensor.empty(%n) : !expert_sum
    %inner_zero = linalg.fill ins(%zero : f32) outs(%inner_empty : !expert_sum) -> !expert_sum
    %g = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %expert_gate : !x, !expert_gate) outs(%inner_zero : !expert_sum) -> !expert_sum
    %u = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %expert_up : !x, !expert_gate) outs(%inner_zero : !expert_sum) -> !expert_sum

    // p = gelu(g) * u, where gelu(g) = g/2 * (1 + tanh(sqrt(2/π) * (g + 0.044715 g³))).
    %p_empty = tensor.empty(%n) : !expert_inner
    %p = linalg.map ins(%g, %u : !expert_sum, !expert_sum) outs(%p_empty : !expert_inner)
      (%v_sum: f32, %w_sum: f32, %init: bf16) {
        %v_bf16 = arith.truncf %v_sum : f32 to bf16
        %w = arith.truncf %w_sum : f32 to bf16
        %v = arith.extf %v_bf16 : bf16 to f32
        %v2 = arith.mulf %v, %v : f32
        %v3 = arith.mulf %v2, %v : f32
        %bend = arith.mulf %v3, %cubic : f32
        %bent = arith.addf %v, %bend : f32
        %inner = arith.mulf %bent, %slope : f32
        %tanh = math.tanh %inner : f32
        %raised = arith.addf %tanh, %one : f32
        %half_v = arith.mulf %v, %half : f32
        %gelu_f32 = arith.mulf %half_v, %raised : f32
        %gelu = arith.truncf %gelu_f32 : f32 to bf16
        %product = arith.mulf %gelu, %w : bf16
        linalg.yield %product : bf16
      }

    %d_empty = tensor.empty(%n) : !x_sum
    %d_zero = linalg.fill ins(%zero : f32) outs(%d_empty : !x_sum) -> !x_sum
    %d_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%p, %expert_down : !expert_inner, !expert_down) outs(%d_zero : !x_sum) -> !x_sum
    %d = arith.truncf %d_sum : !x_sum to !x
    moe.yield %d : !x
  }

  // The results of a token's experts, weighted and added, then the norm.
  %routed_empty = tensor.empty(%T) : !x
  %routed = moe.combine rows(%results : !x) slots(%slots : !ids) weights(%weights : !weights)
      outs(%routed_empty : !x)
  %y_squares = linalg.generic {indexing_maps = [#same, #row],
      iterator_types = ["parallel", "reduction"]}
      ins(%routed : !x) outs(%squares_zero : !squares) {
  ^bb0(%v_bf16: bf16, %sum: f32):
    %v = arith.extf %v_bf16 : bf16 to f32
    %square = arith.mulf %v, %v : f32
    %next = arith.addf %sum, %square : f32
    linalg.yield %next : f32
  } -> !squares
  %y_empty = tensor.empty(%T) : !x
  %y = linalg.generic {indexing_maps = [#same, #row, #column, #same],
      iterator_types = ["parallel", "parallel"]}
      ins(%routed, %y_squares, %norm_after : !x, !squares, !scale) outs(%y_empty : !x) {
  ^bb0(%v_bf16: bf16, %sum: f32, %s_bf16: bf16, %init: bf16):
    %v = arith.extf %v_bf16 : bf16 to f32
    %s = arith.extf %s_bf16 : bf16 to f32
    %mean = arith.divf %sum, %width : f32
    %size = arith.addf %mean, %norm_eps : f32
    %inverse = math.rsqrt %size : f32
    %unit = arith.mulf %v, %inverse : f32
    %result_f32 = arith.mulf %unit, %s : f32
    %result = arith.truncf %result_f32 : f32 to bf16
    linalg.yield %result : bf16
  } -> !x
  return %y : !x
}
