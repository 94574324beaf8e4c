// Product keys: 16 experts on a grid of 4×4. A token scores 4 rows with one half of its query and 4
// columns with the other; the two best of each make four candidates, of which it takes two. So many
// experts cost few scores: 2·√E.
// Lample et al. 2019, "Large Memory Layers with Product Keys" (arXiv 1907.05242); for experts He 2024,
// "Mixture of A Million Experts" (arXiv 2407.04153).
//
// Three gates, and a map from a candidate to its place on the grid.
//
// REQUIRES: python-numpy, moe-run
// RUN: %python %moe_src_root/python/tests/beyond.py %moe_tools_dir/moe-run %s %t | FileCheck %s
// CHECK-COUNT-3: agrees:
// CHECK-NOT: DIFFERS

#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>
!x = tensor<?x16xf32>  // T×H
!weights = tensor<?x2xf32>  // T×k
!ids = tensor<?x2xi32>
!offsets = tensor<17xi32>
!up = tensor<16x24x16xf32>  // E×I×H
!down = tensor<16x16x24xf32>
!inner = tensor<?x24xf32>
!scores = tensor<?x4xf32>  // of rows, of columns, or of candidates
#candidate = affine_map<(t, i, j) -> (t, i, j)>

func.func @layer(
    %x: !x {moe.name = "x"}, %row_keys: tensor<4x16xf32> {moe.name = "row_keys"},
    %column_keys: tensor<4x16xf32> {moe.name = "column_keys"},
    %up: !up {moe.name = "up"}, %down: !down {moe.name = "down"})
    -> (!x {moe.name = "y"}, !ids {moe.name = "ids"}, !weights {moe.name = "weights"}) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %c2 = arith.constant 2 : index
  %two = arith.constant 2 : i32
  %four = arith.constant 4 : i32
  %scores_empty = tensor.empty(%T) : !scores
  %scores_zero = linalg.fill ins(%zero : f32) outs(%scores_empty : !scores) -> !scores
  %row_scores = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %row_keys : !x, tensor<4x16xf32>) outs(%scores_zero : !scores) -> !scores
  %column_scores = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %column_keys : !x, tensor<4x16xf32>) outs(%scores_zero : !scores) -> !scores

  // --- router
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %row_best, %row_ids = moe.gate score(none) ins(%row_scores : !scores)
      outs(%weights_empty, %ids_empty : !weights, !ids)
  %column_best, %column_ids = moe.gate score(none) ins(%column_scores : !scores)
      outs(%weights_empty, %ids_empty : !weights, !ids)
  %sums_empty = tensor.empty(%T) : tensor<?x2x2xf32>
  %sums = linalg.generic {
      indexing_maps = [affine_map<(t, i, j) -> (t, i)>, affine_map<(t, i, j) -> (t, j)>, #candidate],
      iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%row_best, %column_best : !weights, !weights) outs(%sums_empty : tensor<?x2x2xf32>) {
  ^bb0(%row: f32, %column: f32, %init: f32):
    %sum = arith.addf %row, %column : f32
    linalg.yield %sum : f32
  } -> tensor<?x2x2xf32>
  %candidates = tensor.collapse_shape %sums [[0], [1, 2]] : tensor<?x2x2xf32> into !scores
  %weights, %chosen = moe.gate score(softmax) scope(selected) ins(%candidates : !scores)
      outs(%weights_empty, %ids_empty : !weights, !ids)
  %ids = linalg.generic {
      indexing_maps = [affine_map<(t, j) -> (t, j)>, affine_map<(t, j) -> (t, j)>],
      iterator_types = ["parallel", "parallel"]} ins(%chosen : !ids) outs(%ids_empty : !ids) {
  ^bb0(%candidate: i32, %init: i32):
    %t = linalg.index 0 : index
    %i32 = arith.divui %candidate, %two : i32
    %j32 = arith.remui %candidate, %two : i32
    %i = arith.index_cast %i32 : i32 to index
    %j = arith.index_cast %j32 : i32 to index
    %row = tensor.extract %row_ids[%t, %i] : !ids
    %column = tensor.extract %column_ids[%t, %j] : !ids
    %first = arith.muli %row, %four : i32
    %id = arith.addi %first, %column : i32
    linalg.yield %id : i32
  } -> !ids
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
