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

// -----

func.func @half_panel(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x2x64x32xf32>, %y: memref<?x64xf32>) {
  // expected-error @below {{has a lowering_config with tile_columns · lanes = 16, but a panel of packed weights has 32 columns; use tile_columns = 2}}
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k, n mod 32] : memref<?x64xf32>, memref<4x2x64x32xf32>)
      outs(%y : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 4, tile_columns = 1, block_rows = 8, block_columns = 64, block_sum = 64, lanes = 16>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----

func.func @part_of_panel(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x2x64x32xf32>, %y: memref<?x64xf32>) {
  // expected-error @below {{has a lowering_config with block_columns = 48, but a panel of packed weights has 32 columns; use a multiple of them}}
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k, n mod 32] : memref<?x64xf32>, memref<4x2x64x32xf32>)
      outs(%y : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 4, tile_columns = 2, block_rows = 8, block_columns = 48, block_sum = 64, lanes = 16>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----

func.func @gaps(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x2x64x32xf32, strided<[8192, 2048, 32, 1]>>, %y: memref<?x64xf32>) {
  // expected-error @below {{has packed weights of type 'memref<4x2x64x32xf32, strided<[8192, 2048, 32, 1]>>', which has gaps; pass the whole array}}
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k, n mod 32] : memref<?x64xf32>, memref<4x2x64x32xf32, strided<[8192, 2048, 32, 1]>>)
      outs(%y : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 4, tile_columns = 2, block_rows = 8, block_columns = 64, block_sum = 64, lanes = 16>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----

func.func @half_packed(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x2x64x32xf32>, %v: memref<4x64x64xf32>, %y: memref<?x64xf32>) {
  // expected-error @below {{some of its weights are packed and others are not; pack all, or none}}
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k, n mod 32], %x[m, k] * %v[e, n, k] : memref<?x64xf32>, memref<4x2x64x32xf32>, memref<?x64xf32>, memref<4x64x64xf32>)
      outs(%y : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 4, tile_columns = 2, block_rows = 8, block_columns = 64, block_sum = 64, lanes = 16>} {
  ^bb0(%p: f32, %q: f32):
    moe.yield %p : f32
  }
  return
}
