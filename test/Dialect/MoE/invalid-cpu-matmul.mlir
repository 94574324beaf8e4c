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
func.func private @sum() attributes {c = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 48, block_sum = 2064, lanes = 16, kernel = bf16_dot>}

// -----

// cpu_matmul_c2
// expected-error @+1 {{cpu_matmul: block_sum = 2064 is not a multiple of 32}}
func.func private @amx_sum() attributes {c = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 2064, lanes = 16, kernel = amx>}

// -----

// cpu_matmul_c3
// expected-error @+1 {{cpu_matmul: kernel = amx has tiles of 16 × 16 results, got tile_rows = 4 and tile_columns = 6; use them, or another kernel}}
func.func private @amx_tile() attributes {c = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 96, block_sum = 2048, lanes = 16, kernel = amx>}

// -----

// cpu_matmul_c3
// expected-error @+1 {{cpu_matmul: kernel = amx has lanes = 16, got 32; use it, or another kernel}}
func.func private @amx_lanes() attributes {c = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 2048, lanes = 32, kernel = amx>}

// -----

// cpu_matmul_c3
// expected-error @+1 {{cpu_matmul: block_columns = 48 is not a multiple of 32, the two tiles that kernel = amx multiplies at once; round it up}}
func.func private @amx_block() attributes {c = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 48, block_sum = 2048, lanes = 16, kernel = amx>}

// -----

// cpu_matmul_c4
// expected-error @+1 {{cpu_matmul: a tile of 16 × 16 results takes more than the 32 vector registers that a CPU has; use a smaller one, or kernel = amx}}
func.func private @registers() attributes {c = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 2048, lanes = 16, kernel = bf16_dot>}

// -----

// cpu_matmul_c4
// expected-error @+1 {{cpu_matmul: a tile of 4294967296 × 4 results takes more}}
func.func private @overflow() attributes {c = #moe.cpu_matmul<tile_rows = 4294967296, tile_columns = 4, block_rows = 4294967296, block_columns = 16, block_sum = 2048, lanes = 16>}

// -----

// cpu_matmul_c4
// expected-error @+1 {{cpu_matmul: kernel = bf16_dot has at most 16 lanes, got 32; use fewer, or kernel = fma}}
func.func private @dot_lanes() attributes {c = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 96, block_sum = 2048, lanes = 32, kernel = bf16_dot>}

// -----

// The kernel has a name.
// expected-error @+2 {{expected one of [fma, bf16_dot, amx] for what multiplies on a CPU, got: vnni}}
// expected-error @+1 {{failed to parse MoE_CPUMatmulAttr parameter 'kernel'}}
func.func private @kernel() attributes {c = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 48, block_sum = 2048, lanes = 16, kernel = vnni>}

// -----

// cpu_routing_c1
// expected-error @+1 {{cpu_routing: block_tokens must be at least 1, got 0}}
func.func private @tokens() attributes {c = #moe.cpu_routing<block_tokens = 0>}
