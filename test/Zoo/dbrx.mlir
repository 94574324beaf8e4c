// RUN: %python %S/Inputs/make_checkpoint.py %s %t
// RUN: moe-import %t --layer 1 -o - | diff %t/layer.mlir -
// RUN: moe-opt %s --verify-roundtrip | moe-opt --moe-decompose | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering -o /dev/null
// CHECK: func.func @layer
// CHECK-NOT: {{(= |  )moe[.]}}

// DBRX (model_type dbrx): the MoE block of layer 1. Written by moe-import.
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

// The weights of down are stored as [in, out].
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
!sums = tensor<?xf32>  // T
!all = tensor<192x40xbf16>  // E·I×H: one expert under another
!weight = tensor<8x24x40xbf16>  // E×I×H
!expert_gate = tensor<24x40xbf16>
!expert_down = tensor<24x40xbf16>
!expert_inner = tensor<?x24xbf16>  // one expert's rows, within it
!expert_sum = tensor<?x24xf32>

func.func @layer(
    %x: !x {moe.name = "x"},
    %router: !router {moe.param = "transformer.blocks.1.ffn.router.layer.weight"},
    %w1: !all {moe.param = "transformer.blocks.1.ffn.experts.mlp.w1"},
    %v1: !all {moe.param = "transformer.blocks.1.ffn.experts.mlp.v1"},
    %w2: !all {moe.param = "transformer.blocks.1.ffn.experts.mlp.w2"})
    -> (!x {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %k = arith.constant 3 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %M = arith.muli %T, %k : index

  // Each token chooses k experts.
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, !router) outs(%logits_zero : !logits) -> !logits
  %logits_bf16 = arith.truncf %logits_sum : !logits to tensor<?x8xbf16>
  %logits = arith.extf %logits_bf16 : tensor<?x8xbf16> to !logits
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  // Probabilities are rounded, and so is their sum before it divides them.
  %chosen, %ids = moe.gate score(softmax)
      ins(%logits : !logits) outs(%weights_empty, %ids_empty : !weights, !ids)
  %chosen_bf16 = arith.truncf %chosen : !weights to !choice_weights
  %weights_f32 = arith.extf %chosen_bf16 : !choice_weights to !weights
  %sums_empty = tensor.empty(%T) : !sums
  %sums_zero = linalg.fill ins(%zero : f32) outs(%sums_empty : !sums) -> !sums
  %sums = linalg.reduce { arith.addf } ins(%weights_f32 : !weights) outs(%sums_zero : !sums)
      dimensions = [1]
  %choice_weights_empty = tensor.empty(%T) : !choice_weights
  %weights = linalg.generic {indexing_maps = [#same, #row, #same],
                             iterator_types = ["parallel", "parallel"]}
      ins(%chosen_bf16, %sums : !choice_weights, !sums)
      outs(%choice_weights_empty : !choice_weights) {
  ^bb0(%v: bf16, %sum: f32, %init: bf16):
    %sum_bf16 = arith.truncf %sum : f32 to bf16
    %weight = arith.divf %v, %sum_bf16 : bf16
    linalg.yield %weight : bf16
  } -> !choice_weights

  // One row a choice, sorted by expert: the token, and the weight of the choice.
  %offsets_empty = tensor.empty() : !offsets
  %rows_empty = tensor.empty(%M) : !x
  %row_weights_empty = tensor.empty(%M) : !row_weights
  %offsets, %slots, %rows, %row_weights = moe.dispatch ids(%ids : !ids)
      tokens(%x : !x) choices(%weights : !choice_weights)
      outs(%offsets_empty, %ids_empty, %rows_empty, %row_weights_empty
           : !offsets, !ids, !x, !row_weights)

  // Each expert works on its rows: down(silu(gate(x)) * up(x)), times the weight of the row.
  %gate = tensor.expand_shape %w1 [[0, 1], [2]] output_shape [8, 24, 40]
      : !all into !weight
  %up = tensor.expand_shape %v1 [[0, 1], [2]] output_shape [8, 24, 40]
      : !all into !weight
  %down = tensor.expand_shape %w2 [[0, 1], [2]] output_shape [8, 24, 40]
      : !all into !weight
  %results = moe.expert offsets(%offsets : !offsets) rows(%rows, %row_weights : !x, !row_weights)
      params(%gate, %up, %down : !weight, !weight, !weight) outs(%rows_empty : !x) {
  ^bb0(%expert: index, %xe: !x, %we: !row_weights, %expert_gate: !expert_gate,
       %expert_up: !expert_gate, %expert_down: !expert_down):
    %n = tensor.dim %xe, %c0 : !x
    %inner_empty = tensor.empty(%n) : !expert_sum
    %inner_zero = linalg.fill ins(%zero : f32) outs(%inner_empty : !expert_sum) -> !expert_sum
    %g = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %expert_gate : !x, !expert_gate) outs(%inner_zero : !expert_sum) -> !expert_sum
    %u = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %expert_up : !x, !expert_gate) outs(%inner_zero : !expert_sum) -> !expert_sum

    // p = silu(g) * u, where silu(g) = g / (1 + exp(-g)).
    %p_empty = tensor.empty(%n) : !expert_inner
    %p = linalg.map ins(%g, %u : !expert_sum, !expert_sum) outs(%p_empty : !expert_inner)
      (%g_sum: f32, %u_sum: f32, %init: bf16) {
        %g_bf16 = arith.truncf %g_sum : f32 to bf16
        %u_bf16 = arith.truncf %u_sum : f32 to bf16
        %v = arith.extf %g_bf16 : bf16 to f32
        %minus_v = arith.negf %v : f32
        %exp = math.exp %minus_v : f32
        %denominator = arith.addf %one, %exp : f32
        %silu = arith.divf %v, %denominator : f32
        %silu_bf16 = arith.truncf %silu : f32 to bf16
        %product = arith.mulf %silu_bf16, %u_bf16 : bf16
        linalg.yield %product : bf16
      }

    %d_empty = tensor.empty(%n) : !x_sum
    %d_zero = linalg.fill ins(%zero : f32) outs(%d_empty : !x_sum) -> !x_sum
    %d_sum = linalg.matmul indexing_maps = [#in, #weight_t, #out]
        ins(%p, %expert_down : !expert_inner, !expert_down) outs(%d_zero : !x_sum) -> !x_sum
    %d = arith.truncf %d_sum : !x_sum to !x
    %q_empty = tensor.empty(%n) : !x
    %w = linalg.broadcast ins(%we : !row_weights) outs(%q_empty : !x) dimensions = [1]
    %q = arith.mulf %d, %w : !x
    moe.yield %q : !x
  }

  // The rows have their weights already, so each counts once.
  %ones = linalg.fill ins(%one : f32) outs(%weights_empty : !weights) -> !weights
  %y_empty = tensor.empty(%T) : !x
  %y = moe.combine rows(%results : !x) slots(%slots : !ids) weights(%ones : !weights)
      outs(%y_empty : !x)
  return %y : !x
}
