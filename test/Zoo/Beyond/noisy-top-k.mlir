// Noisy top-k: each logit gets normal noise of a learned width, so that experts near the best are
// tried as well; the weights are a softmax over the chosen two.
// Shazeer et al. 2017, "Outrageously Large Neural Networks" (arXiv 1701.06538), section 2.1.
//
// The noise of logit (t, e) is a function of the seed and of t * E + e alone: a hash of counters
// (lowbias32), two uniform numbers, Box and Muller's transform. No state, the same for any order.
//
// REQUIRES: python-numpy, moe-run
// RUN: %python %moe_src_root/python/tests/beyond.py %moe_tools_dir/moe-run %s %t | FileCheck %s
// CHECK-COUNT-4: agrees:
// CHECK: seeds choose other experts for {{[1-9][0-9]*}} of 37 tokens
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
#same = affine_map<(t, e) -> (t, e)>
#all = affine_map<(t, e) -> ()>

/// 32 bits in, 32 bits out, each depending on all.
func.func private @hash(%in: i32) -> i32 {
  %c15 = arith.constant 15 : i32
  %c16 = arith.constant 16 : i32
  %m1 = arith.constant 0x7feb352d : i32
  %m2 = arith.constant 0x846ca68b : i32
  %a = arith.shrui %in, %c16 : i32
  %b = arith.xori %in, %a : i32
  %c = arith.muli %b, %m1 : i32
  %d = arith.shrui %c, %c15 : i32
  %e = arith.xori %c, %d : i32
  %f = arith.muli %e, %m2 : i32
  %g = arith.shrui %f, %c16 : i32
  %h = arith.xori %f, %g : i32
  return %h : i32
}

/// 23 of the bits as a number between 0 and 1, and never one of these.
func.func private @uniform(%in: i32) -> f32 {
  %c9 = arith.constant 9 : i32
  %half = arith.constant 0.5 : f32
  %ulp = arith.constant 0x34000000 : f32  // 2^-23
  %hash = func.call @hash(%in) : (i32) -> i32
  %bits = arith.shrui %hash, %c9 : i32
  %integer = arith.uitofp %bits : i32 to f32
  %inside = arith.addf %integer, %half : f32
  %u = arith.mulf %inside, %ulp : f32
  return %u : f32
}

func.func @layer(
    %x: !x {moe.name = "x"}, %seed: tensor<i32> {moe.name = "seed"},
    %router: tensor<8x16xf32> {moe.name = "router"}, %width: tensor<8x16xf32> {moe.name = "width"},
    %up: !up {moe.name = "up"}, %down: !down {moe.name = "down"})
    -> (!x {moe.name = "y"}, !ids {moe.name = "ids"}, !weights {moe.name = "weights"}) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : !x
  %one = arith.constant 1.0 : f32
  %c2 = arith.constant 2 : index
  %two = arith.constant 2 : i32
  %one32 = arith.constant 1 : i32
  %eight = arith.constant 8 : i32
  %minus2 = arith.constant -2.0 : f32
  %tau = arith.constant 6.2831853071795862 : f32
  %logits_empty = tensor.empty(%T) : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, tensor<8x16xf32>) outs(%logits_zero : !logits) -> !logits

  // --- router
  %normal = linalg.generic {indexing_maps = [#all, #same], iterator_types = ["parallel", "parallel"]}
      ins(%seed : tensor<i32>) outs(%logits_empty : !logits) {
  ^bb0(%s: i32, %init: f32):
    %t = linalg.index 0 : index
    %e = linalg.index 1 : index
    %t32 = arith.index_cast %t : index to i32
    %e32 = arith.index_cast %e : index to i32
    %first = arith.muli %t32, %eight : i32
    %place = arith.addi %first, %e32 : i32
    %start = func.call @hash(%s) : (i32) -> i32
    %twice = arith.muli %place, %two : i32
    %counter = arith.addi %start, %twice : i32
    %next = arith.addi %counter, %one32 : i32
    %u1 = func.call @uniform(%counter) : (i32) -> f32
    %u2 = func.call @uniform(%next) : (i32) -> f32
    %log = math.log %u1 : f32
    %square = arith.mulf %minus2, %log : f32
    %radius = math.sqrt %square : f32
    %angle = arith.mulf %tau, %u2 : f32
    %cos = math.cos %angle : f32
    %normal = arith.mulf %radius, %cos : f32
    linalg.yield %normal : f32
  } -> !logits
  %widths = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %width : !x, tensor<8x16xf32>) outs(%logits_zero : !logits) -> !logits
  %noisy = linalg.generic {indexing_maps = [#same, #same, #same, #same],
                           iterator_types = ["parallel", "parallel"]}
      ins(%logits, %widths, %normal : !logits, !logits, !logits) outs(%logits_empty : !logits) {
  ^bb0(%logit: f32, %w: f32, %n: f32, %init: f32):
    %abs = math.absf %w : f32
    %neg = arith.negf %abs : f32
    %exp = math.exp %neg : f32
    %log1p = math.log1p %exp : f32
    %positive = arith.maximumf %w, %zero : f32
    %softplus = arith.addf %positive, %log1p : f32
    %noise = arith.mulf %n, %softplus : f32
    %sum = arith.addf %logit, %noise : f32
    linalg.yield %sum : f32
  } -> !logits
  %weights_empty = tensor.empty(%T) : !weights
  %ids_empty = tensor.empty(%T) : !ids
  %weights, %ids = moe.gate score(softmax) scope(selected) ins(%noisy : !logits)
      outs(%weights_empty, %ids_empty : !weights, !ids)
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
