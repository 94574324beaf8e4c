// RUN: moe-opt %s --moe-grouped-matmul-to-vector --verify-diagnostics --split-input-file

func.func @narrow(%offsets: memref<5xi32>, %x: memref<?x64xbf16>, %w: memref<4x64x128xbf16>, %y: memref<?x128xf32>) {
  // expected-error @below {{has a lowering_config with block_columns = 48, but weights with n last make a tile of 64 columns; use a multiple of 64}}
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, n] : memref<?x64xbf16>, memref<4x64x128xbf16>)
      outs(%y : memref<?x128xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 48, block_sum = 64, lanes = 16, kernel = bf16_dot>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----

func.func @amx_f32(%offsets: memref<5xi32>, %x: memref<?x64xbf16>, %w: memref<4x64x64xf32>, %y: memref<?x64xf32>) {
  // expected-error @below {{has a lowering_config with kernel = amx, but not all rows and weights are bf16; use another kernel}}
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x64xbf16>, memref<4x64x64xf32>)
      outs(%y : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 2048, lanes = 16, kernel = amx>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----

func.func @dot_f16(%offsets: memref<5xi32>, %x: memref<?x64xf16>, %w: memref<4x64x64xbf16>, %y: memref<?x64xf32>) {
  // expected-error @below {{has a lowering_config with kernel = bf16_dot, but not all rows and weights are bf16; use another kernel}}
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x64xf16>, memref<4x64x64xbf16>)
      outs(%y : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 64, block_sum = 64, lanes = 16, kernel = bf16_dot>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----

func.func @amx_columns(%offsets: memref<5xi32>, %x: memref<?x64xbf16>, %w: memref<4x64x64xbf16>, %y: memref<?x64xf32>) {
  // expected-error @below {{has a lowering_config with kernel = amx, but the columns of a weight are not at one distance; use another kernel}}
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, (n mod 32) * 2 + n floordiv 32, k] : memref<?x64xbf16>, memref<4x64x64xbf16>)
      outs(%y : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 2048, lanes = 16, kernel = amx>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}
