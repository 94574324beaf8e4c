// Grouped matmuls whose sums have LENGTH terms.
func.func @rows(%offsets: memref<9xi32>, %x: memref<?xLENGTHxbf16>, %w: memref<8x256xLENGTHxbf16>, %y: memref<?x256xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<9xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?xLENGTHxbf16>, memref<8x256xLENGTHxbf16>)
      outs(%y : memref<?x256xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

func.func @gated(%offsets: memref<9xi32>, %source: memref<?xi32>, %x: memref<?xLENGTHxbf16>, %w: memref<8xLENGTHx512xbf16>, %y: memref<?x256xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<9xi32>) source(%source : memref<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, k, n], %x[t, k] * %w[e, k, n + 256]
               : memref<?xLENGTHxbf16>, memref<8xLENGTHx512xbf16>, memref<?xLENGTHxbf16>, memref<8xLENGTHx512xbf16>)
      outs(%y : memref<?x256xbf16>) {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

func.func @few(%offsets: memref<9xi32>, %source: memref<16xi32>, %x: memref<8xLENGTHxbf16>, %w: memref<8x512xLENGTHxbf16>, %y: memref<16x256xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<9xi32>) source(%source : memref<16xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k], %x[t, k] * %w[e, n + 256, k]
               : memref<8xLENGTHxbf16>, memref<8x512xLENGTHxbf16>, memref<8xLENGTHxbf16>, memref<8x512xLENGTHxbf16>)
      outs(%y : memref<16x256xbf16>) {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}
