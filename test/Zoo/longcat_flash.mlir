// RUN: %python %S/Inputs/make_checkpoint.py %s %t
// RUN: moe-import %t --layer 1 -o - | diff %t/layer.mlir -
// RUN: moe-opt %s --verify-roundtrip | moe-opt --moe-decompose | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering -o /dev/null
// CHECK: func.func @layer
// CHECK-NOT: {{(= |  )moe[.]}}

// LongCat-Flash (model_type longcat_flash): the MoE block of layer 1. Written by moe-import.
//
//   x  T×H, hidden states after the norm      H = 40    I = 24 inside an expert
//   y  T×H, what the residual is added to     E = 12 experts, k = 3 of them a token
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

// The last 4 experts give what they get.
!x = tensor<?x40xbf16>  // T×H, and M×H with a row for each of the M = T·k choices
!x_sum = tensor<?x40xf32>
!router = tensor<12x40xf32>  // E×H
!logits = tensor<?x12xf32>  // T×E
!weights = tensor<?x3xf32>  // T×k
!ids = tensor<?x3xi32>  // T×k
!offsets = tensor<9xi32>  // E+1
!bias = tensor<12xf32>  // E
!share = tensor<?xf32>  // T
!gate = tensor<8x24x40xbf16>  // E×I×H, also of up
!down = tensor<8x40x24xbf16>  // E×H×I
!expert_gate = tensor<24x40xbf16>
!expert_down = tensor<40x24xbf16>
!expert_inner = tensor<?x24xbf16>  // one expert's rows, within it
!expert_sum = tensor<?x24xf32>

func.func @layer(
    %x: !x {moe.name = "x"},
    %router: !router {moe.param = "model.layers.1.mlp.router.classifier.weight"},
    %bias: !bias {moe.param = "model.layers.1.mlp.router.e_score_correction_bias"},
    %gate: !gate {moe.param = "model.layers.1.mlp.experts.{expert}.gate_proj.weight"},
    %up: !gate {moe.param = "model.layers.1.mlp.experts.{expert}.up_proj.weight"},
    %down: !down {moe.param = "model.layers.1.mlp.experts.{expert}.down_proj.weight"})
    -> (!x {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %k = arith.constant 3 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %M = arith.muli %T, %k : index

  // Each token chooses k experts. The logits are never rounded, the weights stay in f32; the bias
  // takes part in choosing, but not in the weights.
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, !router) outs(%logits_zero : !logits) -> !logits
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %weights, %ids = moe.gate score(softmax) scale(6.0)
      ins(%logits : !logits) bias(%bias : !bias)
      outs(%weights_empty, %ids_empty : !weights, !ids)

  // Ids from 8 on have no rows.
  // One row a choice, sorted by expert.
  %offsets_empty = tensor.empty() : !offsets
  %rows_empty = tensor.empty(%M) : !x
  %offsets, %slots, %rows = moe.dispatch ids(%ids : !ids) tokens(%x : !x)
      outs(%offsets_empty, %ids_empty, %rows_empty : !offsets, !ids, !x)

  // Each expert works on its rows: down(silu(gate(x)) * up(x)).
  %results = moe.expert offsets(%offsets : !offsets) rows(%rows : !x)
      params(%gate, %up, %down : !gate, !gate, !down) outs(%rows_empty : !x) {
  ^bb0(%expert: index, %xe: !x, %expert_gate: !expert_gate, %expert_up: !expert_gate,
       %expert_down: !expert_down):
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
    moe.yield %d : !x
  }

  // Their weights together, times x, are the base of the sum.
  %first_identity = arith.constant 8 : i32
  %share_empty = tensor.empty(%T) : !share
  %share_zero = linalg.fill ins(%zero : f32) outs(%share_empty : !share) -> !share
  %share = linalg.generic {indexing_maps = [#same, #same, #row],
                           iterator_types = ["parallel", "reduction"]}
      ins(%ids, %weights : !ids, !weights) outs(%share_zero : !share) {
  ^bb0(%id: i32, %w: f32, %sum: f32):
    %is_identity = arith.cmpi sge, %id, %first_identity : i32
    %counted = arith.select %is_identity, %w, %zero : f32
    %next = arith.addf %sum, %counted : f32
    linalg.yield %next : f32
  } -> !share
  %base_empty = tensor.empty(%T) : !x_sum
  %base = linalg.generic {indexing_maps = [#same, #row, #same],
                          iterator_types = ["parallel", "parallel"]}
      ins(%x, %share : !x, !share) outs(%base_empty : !x_sum) {
  ^bb0(%v_bf16: bf16, %s: f32, %init: f32):
    %v = arith.extf %v_bf16 : bf16 to f32
    %product = arith.mulf %v, %s : f32
    linalg.yield %product : f32
  } -> !x_sum
  %y_empty = tensor.empty(%T) : !x
  %y = moe.combine rows(%results : !x) slots(%slots : !ids) weights(%weights : !weights)
      base(%base : !x_sum) outs(%y_empty : !x)
  return %y : !x
}
