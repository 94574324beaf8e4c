// Expert choice: each expert takes its 2T/E best tokens, not each token its best experts, so that all
// experts have the same number of rows and a token has 0 to E of them.
// Zhou et al. 2022, "Mixture-of-Experts with Expert Choice Routing" (arXiv 2202.09368).
//
// A gate that chooses all experts gives each token's softmax; transposed, it is what a second gate
// chooses tokens by (one at least: T is not 0). What expert e took goes to column e of the ids, which
// are -1, nowhere, elsewhere.
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
!by_expert = tensor<8x?xf32>  // E×T
!taken = tensor<8x?xf32>  // E×c
!taken_ids = tensor<8x?xi32>
#token_choice = affine_map<(e, t, j) -> (t, j)>
#expert_token = affine_map<(e, t, j) -> (e, t)>
#expert_choice = affine_map<(t, e, j) -> (e, j)>
#token_expert = affine_map<(t, e, j) -> (t, e)>

func.func @layer(
    %x: !x {moe.name = "x"}, %router: tensor<8x16xf32> {moe.name = "router"},
    %up: !up {moe.name = "up"}, %down: !down {moe.name = "down"})
    -> (!x {moe.name = "y"}, !ids {moe.name = "ids"}, !weights {moe.name = "weights"}) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %c4 = arith.constant 4 : index
  %c8 = arith.constant 8 : index
  %none = arith.constant -1 : i32
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, tensor<8x16xf32>) outs(%logits_zero : !logits) -> !logits

  // --- router
  %p_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %p, %order = moe.gate score(softmax) ins(%logits : !logits)
      outs(%p_empty, %ids_empty : !weights, !ids)
  %by_expert_empty = tensor.empty(%T) : !by_expert
  %by_expert_zero = linalg.fill ins(%zero : f32) outs(%by_expert_empty : !by_expert) -> !by_expert
  %by_expert = linalg.generic {indexing_maps = [#token_choice, #token_choice, #expert_token],
                               iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%p, %order : !weights, !ids) outs(%by_expert_zero : !by_expert) {
  ^bb0(%score: f32, %id: i32, %found: f32):
    %e = linalg.index 0 : index
    %e32 = arith.index_cast %e : index to i32
    %is_e = arith.cmpi eq, %id, %e32 : i32
    %next = arith.select %is_e, %score, %found : f32
    linalg.yield %next : f32
  } -> !by_expert

  %c = arith.ceildivui %T, %c4 : index  // 2T/E
  %taken_empty = tensor.empty(%c) : !taken
  %taken_ids_empty = tensor.empty(%c) : !taken_ids
  %taken, %taken_ids = moe.gate score(none) ins(%by_expert : !by_expert)
      outs(%taken_empty, %taken_ids_empty : !taken, !taken_ids)
  %nowhere = linalg.fill ins(%none : i32) outs(%ids_empty : !ids) -> !ids
  %ids, %weights = linalg.generic {
      indexing_maps = [#expert_choice, #expert_choice, #token_expert, #token_expert],
      iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%taken, %taken_ids : !taken, !taken_ids) outs(%nowhere, %logits_zero : !ids, !weights) {
  ^bb0(%score: f32, %token: i32, %id: i32, %weight: f32):
    %t = linalg.index 0 : index
    %t32 = arith.index_cast %t : index to i32
    %e = linalg.index 1 : index
    %e32 = arith.index_cast %e : index to i32
    %is_t = arith.cmpi eq, %token, %t32 : i32
    %next_id = arith.select %is_t, %e32, %id : i32
    %next_weight = arith.select %is_t, %score, %weight : f32
    linalg.yield %next_id, %next_weight : i32, f32
  } -> (!ids, !weights)
  // --- end of the router
  %M = arith.muli %c8, %c : index

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
