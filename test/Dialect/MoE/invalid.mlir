// One case a constraint of MoEOps.td and MoEDialect.td, in the order of their numbers
// (constraints.test counts them).

// RUN: moe-opt %s -split-input-file -verify-diagnostics

// gate_c1
func.func @f(%l: memref<16x4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{mixes tensors and memrefs; bufferize all operands or none}}
  %0:2 = moe.gate score(softmax) ins(%l : memref<16x4xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

// -----
// gate_c2: two inits
func.func @f(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>) {
  // expected-error @+1 {{needs two destinations, weights (f32) and ids (i32), got 'tensor<16x2xf32>'}}
  %0 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>) outs(%w : tensor<16x2xf32>)
  return
}

// -----
// gate_c2: in this order
func.func @f(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{needs two destinations, weights (f32) and ids (i32), got 'tensor<16x2xi32>', 'tensor<16x2xf32>'}}
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>)
      outs(%i, %w : tensor<16x2xi32>, tensor<16x2xf32>)
  return
}

// -----
// gate_c2: of one shape
func.func @f(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x3xi32>) {
  // expected-error @+1 {{weights and ids must have one shape T×k, got 16x2 and 16x3}}
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x3xi32>)
  return
}

// -----
// gate_c3
func.func @f(%l: tensor<16x4xf32>, %w: tensor<?x2xf32>, %i: tensor<8x2xi32>) {
  // expected-error @+1 {{logits have 16 tokens, the destinations 8}}
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>)
      outs(%w, %i : tensor<?x2xf32>, tensor<8x2xi32>)
  return
}

// -----
// gate_c4
func.func @f(%l: tensor<16x4xf32>, %b: tensor<5xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{bias has 5 elements, but logits have 4 experts}}
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>) bias(%b : tensor<5xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

// -----
// gate_c5
func.func @f(%l: tensor<?x4xf32>, %m: tensor<?x5xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{mix must have the shape of logits, ?x4, got ?x5}}
  %0:2 = moe.gate score(softmax) ins(%l : tensor<?x4xf32>) mix(%m : tensor<?x5xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

// -----
// gate_c6: k ≤ E
func.func @f(%l: tensor<16x4xf32>, %w: tensor<16x5xf32>, %i: tensor<16x5xi32>) {
  // expected-error @+1 {{k = 5 must be between 1 and the number of experts, 4}}
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>)
      outs(%w, %i : tensor<16x5xf32>, tensor<16x5xi32>)
  return
}

// -----
// gate_c6: 1 ≤ k, here known from ids alone
func.func @f(%l: tensor<16x?xf32>, %w: tensor<16x?xf32>, %i: tensor<16x0xi32>) {
  // expected-error @+1 {{k = 0 must be between 1 and the number of experts, ?}}
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x?xf32>)
      outs(%w, %i : tensor<16x?xf32>, tensor<16x0xi32>)
  return
}

// -----
// gate_c7
func.func @f(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{scope(selected) is a softmax over the selected logits, but the score is sigmoid}}
  %0:2 = moe.gate score(sigmoid) scope(selected) ins(%l : tensor<16x4xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

// -----
// gate_c8
func.func @f(%l: tensor<16x6xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{groups: count = 4 does not divide the 6 experts of logits}}
  %0:2 = moe.gate score(softmax) groups<count = 4, keep = 2> ins(%l : tensor<16x6xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

// -----
// gate_c9
func.func @f(%l: tensor<16x8xf32>, %w: tensor<16x5xf32>, %i: tensor<16x5xi32>) {
  // expected-error @+1 {{groups: the 2 kept groups of 2 hold fewer experts than k = 5; keep more groups}}
  %0:2 = moe.gate score(softmax) groups<count = 4, keep = 2> ins(%l : tensor<16x8xf32>)
      outs(%w, %i : tensor<16x5xf32>, tensor<16x5xi32>)
  return
}

// -----
// gate_c10
func.func @f(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{groups: top2_sum needs at least two experts in a group, got 1; use score = max}}
  %0:2 = moe.gate score(softmax) groups<count = 4, keep = 2, score = top2_sum>
      ins(%l : tensor<16x4xf32>) outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

// -----
// gate_c11
func.func @f(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{scale must be finite, got 0x7F800000 : f32}}
  %0:2 = moe.gate score(softmax) scale(0x7F800000) ins(%l : tensor<16x4xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

// -----
// groups_c1
// expected-error @+1 {{groups: count must be at least 1, got 0}}
#groups = #moe.groups<count = 0, keep = 0>

// -----
// groups_c2
// expected-error @+1 {{groups: keep must be between 1 and count = 4, got 5}}
#groups = #moe.groups<count = 4, keep = 5>

// -----
// renormalize_c1: an f32
// expected-error @+1 {{renormalize: eps must be an f32, got 'f64'; write 'eps = 1.0e-20 : f32'}}
#renormalize = #moe.renormalize<eps = 1.0e-20 : f64>

// -----
// renormalize_c1: finite
// expected-error @+1 {{renormalize: eps must be finite and not negative, got 0x7FC00000 : f32}}
#renormalize = #moe.renormalize<eps = 0x7FC00000 : f32>

// -----
// renormalize_c1: not negative
// expected-error @+1 {{renormalize: eps must be finite and not negative, got -1.000000e+00 : f32}}
#renormalize = #moe.renormalize<eps = -1.0 : f32>

// -----
// dispatch_c1
func.func @f(%ids: tensor<16x2xi32>, %o: memref<5xi32>, %s: memref<16x2xi32>) {
  // expected-error @+1 {{mixes tensors and memrefs}}
  moe.dispatch ids(%ids : tensor<16x2xi32>) outs(%o, %s : memref<5xi32>, memref<16x2xi32>)
  return
}

// -----
// dispatch_c2: how many
func.func @f(%ids: tensor<16x2xi32>, %x: tensor<16x8xf32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>) {
  // expected-error @+1 {{needs 3 destinations (offsets, slots, and a row value for each of the 1 payloads), got 2}}
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<16x8xf32>)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return
}

// -----
// dispatch_c2: of which type
func.func @f(%ids: tensor<16x2xi32>, %o: tensor<5xi64>, %s: tensor<16x2xi32>) {
  // expected-error @+1 {{offsets must be E+1 and slots T×k of i32, got 'tensor<5xi64>' and 'tensor<16x2xi32>'}}
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>)
      outs(%o, %s : tensor<5xi64>, tensor<16x2xi32>)
  return
}

// -----
// dispatch_c3
func.func @f(%ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x3xi32>) {
  // expected-error @+1 {{slots must have the shape of ids, 16x2, got 16x3}}
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>)
      outs(%o, %s : tensor<5xi32>, tensor<16x3xi32>)
  return
}

// -----
// dispatch_c4
func.func @f(%ids: tensor<16x2xi32>, %x: tensor<8x4xf32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>,
             %r: tensor<32x4xf32>) {
  // expected-error @+1 {{payload #0 is a token payload and must start with 16, got 8x4}}
  %0:3 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<8x4xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32x4xf32>)
  return
}

// -----
// dispatch_c4: a scalar has no first dimension
func.func @f(%ids: tensor<16x2xi32>, %x: tensor<f32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>,
             %r: tensor<32xf32>) {
  // expected-error @+1 {{payload #0 is a token payload and must start with 16, got scalar}}
  %0:3 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<f32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32xf32>)
  return
}

// -----
// dispatch_c5
func.func @f(%ids: tensor<?x2xi32>, %x: tensor<?xf32>, %c: tensor<?x3xf32>, %o: tensor<5xi32>,
             %s: tensor<?x2xi32>, %r: tensor<?xf32>) {
  // expected-error @+1 {{payload #1 is a choice payload and must start with ?x2, got ?x3}}
  %0:4 = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?xf32>)
      choices(%c : tensor<?x3xf32>)
      outs(%o, %s, %r, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?xf32>, tensor<?xf32>)
  return
}

// -----
// dispatch_c6: the element type
func.func @f(%ids: tensor<16x2xi32>, %x: tensor<16x4xbf16>, %o: tensor<5xi32>,
             %s: tensor<16x2xi32>, %r: tensor<32x4xf32>) {
  // expected-error @+1 {{row value #0 must be rows of 4 of 'bf16' like its payload, got 'tensor<32x4xf32>'}}
  %0:3 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<16x4xbf16>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32x4xf32>)
  return
}

// -----
// dispatch_c6: the inner dimensions
func.func @f(%ids: tensor<16x2xi32>, %c: tensor<16x2x3xf32>, %o: tensor<5xi32>,
             %s: tensor<16x2xi32>, %r: tensor<32x2x3xf32>) {
  // expected-error @+1 {{row value #0 must be rows of 3 of 'f32' like its payload, got 'tensor<32x2x3xf32>'}}
  %0:3 = moe.dispatch ids(%ids : tensor<16x2xi32>) choices(%c : tensor<16x2x3xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32x2x3xf32>)
  return
}

// -----
// dispatch_c7
func.func @f(%ids: tensor<16x2xi32>, %x: tensor<16xf32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>,
             %a: tensor<?xf32>, %b: tensor<32xf32>, %c: tensor<31xf32>) {
  // expected-error @+1 {{row value #2 has 31 rows, but row value #1 has 32}}
  %0:5 = moe.dispatch ids(%ids : tensor<16x2xi32>)
      tokens(%x, %x, %x : tensor<16xf32>, tensor<16xf32>, tensor<16xf32>)
      outs(%o, %s, %a, %b, %c : tensor<5xi32>, tensor<16x2xi32>, tensor<?xf32>, tensor<32xf32>,
           tensor<31xf32>)
  return
}

// -----
// dispatch_c8
func.func @f(%ids: tensor<16x2xi32>, %o: tensor<0xi32>, %s: tensor<16x2xi32>) {
  // expected-error @+1 {{offsets has 0 elements; for E experts it has E+1}}
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>)
      outs(%o, %s : tensor<0xi32>, tensor<16x2xi32>)
  return
}

// -----
// dispatch_c9
func.func @f(%c: index, %ids: tensor<16x2xi32>, %p: tensor<16x1xf32>, %o: tensor<5xi32>,
             %s: tensor<16x2xi32>) {
  // expected-error @+1 {{priority must have the shape of ids, 16x2, got 16x1}}
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) capacity(%c) priority(%p : tensor<16x1xf32>)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return
}

// -----
// dispatch_c10: order
func.func @f(%ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>) {
  // expected-error @+1 {{order, priority and tokens_per_group say which choices a full expert drops; add capacity(…) or remove them}}
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) order(choice_major)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return
}

// -----
// dispatch_c10: priority
func.func @f(%ids: tensor<16x2xi32>, %p: tensor<16x2xf32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>) {
  // expected-error @+1 {{add capacity(…) or remove them}}
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) priority(%p : tensor<16x2xf32>)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return
}

// -----
// dispatch_c10: tokens_per_group
func.func @f(%ids: tensor<16x2xi32>, %n: index, %o: tensor<5xi32>, %s: tensor<16x2xi32>) {
  // expected-error @+1 {{add capacity(…) or remove them}}
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens_per_group(%n)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return
}

// -----
// expert_c1: how many
func.func @f(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x8xf32>) {
  // expected-error @+1 {{the body must have 3 arguments (the expert's index, 1 row values, 1 per-expert values), got ('index', 'tensor<?x8xf32>')}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>)
      params(%w : tensor<4x8xf32>) outs(%x : tensor<?x8xf32>) {
  ^bb0(%e: index, %r: tensor<?x8xf32>):
    moe.yield %r : tensor<?x8xf32>
  }
  return
}

// -----
// expert_c1: the first is the index, and none at all is no crash
func.func @f(%o: tensor<5xi32>, %w: tensor<4xf32>, %s: tensor<f32>) {
  // expected-error @+1 {{the body must have 1 arguments (the expert's index, 0 row values, 0 per-expert values), got ()}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) outs(%w : tensor<4xf32>) {
    moe.yield %s : tensor<f32>
  }
  return
}

// -----
// expert_c1: the first is the index
func.func @f(%o: tensor<5xi32>, %w: tensor<4xf32>, %s: tensor<f32>) {
  // expected-error @+1 {{the body must have 1 arguments (the expert's index, 0 row values, 0 per-expert values), got ('i32')}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) outs(%w : tensor<4xf32>) {
  ^bb0(%e: i32):
    moe.yield %s : tensor<f32>
  }
  return
}

// -----
// expert_c2: row values
func.func @f(%o: tensor<5xi32>, %x: tensor<?xf32>, %y: tensor<32xf32>, %z: tensor<31xf32>) {
  // expected-error @+1 {{row value #2 has 31 rows, but row value #1 has 32}}
  %0 = moe.expert offsets(%o : tensor<5xi32>)
      rows(%x, %y, %z : tensor<?xf32>, tensor<32xf32>, tensor<31xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>, %b: tensor<?xf32>, %c: tensor<?xf32>):
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// expert_c2: a row value has rows
func.func @f(%o: tensor<5xi32>, %x: tensor<f32>, %y: tensor<?xf32>) {
  // expected-error @+1 {{row value #0 must be M×…, got 'tensor<f32>'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<f32>) outs(%y : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// expert_c2: row destinations
func.func @f(%o: tensor<5xi32>, %x: tensor<32xf32>, %y: tensor<31xf32>) {
  // expected-error @+1 {{row destination #0 has 31 rows, but row value #0 has 32}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<32xf32>) outs(%y : tensor<31xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// expert_c2: row destinations among themselves
func.func @f(%o: tensor<5xi32>, %r: tensor<?xf32>, %x: tensor<32xf32>, %y: tensor<31xf32>) {
  // expected-error @+1 {{row destination #1 has 31 rows, but row destination #0 has 32}}
  %0:2 = moe.expert offsets(%o : tensor<5xi32>) rows(%r : tensor<?xf32>)
      outs(%x, %y : tensor<32xf32>, tensor<31xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    moe.yield %a, %a : tensor<?xf32>, tensor<?xf32>
  }
  return
}

// -----
// expert_c3: the element type and the inner dimensions
func.func @f(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %y: tensor<?xf32>) {
  // expected-error @+1 {{body argument #1 stands for rows of 'tensor<?x8xf32>' and must be a tensor of ?x8 of 'f32', got 'tensor<?x9xf32>'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>) outs(%y : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?x9xf32>):
    %r = tensor.extract_slice %a[0, 0] [5, 1] [1, 1] : tensor<?x9xf32> to tensor<5xf32>
    %s = tensor.cast %r : tensor<5xf32> to tensor<?xf32>
    moe.yield %s : tensor<?xf32>
  }
  return
}

// -----
// expert_c3: a dynamic number of rows
func.func @f(%o: tensor<5xi32>, %x: tensor<32xf32>) {
  // expected-error @+1 {{body argument #1 stands for rows of 'tensor<32xf32>' and must be a tensor of ? of 'f32', got 'tensor<32xf32>'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<32xf32>) outs(%x : tensor<32xf32>) {
  ^bb0(%e: index, %a: tensor<32xf32>):
    %s = tensor.cast %a : tensor<32xf32> to tensor<?xf32>
    moe.yield %s : tensor<?xf32>
  }
  return
}

// -----
// expert_c4
func.func @f(%o: tensor<5xi32>, %x: tensor<?xf32>, %w: tensor<5x8xf32>) {
  // expected-error @+1 {{per-expert value #0 must have a slice for each of the 4 experts of offsets, got 5x8}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?xf32>)
      params(%w : tensor<5x8xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>, %p: tensor<8xf32>):
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// expert_c5
func.func @f(%o: tensor<5xi32>, %x: tensor<?xf32>, %w: tensor<4x8xf32>) {
  // expected-error @+1 {{body argument #2 stands for a slice of 'tensor<4x8xf32>' and must be a tensor of 8 of 'f32', got 'tensor<4x8xf32>'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?xf32>)
      params(%w : tensor<4x8xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>, %p: tensor<4x8xf32>):
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// expert_c6: how many
func.func @f(%o: tensor<5xi32>, %x: tensor<?xf32>) {
  // expected-error @+1 {{yields 2 values for 1 destinations}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    moe.yield %a, %a : tensor<?xf32>, tensor<?xf32>
  }
  return
}

// -----
// expert_c6: rows first
func.func @f(%o: tensor<5xi32>, %x: tensor<?xf32>, %s: tensor<f32>, %w: tensor<4xf32>) {
  // expected-error @+1 {{row results must come before per-expert results, but result #1 is a row value}}
  %0:2 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?xf32>)
      outs(%w, %x : tensor<4xf32>, tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    moe.yield %s, %a : tensor<f32>, tensor<?xf32>
  }
  return
}

// -----
// expert_c7: the element type
func.func @f(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %y: tensor<?x8xbf16>) {
  // expected-error @+1 {{yielded value #0 must be rows (dynamic in the first dimension) or one expert's slice of the destination 'tensor<?x8xbf16>', got 'tensor<?x8xf32>'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>)
      outs(%y : tensor<?x8xbf16>) {
  ^bb0(%e: index, %a: tensor<?x8xf32>):
    moe.yield %a : tensor<?x8xf32>
  }
  return
}

// -----
// expert_c7: a dynamic number of rows
func.func @f(%o: tensor<5xi32>, %x: tensor<?xf32>, %c: tensor<6xf32>) {
  // expected-error @+1 {{yielded value #0 must be rows (dynamic in the first dimension) or one expert's slice of the destination 'tensor<?xf32>', got 'tensor<6xf32>'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    moe.yield %c : tensor<6xf32>
  }
  return
}

// -----
// expert_c7: a per-expert destination has E slices
func.func @f(%o: tensor<5xi32>, %s: tensor<8xf32>, %w: tensor<3x8xf32>) {
  // expected-error @+1 {{destination 'tensor<3x8xf32>', got 'tensor<8xf32>'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) outs(%w : tensor<3x8xf32>) {
  ^bb0(%e: index):
    moe.yield %s : tensor<8xf32>
  }
  return
}

// -----
// expert_c7: neither the rank of the destination nor one less
func.func @f(%o: tensor<5xi32>, %s: tensor<f32>, %w: tensor<4x8xf32>) {
  // expected-error @+1 {{destination 'tensor<4x8xf32>', got 'tensor<f32>'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) outs(%w : tensor<4x8xf32>) {
  ^bb0(%e: index):
    moe.yield %s : tensor<f32>
  }
  return
}

// -----
// expert_c8: no effect on buffers from above
func.func @f(%o: tensor<5xi32>, %x: tensor<?xf32>, %m: memref<8xf32>) {
  %zero = arith.constant 0.0 : f32
  // expected-error @+1 {{the body must have no side effects, but holds 'linalg.fill'; compute on values inside and store outside}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    // expected-note @+1 {{the operation in question}}
    linalg.fill ins(%zero : f32) outs(%m : memref<8xf32>)
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// expert_c8: none in a nested region, and reading is one
func.func @f(%o: tensor<5xi32>, %x: tensor<?xf32>, %m: memref<8xf32>, %b: i1) {
  %zero = arith.constant 0 : index
  // expected-error @+1 {{the body must have no side effects, but holds 'memref.load'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    scf.if %b {
      // expected-note @+1 {{the operation in question}}
      %v = memref.load %m[%zero] : memref<8xf32>
    }
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// expert_c8: nor a call, of which nothing is known
func.func private @callee()
func.func @f(%o: tensor<5xi32>, %x: tensor<?xf32>) {
  // expected-error @+1 {{the body must have no side effects, but holds 'func.call'}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    // expected-note @+1 {{the operation in question}}
    func.call @callee() : () -> ()
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// expert_c9: an element
func.func @f(%o: tensor<0xi32>, %x: tensor<?xf32>) {
  // expected-error @+1 {{offsets must have rank 1 and E+1 elements, got 'tensor<0xi32>'}}
  %0 = moe.expert offsets(%o : tensor<0xi32>) rows(%x : tensor<?xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// expert_c9: rank 1
func.func @f(%o: tensor<1x5xi32>, %x: tensor<?xf32>) {
  // expected-error @+1 {{offsets must have rank 1 and E+1 elements, got 'tensor<1x5xi32>'}}
  %0 = moe.expert offsets(%o : tensor<1x5xi32>) rows(%x : tensor<?xf32>) outs(%x : tensor<?xf32>) {
  ^bb0(%e: index, %a: tensor<?xf32>):
    moe.yield %a : tensor<?xf32>
  }
  return
}

// -----
// combine_c1
func.func @f(%r: tensor<32x8xf32>, %s: tensor<16x2xi32>, %w: memref<16x2xf32>, %y: tensor<16x8xf32>) {
  // expected-error @+1 {{mixes tensors and memrefs}}
  %0 = moe.combine rows(%r : tensor<32x8xf32>) slots(%s : tensor<16x2xi32>)
      weights(%w : memref<16x2xf32>) outs(%y : tensor<16x8xf32>)
  return
}

// -----
// combine_c2
func.func @f(%r: tensor<32x8xf32>, %s: tensor<16x2xi32>, %w: tensor<16x3xf32>, %y: tensor<16x8xf32>) {
  // expected-error @+1 {{weights must have the shape of slots, 16x2, got 16x3}}
  %0 = moe.combine rows(%r : tensor<32x8xf32>) slots(%s : tensor<16x2xi32>)
      weights(%w : tensor<16x3xf32>) outs(%y : tensor<16x8xf32>)
  return
}

// -----
// combine_c3: one
func.func @f(%r: tensor<32x8xf32>, %s: tensor<16x2xi32>, %w: tensor<16x2xf32>, %y: tensor<16x8xf32>) {
  // expected-error @+1 {{needs one destination T×H, got 2}}
  %0:2 = moe.combine rows(%r : tensor<32x8xf32>) slots(%s : tensor<16x2xi32>)
      weights(%w : tensor<16x2xf32>) outs(%y, %y : tensor<16x8xf32>, tensor<16x8xf32>)
  return
}

// -----
// combine_c3: T×H
func.func @f(%r: tensor<32x8xf32>, %s: tensor<?x2xi32>, %w: tensor<?x2xf32>, %y: tensor<16x9xf32>) {
  // expected-error @+1 {{the destination must be T×H = ?x8 (tokens of slots, width of rows), got 16x9}}
  %0 = moe.combine rows(%r : tensor<32x8xf32>) slots(%s : tensor<?x2xi32>)
      weights(%w : tensor<?x2xf32>) outs(%y : tensor<16x9xf32>)
  return
}

// -----
// combine_c3: at most 32 bits
func.func @f(%r: tensor<32x8xf32>, %s: tensor<16x2xi32>, %w: tensor<16x2xf32>, %y: tensor<16x8xf64>) {
  // expected-error @+1 {{operand #3 must be variadic of 2D tensor of 32-bit float or 16-bit float or bfloat16 type values}}
  %0 = moe.combine rows(%r : tensor<32x8xf32>) slots(%s : tensor<16x2xi32>)
      weights(%w : tensor<16x2xf32>) outs(%y : tensor<16x8xf64>)
  return
}

// -----
// combine_c4
func.func @f(%r: tensor<32x8xf32>, %s: tensor<16x2xi32>, %w: tensor<16x2xf32>, %b: tensor<16x9xf32>,
             %y: tensor<16x8xf32>) {
  // expected-error @+1 {{base must have the shape of the result, 16x8, got 16x9}}
  %0 = moe.combine rows(%r : tensor<32x8xf32>) slots(%s : tensor<16x2xi32>)
      weights(%w : tensor<16x2xf32>) base(%b : tensor<16x9xf32>) outs(%y : tensor<16x8xf32>)
  return
}

// -----
// combine_c4: even where the destination does not say it
func.func @f(%r: tensor<32x8xf32>, %s: tensor<16x2xi32>, %w: tensor<16x2xf32>, %b: tensor<9x?xf32>,
             %y: tensor<?x8xf32>) {
  // expected-error @+1 {{base must have the shape of the result, 16x8, got 9x?}}
  %0 = moe.combine rows(%r : tensor<32x8xf32>) slots(%s : tensor<16x2xi32>)
      weights(%w : tensor<16x2xf32>) base(%b : tensor<9x?xf32>) outs(%y : tensor<?x8xf32>)
  return
}

// -----
// plan_c1
func.func @f(%ids: memref<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{mixes tensors and memrefs; bufferize all operands or none}}
  %0:3 = moe.plan ids(%ids : memref<16x2xi32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// plan_c2: how many
func.func @f(%ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>) {
  // expected-error @+1 {{needs three destinations, offsets (rank 1), slots (rank 2) and source (rank 1), got 'tensor<5xi32>', 'tensor<16x2xi32>'}}
  %0:2 = moe.plan ids(%ids : tensor<16x2xi32>) outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return
}

// -----
// plan_c2: their ranks
func.func @f(%ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>) {
  // expected-error @+1 {{needs three destinations}}
  %0:3 = moe.plan ids(%ids : tensor<16x2xi32>)
      outs(%o, %s, %s : tensor<5xi32>, tensor<16x2xi32>, tensor<16x2xi32>)
  return
}

// -----
// plan_c3
func.func @f(%ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x3xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{slots must have the shape of ids, 16x2, got 16x3}}
  %0:3 = moe.plan ids(%ids : tensor<16x2xi32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x3xi32>, tensor<32xi32>)
  return
}

// -----
// plan_c4
func.func @f(%ids: tensor<16x2xi32>, %o: tensor<0xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{offsets has 0 elements; for E experts it has E+1}}
  %0:3 = moe.plan ids(%ids : tensor<16x2xi32>)
      outs(%o, %s, %r : tensor<0xi32>, tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// plan_c5
func.func @f(%c: index, %ids: tensor<16x2xi32>, %p: tensor<16x3xf32>, %o: tensor<5xi32>,
             %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{priority must have the shape of ids, 16x2, got 16x3}}
  %0:3 = moe.plan ids(%ids : tensor<16x2xi32>) capacity(%c) priority(%p : tensor<16x3xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// plan_c6
func.func @f(%n: index, %ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>,
             %r: tensor<32xi32>) {
  // expected-error @+1 {{add capacity(…) or remove them}}
  %0:3 = moe.plan ids(%ids : tensor<16x2xi32>) tokens_per_group(%n)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// argument_c1
// expected-error @+1 {{argument 0 has the unknown attribute 'moe.nam'; the moe dialect has 'moe.param' and 'moe.name'}}
func.func private @f(tensor<4xf32> {moe.nam = "x"})

// -----
// argument_c2
// expected-error @+1 {{result 0 has the unknown attribute 'moe.param'; for results the moe dialect has 'moe.name'}}
func.func private @f() -> (tensor<4xf32> {moe.param = "x"})

// -----
// argument_c3
// expected-error @+1 {{argument 1: 'moe.param' must be a non-empty string, got 7}}
func.func private @f(f32, tensor<4xf32> {moe.param = 7})

// -----
// argument_c3: of results
// expected-error @+1 {{result 0: 'moe.name' must be a non-empty string, got ""}}
func.func private @f() -> (tensor<4xf32> {moe.name = ""})

// -----
// lowering_config_c1
func.func @f(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{'moe.gate' op 'moe.lowering_config' is {block_tokens = 32 : i64}; use #moe.cpu_routing<block_tokens = N>}}
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>) {moe.lowering_config = {block_tokens = 32 : i64}}
  return
}

// -----
// lowering_config_c1: of other ops
// expected-error @+1 {{'func.func' op 'moe.lowering_config' is "fast"; use it on moe.grouped_matmul, moe.gate and moe.plan}}
func.func private @f() attributes {moe.lowering_config = "fast"}

// -----
// lowering_config_c2
func.func @f(%ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{'moe.plan' op 'moe.lowering_config' is #moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64, groups = 2, stages = 4>, which does not say how such an op runs; use #moe.cpu_routing<block_tokens = N>}}
  %0:3 = moe.plan ids(%ids : tensor<16x2xi32>) outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>)
      {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64, groups = 2, stages = 4>}
  return
}

// -----
// lowering_config_c2: of a matmul
func.func @f(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<?x6xf32>) {
  // expected-error @+1 {{'moe.lowering_config' is #moe.cpu_routing<block_tokens = 32>, which does not say how such an op runs; use #moe.cpu_matmul, #moe.gpu_matmul or #moe.gpu_wgmma}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<?x6xf32>)
      attributes {moe.lowering_config = #moe.cpu_routing<block_tokens = 32>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

//===----------------------------------------------------------------------===//
// What the syntax and the operand types rule out
//===----------------------------------------------------------------------===//

// -----
func.func @f(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{expected one of [softmax, sigmoid, sqrt_softplus, none] for how logits become scores, got: softmin}}
  %0:2 = moe.gate score(softmin) ins(%l : tensor<16x4xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

// -----
func.func @f(%l: tensor<4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  // expected-error @+1 {{operand #0 must be}}
  %0:2 = moe.gate score(softmax) ins(%l : tensor<4xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

// -----
func.func @f(%ids: tensor<16x2xi64>, %o: tensor<5xi32>, %s: tensor<16x2xi32>) {
  // expected-error @+1 {{operand #0 must be}}
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi64>)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return
}

// -----
func.func @f(%x: tensor<?xf32>) {
  // expected-error @+1 {{expects parent op to be one of 'moe.expert, moe.grouped_matmul, moe.route'}}
  "moe.yield"(%x) : (tensor<?xf32>) -> ()
}

// -----
// A result is the tensor of its destination.
func.func @f(%r: tensor<32x8xf32>, %s: tensor<16x2xi32>, %w: tensor<16x2xf32>, %y: tensor<16x8xf32>) {
  // expected-error @+1 {{expected type of operand #3 ('tensor<16x8xf32>') to match type of corresponding result ('tensor<?x8xf32>')}}
  %0 = "moe.combine"(%r, %s, %w, %y) <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>}>
      : (tensor<32x8xf32>, tensor<16x2xi32>, tensor<16x2xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
  return
}
