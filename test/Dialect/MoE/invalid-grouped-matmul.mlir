// A case for each numbered constraint of moe.grouped_matmul, in the order of its definition, then
// what the syntax and the operand types rule out.

// RUN: moe-opt %s --split-input-file --verify-diagnostics

// grouped_matmul_c1
func.func @f(%o: memref<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{mixes tensors and memrefs; bufferize all operands or none}}
  %0 = moe.grouped_matmul offsets(%o : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c2
func.func @f(%o: tensor<0xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{offsets has 0 elements; for E experts it has E+1}}
  %0 = moe.grouped_matmul offsets(%o : tensor<0xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c3: there is one
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>) {
  // expected-error @+1 {{needs a destination, M×N or T×N with combine}}
  moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs() {
  ^bb0(%p: f32):
    moe.yield
  }
  return
}

// -----
// grouped_matmul_c3: M is that of the rows that are read
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<?x6xf32>,
             %z: tensor<31x6xf32>) {
  // expected-error @+1 {{destination #1 must be M×N = 32x6, got 31x6}}
  %0:2 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      outs(%y, %z : tensor<?x6xf32>, tensor<31x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p, %p : f32, f32
  }
  return
}

// -----
// grouped_matmul_c3: M is that of all rows that are read
func.func @f(%o: tensor<5xi32>, %s: tensor<32xi32>, %x: tensor<31x8xf32>, %w: tensor<4x6x8xf32>,
             %y: tensor<?x6xf32>) {
  // expected-error @+1 {{an lhs indexed [m, k] must have M = 32 rows, got 31}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%s : tensor<32xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<31x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<?x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c3: of one shape
func.func @f(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<?x6xf32>,
             %z: tensor<?x5xf32>) {
  // expected-error @+1 {{destination #1 must be M×N = ?x6, got ?x5}}
  %0:2 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x6x8xf32>)
      outs(%y, %z : tensor<?x6xf32>, tensor<?x5xf32>) {
  ^bb0(%p: f32):
    moe.yield %p, %p : f32, f32
  }
  return
}

// -----
// grouped_matmul_c3: even where the first destination does not say it
func.func @f(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<?x?xf32>,
             %z: tensor<31x6xf32>, %u: tensor<32x6xf32>) {
  // expected-error @+1 {{destination #2 must be M×N = 31x6, got 32x6}}
  %0:3 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x6x8xf32>)
      outs(%y, %z, %u : tensor<?x?xf32>, tensor<31x6xf32>, tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p, %p, %p : f32, f32, f32
  }
  return
}

// -----
// grouped_matmul_c3: with combine, the tokens
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %s: tensor<16x2xi32>,
             %g: tensor<16x2xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{with combine needs one destination T×N, T = 16, got 'tensor<32x6xf32>'}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      combine(%s : tensor<16x2xi32>, %g : tensor<16x2xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c3: with combine, one
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %s: tensor<16x2xi32>,
             %g: tensor<16x2xf32>, %y: tensor<16x6xf32>) {
  // expected-error @+1 {{with combine needs one destination T×N, T = 16, got 'tensor<16x6xf32>', 'tensor<16x6xf32>'}}
  %0:2 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      combine(%s : tensor<16x2xi32>, %g : tensor<16x2xf32>)
      outs(%y, %y : tensor<16x6xf32>, tensor<16x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p, %p : f32, f32
  }
  return
}

// -----
#mk = affine_map<(e, m, t, j, n, k) -> (m, k)>
#enk = affine_map<(e, m, t, j, n, k) -> (e, n, k)>
// grouped_matmul_c4: a product without terms
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{a product has 0 terms, needs one}}
  %0 = "moe.grouped_matmul"(%o, %x, %w, %y) <{factor_maps = [#mk, #enk],
      operandSegmentSizes = array<i32: 1, 0, 2, 0, 0, 0, 0, 1>, lhs_sizes = array<i32: 1>, product_sizes = array<i32: 0, 1>,
      term_sizes = array<i32: 2>}> ({
  ^bb0(%p: f32, %q: f32):
    "moe.yield"(%p) : (f32) -> ()
  }, {}, {}) : (tensor<5xi32>, tensor<32x8xf32>, tensor<4x6x8xf32>, tensor<32x6xf32>) -> tensor<32x6xf32>
  return
}

// -----
#mk = affine_map<(e, m, t, j, n, k) -> (m, k)>
#enk = affine_map<(e, m, t, j, n, k) -> (e, n, k)>
// grouped_matmul_c4: a term of an lhs alone
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{a term has 1 factors, needs an lhs and a weight}}
  %0 = "moe.grouped_matmul"(%o, %x, %w, %y) <{factor_maps = [#mk, #enk],
      operandSegmentSizes = array<i32: 1, 0, 2, 0, 0, 0, 0, 1>, lhs_sizes = array<i32: 1>, product_sizes = array<i32: 1>,
      term_sizes = array<i32: 1>}> ({
  ^bb0(%p: f32):
    "moe.yield"(%p) : (f32) -> ()
  }, {}, {}) : (tensor<5xi32>, tensor<32x8xf32>, tensor<4x6x8xf32>, tensor<32x6xf32>) -> tensor<32x6xf32>
  return
}

// -----
#mk = affine_map<(e, m, t, j, n, k) -> (m, k)>
#enk = affine_map<(e, m, t, j, n, k) -> (e, n, k)>
// grouped_matmul_c4: the numbers add up
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{product_sizes count 2 terms, term_sizes 2 and two factor regions each, of which there are 2; term_sizes count 4 factors of 2}}
  %0 = "moe.grouped_matmul"(%o, %x, %w, %y) <{factor_maps = [#mk, #enk],
      operandSegmentSizes = array<i32: 1, 0, 2, 0, 0, 0, 0, 1>, lhs_sizes = array<i32: 1, 1>, product_sizes = array<i32: 1, 1>,
      term_sizes = array<i32: 2, 2>}> ({
  ^bb0(%p: f32, %q: f32):
    "moe.yield"(%p) : (f32) -> ()
  }, {}, {}) : (tensor<5xi32>, tensor<32x8xf32>, tensor<4x6x8xf32>, tensor<32x6xf32>) -> tensor<32x6xf32>
  return
}

// -----
#mk = affine_map<(e, m, t, j, n, k) -> (m, k)>
#enk = affine_map<(e, m, t, j, n, k) -> (e, n, k)>
// grouped_matmul_c4: a weight for each term
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{a term of 2 factors has 2 of them for its lhs, needs at least one, and one for its weight}}
  %0 = "moe.grouped_matmul"(%o, %x, %w, %y) <{factor_maps = [#mk, #enk],
      operandSegmentSizes = array<i32: 1, 0, 2, 0, 0, 0, 0, 1>, lhs_sizes = array<i32: 2>, product_sizes = array<i32: 1>,
      term_sizes = array<i32: 2>}> ({
  ^bb0(%p: f32):
    "moe.yield"(%p) : (f32) -> ()
  }, {}, {}) : (tensor<5xi32>, tensor<32x8xf32>, tensor<4x6x8xf32>, tensor<32x6xf32>) -> tensor<32x6xf32>
  return
}

// -----
#mk = affine_map<(e, m, t, j, n, k) -> (m, k)>
#enk = affine_map<(e, m, t, j, n, k) -> (e, n, k)>
// grouped_matmul_c4: as many sizes as terms
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{lhs_sizes has 2 elements, needs one for each of 1 terms}}
  %0 = "moe.grouped_matmul"(%o, %x, %w, %y) <{factor_maps = [#mk, #enk],
      operandSegmentSizes = array<i32: 1, 0, 2, 0, 0, 0, 0, 1>, lhs_sizes = array<i32: 1, 1>, product_sizes = array<i32: 1>,
      term_sizes = array<i32: 2>}> ({
  ^bb0(%p: f32):
    "moe.yield"(%p) : (f32) -> ()
  }, {}, {}) : (tensor<5xi32>, tensor<32x8xf32>, tensor<4x6x8xf32>, tensor<32x6xf32>) -> tensor<32x6xf32>
  return
}

// -----
// grouped_matmul_c4: no product at all
func.func @f(%o: tensor<5xi32>, %b: tensor<6xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{product_sizes count 0 terms}}
  %0 = "moe.grouped_matmul"(%o, %b, %y) <{factor_maps = [],
      extra_maps = [affine_map<(e, m, t, j, n, k) -> (n)>],
      operandSegmentSizes = array<i32: 1, 0, 0, 1, 0, 0, 0, 1>, lhs_sizes = array<i32>, product_sizes = array<i32>,
      term_sizes = array<i32>}> ({
  ^bb0(%p: f32):
    "moe.yield"(%p) : (f32) -> ()
  }) : (tensor<5xi32>, tensor<6xf32>, tensor<32x6xf32>) -> tensor<32x6xf32>
  return
}

// -----
// grouped_matmul_c5
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{factor #1 has rank 3 and needs as many index expressions in e, m, t, j, n, k, got 2}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c5: of an extra
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %b: tensor<6xf32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{extra #0 has rank 1 and needs as many index expressions in e, m, t, j, n, k, got 2}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      extras(%b[e, n] : tensor<6xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32, %z: f32):
    moe.yield %p : f32
  }
  return
}

// -----
#mk = affine_map<(e, m, t, j, n, k) -> (m, k)>
// grouped_matmul_c5: as many maps as operands
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{has 2 factors, but 1 index maps for them}}
  %0 = "moe.grouped_matmul"(%o, %x, %w, %y) <{factor_maps = [#mk],
      operandSegmentSizes = array<i32: 1, 0, 2, 0, 0, 0, 0, 1>, lhs_sizes = array<i32: 1>, product_sizes = array<i32: 1>,
      term_sizes = array<i32: 2>}> ({
  ^bb0(%p: f32):
    "moe.yield"(%p) : (f32) -> ()
  }, {}, {}) : (tensor<5xi32>, tensor<32x8xf32>, tensor<4x6x8xf32>, tensor<32x6xf32>) -> tensor<32x6xf32>
  return
}

// -----
// grouped_matmul_c5: of these six
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{factor #0 has rank 2 and needs as many index expressions in e, m, t, j, n, k, got 2}}
  %0 = "moe.grouped_matmul"(%o, %x, %w, %y) <{
      factor_maps = [affine_map<(m, k) -> (m, k)>, affine_map<(e, n, k) -> (e, n, k)>],
      operandSegmentSizes = array<i32: 1, 0, 2, 0, 0, 0, 0, 1>, lhs_sizes = array<i32: 1>, product_sizes = array<i32: 1>,
      term_sizes = array<i32: 2>}> ({
  ^bb0(%p: f32):
    "moe.yield"(%p) : (f32) -> ()
  }, {}, {}) : (tensor<5xi32>, tensor<32x8xf32>, tensor<4x6x8xf32>, tensor<32x6xf32>) -> tensor<32x6xf32>
  return
}

// -----
// grouped_matmul_c6
func.func @f(%o: tensor<5xi32>, %x: tensor<8x32xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{an lhs is indexed [m, k] or [t, k], but 'tensor<8x32xf32>' is indexed [k, m]}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[k, m] * %w[e, n, k] : tensor<8x32xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c6: of two dimensions
func.func @f(%o: tensor<5xi32>, %x: tensor<8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{an lhs is indexed [m, k] or [t, k], but 'tensor<8xf32>' is indexed [k]}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[k] * %w[e, n, k] : tensor<8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c6: an lhs is one for all columns
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %r: tensor<6xf32>, %w: tensor<4x6x8xf32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{an operand of a prologue cannot be indexed by n; an lhs is the same for all columns}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(prologue(%x[m, k], %r[n]) * %w[e, n, k]
               : tensor<32x8xf32>, tensor<6xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return
}

// -----
// grouped_matmul_c7
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<32x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{a weight cannot be indexed by m; only e, n and k choose it}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[m, n, k] : tensor<32x8xf32>, tensor<32x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c8
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{extra #0 cannot be indexed by k; the sum is over in the epilogue}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      extras(%x[m, k] : tensor<32x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32, %z: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c9: without source
func.func @f(%o: tensor<5xi32>, %x: tensor<16x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{an operand is indexed by t or j, which follow from source(…) and top_k(…); add both}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<16x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c9: without top_k
func.func @f(%o: tensor<5xi32>, %s: tensor<32xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>,
             %g: tensor<2xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{an operand is indexed by t or j}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%s : tensor<32xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      extras(%g[j] : tensor<2xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32, %z: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c9: top_k is a number of choices
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{top_k must be at least 1, got 0}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) top_k(0)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c10
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %s: tensor<16x2xi32>,
             %g: tensor<16x3xf32>, %y: tensor<16x6xf32>) {
  // expected-error @+1 {{combine needs slots and weights of one shape T×k, got 16x2 and 16x3}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      combine(%s : tensor<16x2xi32>, %g : tensor<16x3xf32>) outs(%y : tensor<16x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c10: top_k
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %s: tensor<16x2xi32>,
             %g: tensor<16x2xf32>, %y: tensor<16x6xf32>) {
  // expected-error @+1 {{combine has 2 choices a token, but top_k is 3}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) top_k(3)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      combine(%s : tensor<16x2xi32>, %g : tensor<16x2xf32>) outs(%y : tensor<16x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c10: base
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %s: tensor<16x2xi32>,
             %g: tensor<16x2xf32>, %b: tensor<16x5xf32>, %y: tensor<16x6xf32>) {
  // expected-error @+1 {{base must have the shape of the result, 16x6, got 16x5}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      combine(%s : tensor<16x2xi32>, %g : tensor<16x2xf32>) base(%b : tensor<16x5xf32>)
      outs(%y : tensor<16x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c10: base without combine
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %b: tensor<32x6xf32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{weights and base need combine(…)}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      base(%b : tensor<32x6xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c11: beyond the last column of a stacked weight
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x12x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{index 'n + 7' reaches 12, but dimension 1 of 'tensor<4x12x8xf32>' has 12 elements}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n + 7, k] : tensor<32x8xf32>, tensor<4x12x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c11: below the first one, whatever the sizes
func.func @f(%o: tensor<?xi32>, %x: tensor<?x?xf32>, %w: tensor<?x?x?xf32>, %y: tensor<?x?xf32>) {
  // expected-error @+1 {{index 'n - 1' falls to -1, but dimension 1 of 'tensor<?x?x?xf32>' starts at 0}}
  %0 = moe.grouped_matmul offsets(%o : tensor<?xi32>)
      products(%x[m, k] * %w[e, n - 1, k] : tensor<?x?xf32>, tensor<?x?x?xf32>) outs(%y : tensor<?x?xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c11: a column order that is turned around
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{index 'n * -1 + 4' falls to -1, but dimension 1 of 'tensor<4x6x8xf32>' starts at 0}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, 4 - n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c11: too few experts
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<3x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{index 'e' reaches 3, but dimension 0 of 'tensor<3x6x8xf32>' has 3 elements}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<3x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c11: the sums of two operands differ
func.func @f(%o: tensor<5xi32>, %x: tensor<32x9xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{index 'k' reaches 8, but dimension 2 of 'tensor<4x6x8xf32>' has 8 elements}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x9xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c11: of an extra, through mod and floordiv
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %b: tensor<2x3xf32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{index 'n mod 4' reaches 3, but dimension 1 of 'tensor<2x3xf32>' has 3 elements}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      extras(%b[n floordiv 4, n mod 4] : tensor<2x3xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32, %z: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c11: no value at all
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{index '(n mod 0) * 2' divides by a number that is not positive}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, (n mod 0) * 2, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c12
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xbf16>, %w: tensor<4x6x8xbf16>, %b: tensor<4x6xbf16>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{the epilogue's arguments must be ('f32', 'bf16'), got ('bf16', 'bf16')}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xbf16>, tensor<4x6x8xbf16>)
      extras(%b[e, n] : tensor<4x6xbf16>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: bf16, %z: bf16):
    %wide = arith.extf %p : bf16 to f32
    moe.yield %wide : f32
  }
  return
}

// -----
// grouped_matmul_c13
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xbf16>) {
  // expected-error @+1 {{the epilogue must yield a scalar for each destination ('tensor<32x6xbf16>'), got ('f32')}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xbf16>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c13: how many
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{the epilogue must yield a scalar for each destination ('tensor<32x6xf32>'), got ('f32', 'f32')}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p, %p : f32, f32
  }
  return
}

// -----
// grouped_matmul_c13: with combine
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %s: tensor<16x2xi32>,
             %g: tensor<16x2xf32>, %y: tensor<16x6xf32>) {
  // expected-error @+1 {{the epilogue must yield a scalar for each destination ('tensor<16x6xf32>'), got ('f64')}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      combine(%s : tensor<16x2xi32>, %g : tensor<16x2xf32>) outs(%y : tensor<16x6xf32>) {
  ^bb0(%p: f32):
    %wide = arith.extf %p : f32 to f64
    moe.yield %wide : f64
  }
  return
}

// -----
// grouped_matmul_c14: the arguments
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xi8>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{the decode region's arguments must be ('index', 'index', 'i8'), got ('i8')}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, n, k]) : tensor<32x8xf32>, tensor<4x6x8xi8>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%q: i8):
    %v = arith.sitofp %q : i8 to f32
    moe.yield %v : f32
  }
  return
}

// -----
// grouped_matmul_c14: what it yields
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xi8>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{a decode region must be one block that yields one float of at most 32 bits}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, n, k]) : tensor<32x8xf32>, tensor<4x6x8xi8>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %q: i8):
    moe.yield %q : i8
  }
  return
}

// -----
#mk = affine_map<(e, m, t, j, n, k) -> (m, k)>
#enk = affine_map<(e, m, t, j, n, k) -> (e, n, k)>
#en = affine_map<(e, m, t, j, n, k) -> (e, n)>
// grouped_matmul_c14: there is a region
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %s: tensor<4x6xf32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{a term of 3 factors needs a decode region; write decode(…)}}
  %0 = "moe.grouped_matmul"(%o, %x, %w, %s, %y) <{factor_maps = [#mk, #enk, #en],
      operandSegmentSizes = array<i32: 1, 0, 3, 0, 0, 0, 0, 1>, lhs_sizes = array<i32: 1>, product_sizes = array<i32: 1>,
      term_sizes = array<i32: 3>}> ({
  ^bb0(%p: f32):
    "moe.yield"(%p) : (f32) -> ()
  }, {}, {}) : (tensor<5xi32>, tensor<32x8xf32>, tensor<4x6x8xf32>, tensor<4x6xf32>, tensor<32x6xf32>)
      -> tensor<32x6xf32>
  return
}

// -----
// grouped_matmul_c15
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xi8>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{factors must be f32, f16 or bf16, got 'f32' and 'i8'; decode a weight of another type}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xi8>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c15: the lhs
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf64>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{factors must be f32, f16 or bf16, got 'f64' and 'f32'}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf64>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c16: the epilogue
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %b: memref<f32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{the epilogue must have no side effects, but holds 'memref.store'}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    // expected-note @+1 {{the operation in question}}
    memref.store %p, %b[] : memref<f32>
    moe.yield %p : f32
  }
  return
}

// -----
// grouped_matmul_c16: a decode region
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xi8>, %b: memref<f32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{the decode region must have no side effects, but holds 'memref.load'}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, n, k]) : tensor<32x8xf32>, tensor<4x6x8xi8>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %q: i8):
    // expected-note @+1 {{the operation in question}}
    %v = memref.load %b[] : memref<f32>
    moe.yield %v : f32
  }
  return
}

// -----
// grouped_matmul_c16: a prologue
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %b: memref<f32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{the prologue must have no side effects, but holds 'memref.load'}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(prologue(%x[m, k]) * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%a: f32):
    // expected-note @+1 {{the operation in question}}
    %v = memref.load %b[] : memref<f32>
    moe.yield %v : f32
  }
  return
}

// -----
// grouped_matmul_c17: the arguments
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf16>, %r: tensor<32xf32>, %w: tensor<4x6x8xf32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{the prologue's arguments must be ('f16', 'f32'), got ('f16')}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(prologue(%x[m, k], %r[m]) * %w[e, n, k]
               : tensor<32x8xf16>, tensor<32xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%a: f16):
    moe.yield %a : f16
  }
  return
}

// -----
// grouped_matmul_c17: what it yields
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf64>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{a prologue must be one block that yields one float of at most 32 bits}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(prologue(%x[m, k]) * %w[e, n, k] : tensor<32x8xf64>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%a: f64):
    moe.yield %a : f64
  }
  return
}

// -----
#mk = affine_map<(e, m, t, j, n, k) -> (m, k)>
#m = affine_map<(e, m, t, j, n, k) -> (m)>
#enk = affine_map<(e, m, t, j, n, k) -> (e, n, k)>
// grouped_matmul_c17: there is a region
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %r: tensor<32xf32>, %w: tensor<4x6x8xf32>,
             %y: tensor<32x6xf32>) {
  // expected-error @+1 {{a term with 2 operands for its lhs needs a prologue; write prologue(…)}}
  %0 = "moe.grouped_matmul"(%o, %x, %r, %w, %y) <{factor_maps = [#mk, #m, #enk],
      operandSegmentSizes = array<i32: 1, 0, 3, 0, 0, 0, 0, 1>, lhs_sizes = array<i32: 2>, product_sizes = array<i32: 1>,
      term_sizes = array<i32: 3>}> ({
  ^bb0(%p: f32):
    "moe.yield"(%p) : (f32) -> ()
  }, {}, {}) : (tensor<5xi32>, tensor<32x8xf32>, tensor<32xf32>, tensor<4x6x8xf32>, tensor<32x6xf32>)
      -> tensor<32x6xf32>
  return
}

//===----------------------------------------------------------------------===//
// What the syntax and the operand types rule out
//===----------------------------------------------------------------------===//

// -----
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      // expected-error @+1 {{expected '*'}}
      products(%x[m, k] : tensor<32x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      // expected-error @+1 {{use of undeclared identifier}}
      products(%x[m, k] * %w[e, q, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
func.func @f(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xi8>, %y: tensor<32x6xf32>) {
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, n, k]) : tensor<32x8xf32>, tensor<4x6x8xi8>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  // expected-error @+1 {{expected 'decode'}}
  return
}

// -----
func.func @f(%o: tensor<5xi64>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  // expected-error @+1 {{operand #0 must be}}
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi64>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----

// What the epilogue defines is used before it, and then the op does not parse: the use
// goes with the region (it was a write to freed memory).
func.func @used_before_a_region_that_goes(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x32x64xi8>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %early = arith.negf %p : f32
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, n, k]) : tensor<?x64xf32>, tensor<4x32x64xi8>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  // expected-error @+1 {{custom op 'moe.grouped_matmul' expected 'decode'}}
  } prologue {
  }
  return %y : tensor<?x32xf32>
}
