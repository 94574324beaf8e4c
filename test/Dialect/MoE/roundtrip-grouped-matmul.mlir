// moe.grouped_matmul with every attribute, optional operand and form of index, through text, the
// generic form and bytecode.

// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --emit-bytecode | moe-opt | FileCheck %s

// Rows that are read where they are: no source.
// CHECK-LABEL: func @rows
func.func @rows(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<?x6xf32>)
    -> tensor<?x6xf32> {
  // CHECK-NEXT: %[[Y:.*]] = moe.grouped_matmul offsets(%arg0 : tensor<5xi32>) products(%arg1[m, k] * %arg2[e, n, k] : tensor<?x8xf32>, tensor<4x6x8xf32>) outs(%arg3 : tensor<?x6xf32>) {
  // CHECK-NEXT: ^bb0(%[[P:.*]]: f32):
  // CHECK-NEXT:   moe.yield %[[P]] : f32
  // CHECK-NEXT: }
  // CHECK-NEXT: return %[[Y]]
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<?x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %0 : tensor<?x6xf32>
}

// Two products of gathered rows, and every layout of a checkpoint: E×N×K, E×K×N, stacked,
// interleaved, packed, shared by all experts.
// CHECK-LABEL: func @layouts
func.func @layouts(%o: tensor<5xi32>, %s: tensor<?xi32>, %x: tensor<?x8xbf16>, %nk: tensor<4x6x8xbf16>,
                   %kn: tensor<4x8x6xbf16>, %two: tensor<4x12x8xbf16>, %packed: tensor<4x3x4x2x2xf16>,
                   %shared: tensor<6x8xf32>, %y: tensor<?x6xbf16>) {
  // CHECK: source(%arg1 : tensor<?xi32>) top_k(2)
  // CHECK-SAME: products(%arg2[t, k] * %arg3[e, n, k], %arg2[t, k] * %arg4[e, k, n], %arg2[t, k] * %arg5[e, n + 6, k],
  // CHECK-SAME: %arg2[t, k] * %arg5[e, n * 2 + 1, k], %arg2[t, k] * %arg6[e, n floordiv 2, k floordiv 2, n mod 2, k mod 2],
  // CHECK-SAME: %arg2[t, k] * %arg7[n, k] : tensor<?x8xbf16>, tensor<4x6x8xbf16>, tensor<?x8xbf16>
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%s : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %nk[e, n, k], %x[t, k] * %kn[e, k, n], %x[t, k] * %two[e, n + 6, k],
               %x[t, k] * %two[e, 2 * n + 1, k],
               %x[t, k] * %packed[e, n floordiv 2, k floordiv 2, n mod 2, k mod 2], %x[t, k] * %shared[n, k]
               : tensor<?x8xbf16>, tensor<4x6x8xbf16>, tensor<?x8xbf16>, tensor<4x8x6xbf16>,
                 tensor<?x8xbf16>, tensor<4x12x8xbf16>, tensor<?x8xbf16>, tensor<4x12x8xbf16>,
                 tensor<?x8xbf16>, tensor<4x3x4x2x2xf16>, tensor<?x8xbf16>, tensor<6x8xf32>)
      outs(%y : tensor<?x6xbf16>) {
  ^bb0(%a: f32, %b: f32, %c: f32, %d: f32, %e: f32, %f: f32):
    %r = arith.truncf %a : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// Index expressions keep their meaning through parentheses, negative numbers and ceildiv.
// CHECK-LABEL: func @expressions
func.func @expressions(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<?x?x?xf32>, %y: tensor<?x6xf32>) {
  // CHECK: %arg2[(e + 1) * 3, (n + k) mod 4, k ceildiv 2]
  // CHECK-SAME: %arg2[e mod 2 + 1, n * -1 + 5, (k floordiv 2) * 2 + n mod 2]
  // CHECK-SAME: %arg2[e, (n ceildiv 2 + 1) * 2 - 1, 7]
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[(e + 1) * 3, (n + k) mod 4, k ceildiv 2],
               %x[m, k] * %w[1 + e mod 2, 5 - n, (k floordiv 2) * 2 + n mod 2],
               %x[m, k] * %w[e, (n ceildiv 2 + 1) * 2 - 1, 7]
               : tensor<?x8xf32>, tensor<?x?x?xf32>, tensor<?x8xf32>, tensor<?x?x?xf32>,
                 tensor<?x8xf32>, tensor<?x?x?xf32>)
      outs(%y : tensor<?x6xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    moe.yield %a : f32
  }
  return
}

// A product is a sum of terms, each with a K of its own; a low-rank addend is one.
// CHECK-LABEL: func @sums
func.func @sums(%o: tensor<5xi32>, %s: tensor<?xi32>, %x: tensor<?x8xf32>, %h: tensor<?x3xf16>,
                %w: tensor<4x6x8xf32>, %b: tensor<4x6x3xf16>, %y: tensor<?x6xf32>) {
  // CHECK: products(%arg2[t, k] * %arg4[e, n, k] + %arg3[m, k] * %arg5[e, n, k], %arg3[m, k] * %arg5[e, n, k] :
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%s : tensor<?xi32>) top_k(1)
      products(%x[t, k] * %w[e, n, k] + %h[m, k] * %b[e, n, k], %h[m, k] * %b[e, n, k]
               : tensor<?x8xf32>, tensor<4x6x8xf32>, tensor<?x3xf16>, tensor<4x6x3xf16>,
                 tensor<?x3xf16>, tensor<4x6x3xf16>)
      outs(%y : tensor<?x6xf32>) {
  ^bb0(%p: f32, %q: f32):
    moe.yield %q : f32
  }
  return
}

// Weights in two stored forms, each with its region; the term between them is read as it is.
// CHECK-LABEL: func @decode
func.func @decode(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %q: tensor<4x6x4xi8>, %sc: tensor<4x6x2xbf16>,
                  %w: tensor<4x6x8xf32>, %c: tensor<4x6x8xi8>, %y: tensor<?x6xf32>) {
  // CHECK: products(%arg1[m, k] * decode(%arg2[e, n, k floordiv 2], %arg3[e, n, k floordiv 4]),
  // CHECK-SAME: %arg1[m, k] * %arg4[e, n, k] + %arg1[m, k] * decode(%arg5[e, n, k]) :
  // CHECK-SAME: attributes {test.note = "kept"} {
  // CHECK-NEXT: ^bb0(%{{.*}}: f32, %[[Q:.*]]: f32):
  // CHECK-NEXT:   moe.yield %[[Q]] : f32
  // CHECK-NEXT: } decode {
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %{{.*}}: index, %{{.*}}: i8, %[[SCALE:.*]]: bf16):
  // CHECK-NEXT:   moe.yield %[[SCALE]] : bf16
  // CHECK-NEXT: } decode {
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %{{.*}}: index, %[[C:.*]]: i8):
  // CHECK-NEXT:   %[[V:.*]] = arith.sitofp %[[C]] : i8 to f32
  // CHECK-NEXT:   moe.yield %[[V]] : f32
  // CHECK-NEXT: }
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * decode(%q[e, n, k floordiv 2], %sc[e, n, k floordiv 4]),
               %x[m, k] * %w[e, n, k] + %x[m, k] * decode(%c[e, n, k])
               : tensor<?x8xf32>, tensor<4x6x4xi8>, tensor<4x6x2xbf16>, tensor<?x8xf32>, tensor<4x6x8xf32>,
                 tensor<?x8xf32>, tensor<4x6x8xi8>)
      outs(%y : tensor<?x6xf32>) attributes {test.note = "kept"} {
  ^bb0(%p: f32, %r: f32):
    moe.yield %r : f32
  } decode {
  ^bb0(%n: index, %k: index, %b: i8, %s: bf16):
    moe.yield %s : bf16
  } decode {
  ^bb0(%n: index, %k: index, %b: i8):
    %v = arith.sitofp %b : i8 to f32
    moe.yield %v : f32
  }
  return
}

// Rows that are computed first: of another type, with operands of every index but n; beside a decode
// region of the same term, and a term that is read as it is.
// CHECK-LABEL: func @prologue
func.func @prologue(%o: tensor<5xi32>, %src: tensor<?xi32>, %x: tensor<?x8xbf16>, %g: tensor<?x2xf32>,
                    %c: tensor<32x8xi8>, %r: tensor<32xf32>, %s: tensor<4x8xf16>, %w: tensor<4x6x8xbf16>,
                    %q: tensor<4x6x8xi8>, %y: tensor<32x6xf32>) {
  // CHECK: products(prologue(%arg2[t, k], %arg3[t, j]) * %arg7[e, n, k],
  // CHECK-SAME: prologue(%arg4[m, k], %arg5[m], %arg6[e, k]) * decode(%arg8[e, n, k]) + %arg2[t, k] * %arg7[e, n, k] :
  // CHECK-SAME: outs(%arg9 : tensor<32x6xf32>) {
  // CHECK: } prologue {
  // CHECK-NEXT: ^bb0(%[[X:.*]]: bf16, %[[G:.*]]: f32):
  // CHECK-NEXT:   moe.yield %[[X]] : bf16
  // CHECK-NEXT: } prologue {
  // CHECK-NEXT: ^bb0(%{{.*}}: i8, %[[R:.*]]: f32, %{{.*}}: f16):
  // CHECK-NEXT:   moe.yield %[[R]] : f32
  // CHECK-NEXT: } decode {
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %{{.*}}: index, %{{.*}}: i8):
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%src : tensor<?xi32>) top_k(2)
      products(prologue(%x[t, k], %g[t, j]) * %w[e, n, k],
               prologue(%c[m, k], %r[m], %s[e, k]) * decode(%q[e, n, k]) + %x[t, k] * %w[e, n, k]
               : tensor<?x8xbf16>, tensor<?x2xf32>, tensor<4x6x8xbf16>, tensor<32x8xi8>, tensor<32xf32>,
                 tensor<4x8xf16>, tensor<4x6x8xi8>, tensor<?x8xbf16>, tensor<4x6x8xbf16>)
      outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32, %z: f32):
    moe.yield %z : f32
  } prologue {
  ^bb0(%a: bf16, %b: f32):
    moe.yield %a : bf16
  } prologue {
  ^bb0(%a: i8, %b: f32, %d: f16):
    moe.yield %b : f32
  } decode {
  ^bb0(%n: index, %k: index, %b: i8):
    %v = arith.sitofp %b : i8 to f32
    moe.yield %v : f32
  }
  return
}

// Extras of every index, of any element type and rank, and several destinations.
// CHECK-LABEL: func @extras
func.func @extras(%o: tensor<5xi32>, %s: tensor<32xi32>, %x: tensor<16x8xf32>, %w: tensor<4x6x8xf32>,
                  %b: tensor<4x6xbf16>, %g: tensor<16x2xf32>, %r: tensor<32xi64>, %z: tensor<f64>,
                  %y: tensor<32x6xf32>, %h: tensor<32x6xi32>) {
  // CHECK: extras(%arg4[e, n], %arg5[t, j], %arg6[m], %arg7[], %arg2[t, n + 2] : tensor<4x6xbf16>, tensor<16x2xf32>, tensor<32xi64>, tensor<f64>, tensor<16x8xf32>)
  // CHECK-SAME: outs(%arg8, %arg9 : tensor<32x6xf32>, tensor<32x6xi32>) {
  // CHECK-NEXT: ^bb0(%[[P:.*]]: f32, %{{.*}}: bf16, %{{.*}}: f32, %[[R:.*]]: i64, %{{.*}}: f64, %{{.*}}: f32):
  %0:2 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%s : tensor<32xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<16x8xf32>, tensor<4x6x8xf32>)
      extras(%b[e, n], %g[t, j], %r[m], %z[], %x[t, n + 2]
             : tensor<4x6xbf16>, tensor<16x2xf32>, tensor<32xi64>, tensor<f64>, tensor<16x8xf32>)
      outs(%y, %h : tensor<32x6xf32>, tensor<32x6xi32>) {
  ^bb0(%p: f32, %be: bf16, %ge: f32, %re: i64, %ze: f64, %xe: f32):
    %low = arith.trunci %re : i64 to i32
    moe.yield %p, %low : f32, i32
  }
  return
}

// CHECK-LABEL: func @combine
func.func @combine(%o: tensor<?xi32>, %h: tensor<?x?xbf16>, %w: tensor<?x?x?xbf16>, %s: tensor<?x2xi32>,
                   %g: tensor<?x2xf16>, %base: tensor<?x?xf32>, %y: tensor<?x?xbf16>) {
  // CHECK: %combined = moe.grouped_matmul {{.*}} combine(%arg3 : tensor<?x2xi32>, %arg4 : tensor<?x2xf16>) outs(%arg6 : tensor<?x?xbf16>) {
  %0 = moe.grouped_matmul offsets(%o : tensor<?xi32>)
      products(%h[m, k] * %w[e, n, k] : tensor<?x?xbf16>, tensor<?x?x?xbf16>)
      combine(%s : tensor<?x2xi32>, %g : tensor<?x2xf16>) outs(%y : tensor<?x?xbf16>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  // CHECK: combine(%arg3 : tensor<?x2xi32>, %arg4 : tensor<?x2xf16>) base(%arg5 : tensor<?x?xf32>) outs(
  %1 = moe.grouped_matmul offsets(%o : tensor<?xi32>) top_k(2)
      products(%h[m, k] * %w[e, n, k] : tensor<?x?xbf16>, tensor<?x?x?xbf16>)
      combine(%s : tensor<?x2xi32>, %g : tensor<?x2xf16>) base(%base : tensor<?x?xf32>)
      outs(%y : tensor<?x?xbf16>) {
  ^bb0(%p: f32):
    %row = arith.truncf %p : f32 to bf16
    moe.yield %row : bf16
  }
  return
}

// On memrefs there is no result, and any layout and memory space goes.
// CHECK-LABEL: func @memrefs
func.func @memrefs(%o: memref<5xi32>, %s: memref<32xi32>, %x: memref<16x8xf32, strided<[16, 1], offset: ?>>,
                   %w: memref<4x6x8xf32, 1>, %b: memref<4x6xf32>, %y: memref<32x6xf32>) {
  // CHECK-NEXT: moe.grouped_matmul offsets(%arg0 : memref<5xi32>) source(%arg1 : memref<32xi32>) top_k(2)
  // CHECK-SAME: products(%arg2[t, k] * %arg3[e, n, k] : memref<16x8xf32, strided<[16, 1], offset: ?>>, memref<4x6x8xf32, 1>)
  // CHECK-SAME: extras(%arg4[e, n] : memref<4x6xf32>) outs(%arg5 : memref<32x6xf32>) {
  moe.grouped_matmul offsets(%o : memref<5xi32>) source(%s : memref<32xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : memref<16x8xf32, strided<[16, 1], offset: ?>>, memref<4x6x8xf32, 1>)
      extras(%b[e, n] : memref<4x6xf32>) outs(%y : memref<32x6xf32>) {
  ^bb0(%p: f32, %be: f32):
    %z = arith.addf %p, %be : f32
    moe.yield %z : f32
  }
  return
}

// A layer whose sizes are all known and where nothing is computed: no expert, and K = 0. What an
// index expression would reach is nothing.
// CHECK-LABEL: func @nothing
func.func @nothing(%o: tensor<1xi32>, %x: tensor<4x0xf32>, %w: tensor<0x6x0xf32>, %y: tensor<4x6xf32>) {
  // CHECK: moe.grouped_matmul
  %0 = moe.grouped_matmul offsets(%o : tensor<1xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<4x0xf32>, tensor<0x6x0xf32>) outs(%y : tensor<4x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}
