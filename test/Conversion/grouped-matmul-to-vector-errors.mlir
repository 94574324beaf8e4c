// RUN: moe-opt %s --moe-grouped-matmul-to-vector --verify-diagnostics --split-input-file

func.func @narrow(%offsets: memref<5xi32>, %x: memref<?x64xbf16>, %w: memref<4x64x128xbf16>, %y: memref<?x128xf32>) {
  // expected-error @below {{has a lowering_config with block_columns = 48, but weights with n last make a tile of 64 columns; use a multiple of 64}}
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, n] : memref<?x64xbf16>, memref<4x64x128xbf16>)
      outs(%y : memref<?x128xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 48, block_sum = 64, lanes = 16, bf16_dot = true>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}
