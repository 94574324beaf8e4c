// One case a constraint of MoERouteOp.td, in the order of their numbers (constraints.test counts
// them).

// RUN: moe-opt %s -split-input-file -verify-diagnostics

// route_c1
func.func @f(%x: memref<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{mixes tensors and memrefs; bufferize all operands or none}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : memref<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c2: how many
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{needs five destinations: weights (T×k, f32, f16 or bf16), ids (T×k, i32), offsets (E+1, i32), slots (T×k, i32), source (M, i32); got}}
  %0:4 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>, tensor<16x2xi32>)
  return
}

// -----
// route_c2: their ranks and types
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{needs five destinations}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%i, %w, %o, %s, %r : tensor<16x2xi32>, tensor<16x2xf32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c3: T
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<15x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{slots must be T×k = 16x2 (the tokens of x, the choices of the other destinations), got 15x2}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<15x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c3: k
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x3xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{ids must be T×k = 16x2 (the tokens of x, the choices of the other destinations), got 16x3}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x3xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c4: x
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{x must be indexed [t, k]}}
  %0:5 = moe.route score(softmax) router(%x[k, t] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c4: the router
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{the router must be indexed [e, k] or [k, e]}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k mod 8] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c4: K
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{x has 8 elements a token, but the router 4 an expert}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[k, e] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c5: rank
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>, %b: tensor<4xf32>) {
  // expected-error @+1 {{extra #0 has rank 1 and needs as many index expressions in t, e, j, k, got 2}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      extras(%b[t, e] : tensor<4xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>) logits {
  ^bb0(%sum: f32, %eb: f32):
    moe.yield %sum : f32
  }
  return
}

// -----
// route_c5: logits are of no choice
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>, %b: tensor<4xf32>) {
  // expected-error @+1 {{extra #0 cannot be indexed by j}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      extras(%b[j] : tensor<4xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>) logits {
  ^bb0(%sum: f32, %eb: f32):
    moe.yield %sum : f32
  }
  return
}

// -----
// route_c5: the sum is over
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>, %b: tensor<4xf32>) {
  // expected-error @+1 {{weight extra #0 cannot be indexed by k}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      weight_extras(%b[k] : tensor<4xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>) weights {
  ^bb0(%weight: f32, %eb: f32):
    moe.yield %weight : f32
  }
  return
}

// -----
// route_c6: bias
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>, %b: tensor<5xf32>) {
  // expected-error @+1 {{bias has 5 elements, but the router 4 experts}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      bias(%b : tensor<5xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c6: id_map, where only the bias tells E
func.func @f(%x: tensor<16x8xf32>, %g: tensor<?x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>,
             %b: tensor<5xf32>, %m: tensor<6xi32>) {
  // expected-error @+1 {{id_map has 6 elements, but the router 5 experts}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<?x8xf32>)
      bias(%b : tensor<5xf32>) id_map(%m : tensor<6xi32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c7
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>, %b: tensor<4xf32>) {
  // expected-error @+1 {{index 'e + 1' reaches 4, but dimension 0 of 'tensor<4xf32>' has 4 elements}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      extras(%b[e + 1] : tensor<4xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>) logits {
  ^bb0(%sum: f32, %eb: f32):
    moe.yield %sum : f32
  }
  return
}

// -----
// route_c8
func.func @f(%x: tensor<16x8xf32>, %g: tensor<1x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{k = 2 must be between 1 and the number of experts, 1}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<1x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c9: scope
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{scope(selected) is a softmax over the selected logits, but the score is sigmoid}}
  %0:5 = moe.route score(sigmoid) scope(selected) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c9: groups
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{groups: count = 3 does not divide the 4 experts of logits}}
  %0:5 = moe.route score(softmax) groups<count = 3, keep = 2> router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c9: scale
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{scale must be finite, got 0x7F800000 : f32}}
  %0:5 = moe.route score(softmax) scale(0x7F800000) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c10
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<0xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{offsets has 0 elements; for E experts it has E+1}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<0xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c11
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>, %n: index) {
  // expected-error @+1 {{add capacity(…) or remove them}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      tokens_per_group(%n)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c12: arguments
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>, %b: tensor<4xbf16>) {
  // expected-error @+1 {{the arguments of 'logits' must be ('f32', 'bf16'), got ('f32')}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      extras(%b[e] : tensor<4xbf16>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>) logits {
  ^bb0(%sum: f32):
    moe.yield %sum : f32
  }
  return
}

// -----
// route_c12: results
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{'logits' must yield the logit (f32), or the logit and the mix (f32), got ('bf16')}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>) logits {
  ^bb0(%sum: f32):
    %b = arith.truncf %sum : f32 to bf16
    moe.yield %b : bf16
  }
  return
}

// -----
// route_c12: no region
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>, %b: tensor<4xf32>) {
  // expected-error @+1 {{extras are arguments of the region 'logits', which is missing}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      extras(%b[e] : tensor<4xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c13: arguments
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{the arguments of 'weights' must be ('f32'), got ()}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>) weights {
    %one = arith.constant 1.0 : f32
    moe.yield %one : f32
  }
  return
}

// -----
// route_c13: the result
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{'weights' must yield the element of its destination, 'f32', got ('bf16')}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>) weights {
  ^bb0(%weight: f32):
    %b = arith.truncf %weight : f32 to bf16
    moe.yield %b : bf16
  }
  return
}

// -----
// route_c13: no region for extras
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>, %b: tensor<4xf32>) {
  // expected-error @+1 {{weight extras are arguments of the region 'weights', which is missing}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      weight_extras(%b[e] : tensor<4xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c13: no region for a rounding
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xbf16>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{the destination of the weights is 'bf16'; round them in a region 'weights'}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xbf16>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----
// route_c14
func.func @f(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
             %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  // expected-error @+1 {{the region 'logits' must have no side effects, but holds 'vector.print'; compute on values inside and store outside}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>,
                               tensor<16x2xi32>, tensor<32xi32>) logits {
  ^bb0(%sum: f32):
    // expected-note @+1 {{the operation in question}}
    vector.print %sum : f32
    moe.yield %sum : f32
  }
  return
}
