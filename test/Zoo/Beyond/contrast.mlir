// Contrast: a router that did not exist yesterday, and needs no C++. A token's best expert adds its
// result, the one that suits it least subtracts its own: y = p(best)·f(x) - p(worst)·g(x).
//
// Two gates with k = 1, the second over the negated logits; the weight of the worst is read from the
// probabilities' mirror, softmax(-logits), so that a clear misfit subtracts more. What follows takes
// its ids and weights as it takes any others.
//
// REQUIRES: python-numpy, moe-run
// RUN: %python %moe_src_root/python/tests/beyond.py %moe_tools_dir/moe-run %s %t | FileCheck %s
// CHECK: router: {{[0-9]|1[0-5]}} lines
// CHECK-COUNT-3: agrees:
// CHECK-NOT: DIFFERS

#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>
!x = tensor<?x16xf32>  // T×H
!logits = tensor<?x8xf32>  // T×E
!weights = tensor<?x2xf32>  // T×k
!ids = tensor<?x2xi32>
!offsets = tensor<9xi32>
!up = tensor<8x24x16xf32>  // E×I×H
!down = tensor<8x16x24xf32>
!inner = tensor<?x24xf32>
!weight = tensor<?x1xf32>
!id = tensor<?x1xi32>

func.func @layer(
    %x: !x {moe.name = "x"}, %router: tensor<8x16xf32> {moe.name = "router"},
    %up: !up {moe.name = "up"}, %down: !down {moe.name = "down"})
    -> (!x {moe.name = "y"}, !ids {moe.name = "ids"}, !weights {moe.name = "weights"}) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %c2 = arith.constant 2 : index
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, tensor<8x16xf32>) outs(%logits_zero : !logits) -> !logits

  // --- router
  %weight_empty = tensor.empty(%T) : !weight
  %id_empty = tensor.empty(%T) : !id
  %best_weight, %best = moe.gate score(softmax) ins(%logits : !logits)
      outs(%weight_empty, %id_empty : !weight, !id)
  %mirror = arith.negf %logits : !logits
  %worst_weight, %worst = moe.gate score(softmax) ins(%mirror : !logits)
      outs(%weight_empty, %id_empty : !weight, !id)
  %minus = arith.negf %worst_weight : !weight
  %weights = tensor.concat dim(1) %best_weight, %minus : (!weight, !weight) -> !weights
  %ids = tensor.concat dim(1) %best, %worst : (!id, !id) -> !ids
  // --- end of the router
  %M = arith.muli %T, %c2 : index

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
