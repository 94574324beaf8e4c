// RUN: moe-opt %s --moe-select-cpu-strategy --verify-diagnostics

func.func @other_machine(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x32x64xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // expected-error @below {{cannot use its #moe.gpu_matmul<tile_rows = 16, tile_columns = 32, tile_sum = 32, warp_rows = 1, warp_columns = 2, stages = 2> on a CPU; use #moe.cpu_matmul, or leave it out}}
  %0 = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf32>, tensor<4x32x64xf32>)
      outs(%init : tensor<?x32xf32>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 16, tile_columns = 32, tile_sum = 32, warp_rows = 1, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %0 : tensor<?x32xf32>
}
