// RUN: split-file %s %t
// RUN: moe-opt %t/other-chip.mlir --moe-select-gpu-strategy=chip=sm_90 --verify-diagnostics
// RUN: moe-opt %t/same-chip.mlir --moe-select-gpu-strategy=chip=sm_90a --split-input-file --verify-diagnostics

//--- other-chip.mlir

func.func @chip(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{cannot use its gpu_wgmma: sm_90 has no wgmma; compile for sm_90a, or take a gpu_matmul}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

//--- same-chip.mlir

func.func @shared_memory(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{'moe.grouped_matmul' op cannot use its gpu_wgmma: it needs 245840 bytes of shared memory, sm_90a has 232448; take fewer stages or a smaller tile}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64, groups = 2, stages = 5>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @registers(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{cannot use its gpu_wgmma: a thread would keep 256 sums in registers, of 128 that fit; make the tile smaller or take more groups}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64, groups = 1, stages = 4>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @panels(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x64x256xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{cannot use its gpu_wgmma: tile_columns = 96 must be a multiple of 64 where n is the last index of a weight of bf16}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, k, n] : tensor<?x64xbf16>, tensor<4x64x256xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 96, tile_sum = 64, groups = 2, stages = 4>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @gathered(%offsets: tensor<5xi32>, %source: tensor<?xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{cannot use its gpu_wgmma: tile_rows = 24 must be 8 or a multiple of 16 where rows are gathered}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 24, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4, swapped = true>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

// All columns are one: a bulk copy cannot repeat it.
func.func @repeated(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{cannot use its gpu_wgmma: a weight repeats along n, which bulk copies cannot do}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, k] : tensor<?x64xbf16>, tensor<4x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// -----

func.func @f32(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x256x64xf32>, %init: tensor<?x256xf32>) -> tensor<?x256xf32> {
  // expected-error @+1 {{cannot use its gpu_wgmma: factors are f32, which wgmma would cut to tf32; take a gpu_matmul}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf32>, tensor<4x256x64xf32>)
      outs(%init : tensor<?x256xf32>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x256xf32>
}

// -----

func.func @prologue(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  // expected-error @+1 {{cannot use its gpu_wgmma: rows are computed by a prologue; let a kernel store them first: permuted = true}}
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(prologue(%x[m, k]) * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 64, tile_columns = 64, tile_sum = 64, groups = 1, stages = 2>} {
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
