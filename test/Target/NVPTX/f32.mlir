// Factors of f32, for f32-sass.test too: two products, one, weights with n last, few rows, alternating columns.

// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_90a --moe-lower-to-gpu --moe-lower-kernels \
// RUN:     --nvvm-attach-target="chip=sm_90a O=3" --gpu-module-to-binary=format=isa | FileCheck %s

// CHECK: .target sm_90a
// CHECK-LABEL: .visible .entry f32_gate_up_matmul
// CHECK: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK: mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32
// CHECK: ex2.approx.ftz.f32
// CHECK-NOT: call
// CHECK-NOT: .local
func.func @f32_gate_up(%offsets: memref<65xi32>, %source: memref<?xi32>, %x: memref<?x2048xf32>, %w: memref<64x2048x2048xf32>, %h: memref<?x1024xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>) source(%source : memref<?xi32>) top_k(8)
      products(%x[t, k] * %w[e, n, k], %x[t, k] * %w[e, n + 1024, k]
               : memref<?x2048xf32>, memref<64x2048x2048xf32>, memref<?x2048xf32>, memref<64x2048x2048xf32>)
      outs(%h : memref<?x1024xf32>) {
  ^bb0(%g: f32, %u: f32):
    %one = arith.constant 1.0 : f32
    %minus = arith.negf %g : f32
    %e = math.exp %minus : f32
    %d = arith.addf %e, %one : f32
    %s = arith.divf %g, %d : f32
    %p = arith.mulf %s, %u : f32
    moe.yield %p : f32
  }
  return
}

// CHECK-LABEL: .visible .entry f32_down_matmul
// CHECK: .maxntid 256, 1, 1
// CHECK: st.global.v2.b32
func.func @f32_down(%offsets: memref<65xi32>, %h: memref<?x1024xf32>, %w: memref<64x2048x1024xf32>, %y: memref<?x2048xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>)
      products(%h[m, k] * %w[e, n, k] : memref<?x1024xf32>, memref<64x2048x1024xf32>)
      outs(%y : memref<?x2048xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// Words are read in pairs of columns: ldmatrix transposes b16 only.
// CHECK-LABEL: .visible .entry f32_transposed_matmul
// CHECK: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK: ld.shared.v2.b32
func.func @f32_transposed(%offsets: memref<65xi32>, %h: memref<?x1024xf32>, %w: memref<64x1024x2048xf32>, %y: memref<?x2048xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>)
      products(%h[m, k] * %w[e, k, n] : memref<?x1024xf32>, memref<64x1024x2048xf32>)
      outs(%y : memref<?x2048xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// CHECK-LABEL: .visible .entry f32_few_rows_matmul
// CHECK: .maxntid 128, 1, 1
func.func @f32_few_rows(%offsets: memref<65xi32>, %h: memref<64x1024xf32>, %w: memref<64x2048x1024xf32>, %y: memref<64x2048xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>)
      products(%h[m, k] * %w[e, n, k] : memref<64x1024xf32>, memref<64x2048x1024xf32>)
      outs(%y : memref<64x2048xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// Gate and up alternate: a lane reads both of two columns at once.
// CHECK-LABEL: .visible .entry f32_alternating_matmul
// CHECK: ld.shared.v2.b32
// CHECK: st.global.v2.b32
func.func @f32_alternating(%offsets: memref<33xi32>, %source: memref<?xi32>, %x: memref<?x2880xf32>, %w: memref<32x2880x5760xf32>, %h: memref<?x2880xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<33xi32>) source(%source : memref<?xi32>) top_k(4)
      products(%x[t, k] * %w[e, k, n * 2], %x[t, k] * %w[e, k, n * 2 + 1]
               : memref<?x2880xf32>, memref<32x2880x5760xf32>, memref<?x2880xf32>, memref<32x2880x5760xf32>)
      outs(%h : memref<?x2880xf32>) {
  ^bb0(%g: f32, %u: f32):
    %one = arith.constant 1.0 : f32
    %minus = arith.negf %g : f32
    %e = math.exp %minus : f32
    %d = arith.addf %e, %one : f32
    %s = arith.divf %g, %d : f32
    %p = arith.mulf %s, %u : f32
    moe.yield %p : f32
  }
  return
}
