// More kernels, for ptxas.test too: one product, few rows, weights with n last, combine.

// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_90 --moe-lower-to-gpu --moe-lower-kernels \
// RUN:     --nvvm-attach-target="chip=sm_90 O=3" --gpu-module-to-binary=format=isa | FileCheck %s

// CHECK-LABEL: .visible .entry down_matmul
// CHECK: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
func.func @down(%offsets: memref<65xi32>, %h: memref<?x1024xf16>, %w: memref<64x2048x1024xf16>, %y: memref<?x2048xf16>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>)
      products(%h[m, k] * %w[e, n, k] : memref<?x1024xf16>, memref<64x2048x1024xf16>)
      outs(%y : memref<?x2048xf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return
}

// CHECK-LABEL: .visible .entry few_rows_matmul
// CHECK: .maxntid 128, 1, 1
func.func @few_rows(%offsets: memref<65xi32>, %h: memref<64x1024xbf16>, %w: memref<64x2048x1024xbf16>, %y: memref<64x2048xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>)
      products(%h[m, k] * %w[e, n, k] : memref<64x1024xbf16>, memref<64x2048x1024xbf16>)
      outs(%y : memref<64x2048xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// CHECK-LABEL: .visible .entry transposed_matmul
// CHECK: ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16
func.func @transposed(%offsets: memref<65xi32>, %h: memref<?x1024xbf16>, %w: memref<64x1024x2048xbf16>, %y: memref<?x2048xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>)
      products(%h[m, k] * %w[e, k, n] : memref<?x1024xbf16>, memref<64x1024x2048xbf16>)
      outs(%y : memref<?x2048xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// Gate and up alternate: one product with weights of 2·N columns.
// CHECK-LABEL: .visible .entry alternating_matmul
// CHECK: ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16
func.func @alternating(%offsets: memref<33xi32>, %source: memref<?xi32>, %x: memref<?x2880xbf16>, %w: memref<32x2880x5760xbf16>, %h: memref<?x2880xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<33xi32>) source(%source : memref<?xi32>) top_k(4)
      products(%x[t, k] * %w[e, k, n * 2], %x[t, k] * %w[e, k, n * 2 + 1]
               : memref<?x2880xbf16>, memref<32x2880x5760xbf16>, memref<?x2880xbf16>, memref<32x2880x5760xbf16>)
      outs(%h : memref<?x2880xbf16>) {
  ^bb0(%g: f32, %u: f32):
    %one = arith.constant 1.0 : f32
    %minus = arith.negf %g : f32
    %e = math.exp %minus : f32
    %d = arith.addf %e, %one : f32
    %s = arith.divf %g, %d : f32
    %p = arith.mulf %s, %u : f32
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// Rows are weighted by a kernel before.
// CHECK-LABEL: .visible .entry weighted_permute
// CHECK: .maxntid 128, 1, 1
// CHECK: ld.global.v4
// CHECK: st.global.v4
// CHECK-LABEL: .visible .entry weighted_matmul
func.func @weighted(%offsets: memref<17xi32>, %source: memref<?xi32>, %x: memref<?x5120xbf16>, %s: memref<?x1xbf16>, %w: memref<16x5120x8192xbf16>, %y: memref<?x8192xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<17xi32>) source(%source : memref<?xi32>) top_k(1)
      products(prologue(%x[t, k], %s[t, j]) * %w[e, k, n] : memref<?x5120xbf16>, memref<?x1xbf16>, memref<16x5120x8192xbf16>)
      outs(%y : memref<?x8192xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  } prologue {
  ^bb0(%row: bf16, %weight: bf16):
    %weighted = arith.mulf %row, %weight : bf16
    moe.yield %weighted : bf16
  }
  return
}

// CHECK-LABEL: .visible .entry combine_combine
// CHECK: ld.global{{.*}}.v4
// CHECK: fma.rn.f32
func.func @combine(%rows: memref<?x2048xbf16>, %slots: memref<?x8xi32>, %weights: memref<?x8xf32>, %y: memref<?x2048xbf16>) {
  moe.combine rows(%rows : memref<?x2048xbf16>) slots(%slots : memref<?x8xi32>)
      weights(%weights : memref<?x8xf32>) outs(%y : memref<?x2048xbf16>)
  return
}
