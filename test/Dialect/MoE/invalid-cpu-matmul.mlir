// RUN: moe-opt %s --split-input-file --verify-diagnostics

// cpu_matmul_c1
// expected-error @+1 {{cpu_matmul: sizes must be at least 1, got 0}}
func.func private @size() attributes {c = #moe.cpu_matmul<tile_rows = 0, tile_columns = 6, block_rows = 128, block_columns = 48, block_sum = 2048, lanes = 16>}

// -----

// cpu_matmul_c1
// expected-error @+1 {{cpu_matmul: lanes = 12 is not a power of two}}
func.func private @lanes() attributes {c = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 48, block_sum = 2048, lanes = 12>}

// -----

// cpu_matmul_c1
// expected-error @+1 {{cpu_matmul: tile_columns = 6 is more than lanes = 4}}
func.func private @columns() attributes {c = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 48, block_sum = 2048, lanes = 4>}

// -----

// cpu_matmul_c2
// expected-error @+1 {{cpu_matmul: block_rows = 127 is not a multiple of 4}}
func.func private @rows() attributes {c = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 127, block_columns = 48, block_sum = 2048, lanes = 16>}

// -----

// cpu_matmul_c2
// expected-error @+1 {{cpu_matmul: block_columns = 42 is not a multiple of 16}}
func.func private @block() attributes {c = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 42, block_sum = 2048, lanes = 16>}

// -----

// cpu_matmul_c2
// expected-error @+1 {{cpu_matmul: block_sum = 2064 is not a multiple of 32}}
func.func private @sum() attributes {c = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 48, block_sum = 2064, lanes = 16, bf16_dot = true>}
