// The dense mixture that all others come from: every expert works on every token, and the results are
// weighted by a softmax over all experts.
// Jacobs, Jordan, Nowlan, Hinton 1991, "Adaptive Mixtures of Local Experts" (Neural Computation 3).
//
// It is a gate that chooses k = E experts.
//
// REQUIRES: python-numpy, moe-run
// RUN: %python %moe_src_root/python/tests/beyond.py %moe_tools_dir/moe-run %s %t | FileCheck %s
// CHECK-COUNT-3: agrees:
// CHECK-NOT: DIFFERS

#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>
!x = tensor<?x16xf32>  // T×H
!logits = tensor<?x8xf32>  // T×E
!weights = tensor<?x8xf32>  // T×k
!ids = tensor<?x8xi32>
!offsets = tensor<9xi32>
!up = tensor<8x24x16xf32>  // E×I×H
!down = tensor<8x16x24xf32>
!inner = tensor<?x24xf32>

func.func @layer(
    %x: !x {moe.name = "x"}, %router: tensor<8x16xf32> {moe.name = "router"},
    %up: !up {moe.name = "up"}, %down: !down {moe.name = "down"})
    -> (!x {moe.name = "y"}, !ids {moe.name = "ids"}, !weights {moe.name = "weights"}) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %c8 = arith.constant 8 : index
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, tensor<8x16xf32>) outs(%logits_zero : !logits) -> !logits

  // --- router
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %weights, %ids = moe.gate score(softmax) ins(%logits : !logits)
      outs(%weights_empty, %ids_empty : !weights, !ids)
  // --- end of the router
  %M = arith.muli %c8, %T : index

  // One row a choice, sorted by expert; each expert is a two-layer MLP; weighted and added.
  %offsets_empty = tensor.empty() : !offsets
  %slots_empty = tensor.empty(%T) : !ids
  %rows_empty = tensor.empty(%M) : !x
  %offsets, %slots, %rows = moe.dispatch ids(%ids : !ids) tokens(%x : !x)
      outs(%offsets_empty, %slots_empty, %rows_empty : !offsets, !ids, !x)
  %results = moe.expert offsets(%offsets : !offsets) rows(%rows : !x)
      params(%up, %down : !up, !down) outs(%rows_empty : !x) {
  ^bb0(%expert: index, %xe: !x, %up_e: tensor<24x16xf32>, %down_e: tensor<16x24xf32>):
    %n = tensor.dim %xe, %c0 : !x
    %h_empty = tensor.empty(%n) : !inner
    %h_zero = linalg.fill ins(%zero : f32) outs(%h_empty : !inner) -> !inner
    %h = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %up_e : !x, tensor<24x16xf32>) outs(%h_zero : !inner) -> !inner
    %a = arith.maximumf %h, %h_zero : !inner
    %z_empty = tensor.empty(%n) : !x
    %z_zero = linalg.fill ins(%zero : f32) outs(%z_empty : !x) -> !x
    %z = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%a, %down_e : !inner, tensor<16x24xf32>) outs(%z_zero : !x) -> !x
    moe.yield %z : !x
  }
  %y_empty = tensor.empty(%T) : !x
  %y = moe.combine rows(%results : !x) slots(%slots : !ids) weights(%weights : !weights)
      outs(%y_empty : !x)
  return %y, %ids, %weights : !x, !ids, !weights
}
