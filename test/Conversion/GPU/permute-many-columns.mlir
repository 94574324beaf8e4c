// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_90a | FileCheck %s
// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_90 | FileCheck %s --check-prefix=MMA --implicit-check-not=permuted
// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_90a --remarks-filter-passed='.*' -o /dev/null 2>&1 \
// RUN:     | FileCheck %s --check-prefix=REMARK
// REMARK:     stages = 4, permuted = true>; rows are permuted first, as many columns read them
// REMARK-NOT: permuted
// MMA-COUNT-4: #moe.gpu_matmul<

// Many columns: what it costs to permute rows is small beside their products.
// CHECK-LABEL: func @many_columns
// CHECK: moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4, permuted = true>}
func.func @many_columns(%offsets: tensor<5xi32>, %source: tensor<?xi32>, %x: tensor<?x64xf16>, %w: tensor<4x8192x64xf16>, %init: tensor<?x4096xf16>) -> tensor<?x4096xf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k], %x[t, k] * %w[e, n + 4096, k] : tensor<?x64xf16>, tensor<4x8192x64xf16>, tensor<?x64xf16>, tensor<4x8192x64xf16>)
      outs(%init : tensor<?x4096xf16>) {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return %y : tensor<?x4096xf16>
}

// Fewer, and rows in place.
// CHECK-LABEL: func @fewer_columns
// CHECK: moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64, groups = 2, stages = 4>} {
func.func @fewer_columns(%offsets: tensor<5xi32>, %source: tensor<?xi32>, %x: tensor<?x64xf16>, %w: tensor<4x8184x64xf16>, %init: tensor<?x8184xf16>) -> tensor<?x8184xf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<?x64xf16>, tensor<4x8184x64xf16>)
      outs(%init : tensor<?x8184xf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return %y : tensor<?x8184xf16>
}

// CHECK-LABEL: func @in_place
// CHECK: moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64, groups = 2, stages = 4>} {
func.func @in_place(%offsets: tensor<5xi32>, %x: tensor<?x64xf16>, %w: tensor<4x8192x64xf16>, %init: tensor<?x8192xf16>) -> tensor<?x8192xf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf16>, tensor<4x8192x64xf16>)
      outs(%init : tensor<?x8192xf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return %y : tensor<?x8192xf16>
}

// Few rows are gathered: weights are all that moves.
// CHECK-LABEL: func @few_rows
// CHECK: stages = {{[0-9]+}}, swapped = true>} {
func.func @few_rows(%offsets: tensor<5xi32>, %source: tensor<16xi32>, %x: tensor<8x64xf16>, %w: tensor<4x8192x64xf16>, %init: tensor<16x8192xf16>) -> tensor<16x8192xf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<16xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<8x64xf16>, tensor<4x8192x64xf16>)
      outs(%init : tensor<16x8192xf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return %y : tensor<16x8192xf16>
}
