// RUN: moe-opt %s --moe-select-cpu-strategy=isa=avx512bf16 | FileCheck %s
// RUN: moe-opt %s --moe-select-cpu-strategy=isa=avx512 | FileCheck %s --check-prefix=AVX512
// RUN: moe-opt %s --moe-select-cpu-strategy=isa=avx2 | FileCheck %s --check-prefix=AVX2
// RUN: moe-opt %s --moe-select-cpu-strategy=isa=generic | FileCheck %s --check-prefix=GENERIC
// RUN: moe-opt %s --moe-select-cpu-strategy=isa=avx512bf16 --remarks-filter-passed='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=PASSED
// RUN: moe-opt %s --moe-select-cpu-strategy=isa=avx2 --remarks-filter-passed='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=LOW

// Packed weights: a tile is a panel wide, and tall where there are 32 registers. A part of
// a panel takes a sixteenth of the second cache then, two thirds of the first where tiles
// are low, the rows of a block half of the second.

// PASSED: block_sum = 1024, {{.*}} weights are packed; a part of a panel takes 64 KB of the second cache of 1024 KB
// LOW: block_sum = 512, {{.*}} weights are packed; a part of a panel takes 32 KB of the first cache of 48 KB
// CHECK-LABEL: func @bf16
// CHECK: #moe.cpu_matmul<tile_rows = 12, tile_columns = 2, block_rows = 132, block_columns = 192, block_sum = 1024, lanes = 16, kernel = bf16_dot>
// AVX512-LABEL: func @bf16
// AVX512: #moe.cpu_matmul<tile_rows = 12, tile_columns = 2, block_rows = 132, block_columns = 192, block_sum = 1024, lanes = 16>
// AVX2-LABEL: func @bf16
// AVX2: #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 128, block_columns = 192, block_sum = 512, lanes = 8>
// GENERIC-LABEL: func @bf16
// GENERIC: #moe.cpu_matmul<tile_rows = 2, tile_columns = 8, block_rows = 128, block_columns = 192, block_sum = 512, lanes = 4>
func.func @bf16(%offsets: tensor<5xi32>, %x: tensor<?x2048xbf16>, %w: tensor<4x32x1024x32x2xbf16>, %init: tensor<?x1024xf32>) -> tensor<?x1024xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2] : tensor<?x2048xbf16>, tensor<4x32x1024x32x2xbf16>)
      outs(%init : tensor<?x1024xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x1024xf32>
}

// The blocks of a combining matmul are all its tasks: at least 16, whole panels.
// CHECK-LABEL: func @combining
// CHECK: #moe.cpu_matmul<tile_rows = 12, tile_columns = 2, block_rows = 132, block_columns = 64, block_sum = 512, lanes = 16>
func.func @combining(%offsets: tensor<5xi32>, %slots: tensor<?x2xi32>, %weights: tensor<?x2xf32>, %x: tensor<?x512xf32>, %w: tensor<4x32x512x32xf32>, %init: tensor<?x1024xf32>) -> tensor<?x1024xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k, n mod 32] : tensor<?x512xf32>, tensor<4x32x512x32xf32>)
      combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>)
      outs(%init : tensor<?x1024xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x1024xf32>
}
