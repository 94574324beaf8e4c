// Hash routing: a fixed table says which expert a word goes to, and nothing is learned or computed.
// Roller et al. 2021, "Hash Layers For Large Sparse Models" (arXiv 2106.04426).
//
// There is no gate: ids are an ordinary tensor, and moe.dispatch takes any. An id outside of the
// experts (here a word that the table gives -1, or 8) sends its token nowhere, to a result of 0.
//
// REQUIRES: python-numpy, moe-run
// RUN: %python %moe_src_root/python/tests/beyond.py %moe_tools_dir/moe-run %s %t | FileCheck %s
// CHECK-COUNT-3: agrees:
// CHECK-NOT: DIFFERS

#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>
!x = tensor<?x16xf32>  // T×H
!weights = tensor<?x1xf32>  // T×k
!ids = tensor<?x1xi32>
!offsets = tensor<9xi32>
!up = tensor<8x24x16xf32>  // E×I×H
!down = tensor<8x16x24xf32>
!inner = tensor<?x24xf32>

func.func @layer(
    %x: !x {moe.name = "x"}, %words: tensor<?xi32> {moe.name = "words"},
    %table: tensor<100xi32> {moe.name = "table"},
    %up: !up {moe.name = "up"}, %down: !down {moe.name = "down"})
    -> (!x {moe.name = "y"}, !ids {moe.name = "ids"}, !weights {moe.name = "weights"}) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %one = arith.constant 1.0 : f32

  // --- router
  %ids_empty = tensor.empty(%T) : !ids
  %ids = linalg.generic {
      indexing_maps = [affine_map<(t, j) -> (t)>, affine_map<(t, j) -> (t, j)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%words : tensor<?xi32>) outs(%ids_empty : !ids) {
  ^bb0(%word: i32, %init: i32):
    %at = arith.index_cast %word : i32 to index
    %id = tensor.extract %table[%at] : tensor<100xi32>
    linalg.yield %id : i32
  } -> !ids
  %weights_empty = tensor.empty(%T) : !weights
  %weights = linalg.fill ins(%one : f32) outs(%weights_empty : !weights) -> !weights
  // --- end of the router

  // One row a choice, sorted by expert; each expert is a two-layer MLP; weighted and added.
  %offsets_empty = tensor.empty() : !offsets
  %slots_empty = tensor.empty(%T) : !ids
  %rows_empty = tensor.empty(%T) : !x
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
