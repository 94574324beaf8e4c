// RUN: %python %S/Inputs/make_checkpoint.py %s %t
// RUN: moe-import %t --layer 1 -o - | diff %t/layer.mlir -
// RUN: moe-opt %s --verify-roundtrip | moe-opt --moe-decompose | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering -o /dev/null
// CHECK: func.func @layer
// CHECK-NOT: {{(= |  )moe[.]}}

// Phi-3.5-MoE (model_type phimoe): the MoE block of layer 1. Written by moe-import.
//
//   x  T×H, hidden states after the norm      H = 40    I = 24 inside an expert
//   y  T×H, what the residual is added to     E = 8 experts, k = 2 of them a token
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
!weights = tensor<?x2xf32>  // T×k
!ids = tensor<?x2xi32>  // T×k
!offsets = tensor<9xi32>  // E+1
!gate = tensor<8x24x40xbf16>  // E×I×H, also of up
!down = tensor<8x40x24xbf16>  // E×H×I
!expert_gate = tensor<24x40xbf16>
!expert_down = tensor<40x24xbf16>
!expert_inner = tensor<?x24xbf16>  // one expert's rows, within it
!expert_sum = tensor<?x24xf32>
!choice_weights = tensor<?x2xbf16>  // T×k
!row_weights = tensor<?xbf16>  // M
!weight = tensor<?x1xf32>  // T×1
!id = tensor<?x1xi32>  // T×1
!best = tensor<?xf32>  // T

func.func @layer(
    %x: !x {moe.name = "x"},
    %router: !router {moe.param = "model.layers.1.block_sparse_moe.gate.weight"},
    %gate: !gate {moe.param = "model.layers.1.block_sparse_moe.experts.{expert}.w1.weight"},
    %up: !gate {moe.param = "model.layers.1.block_sparse_moe.experts.{expert}.w3.weight"},
    %down: !down {moe.param = "model.layers.1.block_sparse_moe.experts.{expert}.w2.weight"})
    -> (!x {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %k = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %M = arith.muli %T, %k : index
  %minus_infinity = arith.constant 0xFF800000 : f32
  %jitter = arith.constant 0.25 : f32
  %twice_jitter_f32 = arith.addf %jitter, %jitter : f32
  %twice_jitter_bf16 = arith.truncf %twice_jitter_f32 : f32 to bf16
  %twice_jitter = arith.extf %twice_jitter_bf16 : bf16 to f32

  // Sparsemixer: the best expert, then the best of the others; each weighted by a softmax over
  // those that come close to it.
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, !router) outs(%logits_zero : !logits) -> !logits
  %logits_bf16 = arith.truncf %logits_sum : !logits to tensor<?x8xbf16>
  %logits = arith.extf %logits_bf16 : tensor<?x8xbf16> to !logits
  %best_empty = tensor.empty(%T) : !best
  %best_lowest = linalg.fill ins(%minus_infinity : f32) outs(%best_empty : !best) -> !best
  %weight_empty = tensor.empty(%T) : !weight
  %id_empty = tensor.empty(%T) : !id
  %first_best = linalg.reduce { arith.maximumf } ins(%logits : !logits)
      outs(%best_lowest : !best) dimensions = [1]
  %first_close = linalg.generic {indexing_maps = [#same, #same, #row, #same],
      iterator_types = ["parallel", "parallel"]}
      ins(%logits, %logits, %first_best : !logits, !logits, !best)
      outs(%logits_empty : !logits) {
  ^bb0(%logit: f32, %score: f32, %best: f32, %init: f32):
    %size = math.absf %logit : f32
    %factor = arith.maximumf %size, %best : f32
    %difference_f32 = arith.subf %best, %logit : f32
    %difference_bf16 = arith.truncf %difference_f32 : f32 to bf16
    %difference = arith.extf %difference_bf16 : bf16 to f32
    %ratio_f32 = arith.divf %difference, %factor : f32
    %ratio_bf16 = arith.truncf %ratio_f32 : f32 to bf16
    %ratio = arith.extf %ratio_bf16 : bf16 to f32
    %is_far = arith.cmpf ogt, %ratio, %twice_jitter : f32
    %kept = arith.select %is_far, %minus_infinity, %score : f32
    linalg.yield %kept : f32
  } -> !logits
  %first_weight, %first_id = moe.gate score(softmax)
      ins(%first_close : !logits) outs(%weight_empty, %id_empty : !weight, !id)
  %others = linalg.generic {indexing_maps = [#same, #row_1, #same],
                            iterator_types = ["parallel", "parallel"]}
      ins(%logits, %first_id : !logits, !id) outs(%logits_empty : !logits) {
  ^bb0(%score: f32, %id: i32, %init: f32):
    %column = linalg.index 1 : index
    %e = arith.index_cast %column : index to i32
    %is_first = arith.cmpi eq, %e, %id : i32
    %other = arith.select %is_first, %minus_infinity, %score : f32
    linalg.yield %other : f32
  } -> !logits
  %second_best = linalg.reduce { arith.maximumf } ins(%others : !logits)
      outs(%best_lowest : !best) dimensions = [1]
  %second_close = linalg.generic {indexing_maps = [#same, #same, #row, #same],
      iterator_types = ["parallel", "parallel"]}
      ins(%logits, %others, %second_best : !logits, !logits, !best)
      outs(%logits_empty : !logits) {
  ^bb0(%logit: f32, %score: f32, %best: f32, %init: f32):
    %size = math.absf %logit : f32
    %factor = arith.maximumf %size, %best : f32
    %difference_f32 = arith.subf %best, %logit : f32
    %difference_bf16 = arith.truncf %difference_f32 : f32 to bf16
    %difference = arith.extf %difference_bf16 : bf16 to f32
    %ratio_f32 = arith.divf %difference, %factor : f32
    %ratio_bf16 = arith.truncf %ratio_f32 : f32 to bf16
    %ratio = arith.extf %ratio_bf16 : bf16 to f32
    %is_far = arith.cmpf ogt, %ratio, %twice_jitter : f32
    %kept = arith.select %is_far, %minus_infinity, %score : f32
    linalg.yield %kept : f32
  } -> !logits
  %second_weight, %second_id = moe.gate score(softmax)
      ins(%second_close : !logits) outs(%weight_empty, %id_empty : !weight, !id)
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %ids_one = tensor.insert_slice %first_id into %ids_empty[0, 0] [%T, 1] [1, 1] : !id into !ids
  %ids = tensor.insert_slice %second_id into %ids_one[0, 1] [%T, 1] [1, 1] : !id into !ids
  %weights_one = tensor.insert_slice %first_weight into %weights_empty[0, 0] [%T, 1] [1, 1]
      : !weight into !weights
  %weights_f32 = tensor.insert_slice %second_weight into %weights_one[0, 1] [%T, 1] [1, 1]
      : !weight into !weights
  %weights = arith.truncf %weights_f32 : !weights to !choice_weights

  // One row a choice, sorted by expert: the token, and the weight of the choice.
  %offsets_empty = tensor.empty() : !offsets
  %rows_empty = tensor.empty(%M) : !x
  %row_weights_empty = tensor.empty(%M) : !row_weights
  %offsets, %slots, %rows, %row_weights = moe.dispatch ids(%ids : !ids)
      tokens(%x : !x) choices(%weights : !choice_weights)
      outs(%offsets_empty, %ids_empty, %rows_empty, %row_weights_empty
           : !offsets, !ids, !x, !row_weights)

  // Each expert works on its rows: down(silu(gate(x)) * up(x)), times the weight of the row.
  %results = moe.expert offsets(%offsets : !offsets) rows(%rows, %row_weights : !x, !row_weights)
      params(%gate, %up, %down : !gate, !gate, !down) outs(%rows_empty : !x) {
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
    %d_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
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
