// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_86 --split-input-file --verify-diagnostics

func.func @shared_memory(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{'moe.grouped_matmul' op cannot use its gpu_matmul: it needs 131072 bytes of shared memory, sm_86 has 101376; take fewer stages or a smaller tile}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @registers(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{cannot use its gpu_matmul: a thread would keep 256 sums in registers, of 128 that fit; make the tile smaller or take more warps}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 64, warp_rows = 1, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @copies(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{tile_rows = 48 has 384 pieces of 16 bytes a step, which 256 threads cannot share evenly}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 48, tile_columns = 128, tile_sum = 64, warp_rows = 1, warp_columns = 8, stages = 2>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @panels(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x64x256xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{tile_columns = 32 must be a multiple of 64 where n is the last index of a weight of bf16}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, k, n] : tensor<?x64xbf16>, tensor<4x64x256xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 64, tile_columns = 32, tile_sum = 64, warp_rows = 2, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @step(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{tile_sum = 32 must be 64 where factors are bf16: rows of 128 bytes}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 64, tile_columns = 64, tile_sum = 32, warp_rows = 2, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @step_of_f32(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x256x64xf32>, %init: tensor<?x256xf32>) -> tensor<?x256xf32> {
  // expected-error @+1 {{tile_sum = 64 must be 32 where factors are f32: rows of 128 bytes}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf32>, tensor<4x256x64xf32>)
      outs(%init : tensor<?x256xf32>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 64, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x256xf32>
}

// -----

func.func @registers_of_f32(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x256x64xf32>, %init: tensor<?x256xf32>) -> tensor<?x256xf32> {
  // expected-error @+1 {{a thread would keep 128 sums in registers, of 64 that fit; make the tile smaller or take more warps}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf32>, tensor<4x256x64xf32>)
      outs(%init : tensor<?x256xf32>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 32, warp_rows = 2, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x256xf32>
}

// -----

func.func @alternating_panels(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x64x512xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{tile_columns = 16 must be a multiple of 32 where n is the last index of a weight of bf16}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, k, n * 2], %x[m, k] * %w[e, k, n * 2 + 1]
               : tensor<?x64xbf16>, tensor<4x64x512xbf16>, tensor<?x64xbf16>, tensor<4x64x512xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 64, tile_columns = 16, tile_sum = 64, warp_rows = 4, warp_columns = 1, stages = 2>} {
  ^bb0(%g: f32, %u: f32):
    %r = arith.truncf %g : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @prologue(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{cannot use its gpu_matmul: rows are computed by a prologue; let a kernel store them first: permuted = true}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(prologue(%x[m, k]) * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 64, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  } prologue {
  ^bb0(%row: bf16):
    %r = arith.negf %row : bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}
