// RUN: moe-opt %s --split-input-file --verify-diagnostics

// gpu_matmul_c1
// expected-error @+1 {{gpu_matmul: sizes must be at least 1, got 0}}
func.func private @size() attributes {c = #moe.gpu_matmul<tile_rows = 0, tile_columns = 128, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>}

// -----

// gpu_matmul_c1
// expected-error @+1 {{gpu_matmul: warp_rows × warp_columns must be a power of two from 2 to 32, got 1 × 1}}
func.func private @few() attributes {c = #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 64, warp_rows = 1, warp_columns = 1, stages = 4>}

// -----

// gpu_matmul_c1
// expected-error @+1 {{gpu_matmul: warp_rows × warp_columns must be a power of two from 2 to 32, got 8 × 8}}
func.func private @many() attributes {c = #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 64, warp_rows = 8, warp_columns = 8, stages = 4>}

// -----

// gpu_matmul_c2
// expected-error @+1 {{gpu_matmul: tile_rows = 48 is not a multiple of 16 · warp_rows = 32}}
func.func private @rows() attributes {c = #moe.gpu_matmul<tile_rows = 48, tile_columns = 128, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>}

// -----

// gpu_matmul_c2
// expected-error @+1 {{gpu_matmul: tile_columns = 96 is not a multiple of 16 · warp_columns = 64}}
func.func private @columns() attributes {c = #moe.gpu_matmul<tile_rows = 128, tile_columns = 96, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>}

// -----

// gpu_matmul_c3
// expected-error @+1 {{gpu_matmul: tile_sum must be 64, or 32 for factors of f32, got 16}}
func.func private @sum() attributes {c = #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 16, warp_rows = 2, warp_columns = 4, stages = 4>}

// -----

// gpu_matmul_c4
// expected-error @+1 {{gpu_matmul: stages must be at least 2, got 1}}
func.func private @stages() attributes {c = #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 1>}

// -----

// gpu_wgmma_c1
// expected-error @+1 {{gpu_wgmma: sizes must be at least 1, got 0}}
func.func private @wgmma_size() attributes {c = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 64, groups = 0, stages = 4>}

// -----

// gpu_wgmma_c1
// expected-error @+1 {{gpu_wgmma: groups must be 1 or 2, got 3}}
func.func private @wgmma_groups() attributes {c = #moe.gpu_wgmma<tile_rows = 192, tile_columns = 128, tile_sum = 64, groups = 3, stages = 4>}

// -----

// gpu_wgmma_c2
// expected-error @+1 {{gpu_wgmma: tile_rows must be a multiple of 128 and at most 256, got 64}}
func.func private @wgmma_rows() attributes {c = #moe.gpu_wgmma<tile_rows = 64, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4>}

// -----

// gpu_wgmma_c2
// expected-error @+1 {{gpu_wgmma: tile_columns must be a multiple of 64 and at most 256, got 320}}
func.func private @wgmma_swapped() attributes {c = #moe.gpu_wgmma<tile_rows = 16, tile_columns = 320, tile_sum = 64, groups = 1, stages = 4, swapped = true>}

// -----

// gpu_wgmma_c3
// expected-error @+1 {{gpu_wgmma: tile_columns must be a multiple of 8 and at most 256, got 36}}
func.func private @wgmma_columns() attributes {c = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 36, tile_sum = 64, groups = 2, stages = 4>}

// -----

// gpu_wgmma_c4
// expected-error @+1 {{gpu_wgmma: tile_sum must be 64, got 128}}
func.func private @wgmma_sum() attributes {c = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 128, groups = 2, stages = 4>}

// -----

// gpu_wgmma_c5
// expected-error @+1 {{gpu_wgmma: stages must be at least 2, got 1}}
func.func private @wgmma_stages() attributes {c = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 64, groups = 2, stages = 1>}
