// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_80 | FileCheck %s
// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_89 | FileCheck %s --check-prefix=SM89
// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_90a | FileCheck %s --check-prefix=SM90A
// RUN: moe-opt %s --moe-select-gpu-strategy --remarks-filter-missed='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=MISSED
// RUN: moe-opt %s --moe-select-gpu-strategy --remarks-filter-passed='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=PASSED
// RUN: not moe-opt %s --moe-select-gpu-strategy=chip=sm_35 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// UNKNOWN: error: moe-select-gpu-strategy: unknown chip 'sm_35'; use sm_80, sm_86, sm_89, sm_90, sm_90a or sm_120

// 4 stages of 32 KB on a chip with 163 KB, 3 on one with 99.
// CHECK-LABEL: func @one_product
// CHECK: #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>
// SM89-LABEL: func @one_product
// SM89: #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 3>
// SM90A-LABEL: func @one_product
// SM90A: #moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64, groups = 2, stages = 4>
func.func @one_product(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// Two products share the registers of one.
// CHECK-LABEL: func @gate_and_up
// CHECK: #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>
// SM90A-LABEL: func @gate_and_up
// SM90A: #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4>
func.func @gate_and_up(%offsets: tensor<5xi32>, %source: tensor<?xi32>, %x: tensor<?x64xf16>, %w: tensor<4x64x512xf16>, %init: tensor<?x256xf16>) -> tensor<?x256xf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, k, n], %x[t, k] * %w[e, k, n + 256] : tensor<?x64xf16>, tensor<4x64x512xf16>, tensor<?x64xf16>, tensor<4x64x512xf16>)
      outs(%init : tensor<?x256xf16>) {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return %y : tensor<?x256xf16>
}

// Shapes tell that an expert has few rows.
// CHECK-LABEL: func @few_rows
// CHECK: #moe.gpu_matmul<tile_rows = 16, tile_columns = 128, tile_sum = 64, warp_rows = 1, warp_columns = 4, stages = 4>
// SM90A-LABEL: func @few_rows
// SM90A: #moe.gpu_wgmma<tile_rows = 32, tile_columns = 128, tile_sum = 64, groups = 2, stages = 8, swapped = true>
func.func @few_rows(%offsets: tensor<5xi32>, %x: tensor<64x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<64x256xbf16>) -> tensor<64x256xbf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<64x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<64x256xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<64x256xbf16>
}

// Gate and up whose columns alternate are one weight: a product of 256 columns.
// CHECK-LABEL: func @alternating
// CHECK: #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>
// SM90A-LABEL: func @alternating
// SM90A: #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4>
func.func @alternating(%offsets: tensor<5xi32>, %x: tensor<?x64xf16>, %w: tensor<4x64x512xf16>, %init: tensor<?x256xf16>) -> tensor<?x256xf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, k, n * 2], %x[m, k] * %w[e, k, n * 2 + 1] : tensor<?x64xf16>, tensor<4x64x512xf16>, tensor<?x64xf16>, tensor<4x64x512xf16>)
      outs(%init : tensor<?x256xf16>) {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return %y : tensor<?x256xf16>
}

// Each second column of one product is no pair, nor are columns 1 and 2, 3 and 4, ….
// MISSED: a weight cannot be copied 16 bytes at a time along k or n; make K and N multiples of 8 and store it as E×N×K or E×K×N
// CHECK-LABEL: func @each_second
// CHECK-NOT: gpu_matmul
func.func @each_second(%offsets: tensor<5xi32>, %x: tensor<?x64xf16>, %w: tensor<4x64x512xf16>, %init: tensor<?x256xf16>) -> tensor<?x256xf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, k, n * 2] : tensor<?x64xf16>, tensor<4x64x512xf16>)
      outs(%init : tensor<?x256xf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return %y : tensor<?x256xf16>
}

// MISSED: a weight cannot be copied 16 bytes at a time along k or n
// CHECK-LABEL: func @shifted
// CHECK-NOT: gpu_matmul
func.func @shifted(%offsets: tensor<5xi32>, %x: tensor<?x64xf16>, %w: tensor<4x64x514xf16>, %init: tensor<?x256xf16>) -> tensor<?x256xf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, k, n * 2 + 1], %x[m, k] * %w[e, k, n * 2 + 2] : tensor<?x64xf16>, tensor<4x64x514xf16>, tensor<?x64xf16>, tensor<4x64x514xf16>)
      outs(%init : tensor<?x256xf16>) {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return %y : tensor<?x256xf16>
}

// A pinned decision stays.
// CHECK-LABEL: func @pinned
// CHECK: stages = 2
// SM90A-LABEL: func @pinned
// SM90A: #moe.gpu_matmul<tile_rows = 64, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 2, stages = 2>
func.func @pinned(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x256x64xbf16>, %init: tensor<?x256xbf16>) -> tensor<?x256xbf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x256x64xbf16>)
      outs(%init : tensor<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 64, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x256xbf16>
}

// Of f32 a step is 32 long: rows of 128 bytes. wgmma would cut factors to tf32.
// CHECK-LABEL: func @f32
// CHECK: #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 32, warp_rows = 2, warp_columns = 4, stages = 4>
// SM89-LABEL: func @f32
// SM89: #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 32, warp_rows = 2, warp_columns = 4, stages = 4>
// SM90A-LABEL: func @f32
// SM90A: #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 32, warp_rows = 2, warp_columns = 4, stages = 4>
func.func @f32(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x32x64xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf32>, tensor<4x32x64xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// Three products of f32 with n last: panels of 32 columns. 99 KB hold three stages.
// CHECK-LABEL: func @three_of_f32
// CHECK: #moe.gpu_matmul<tile_rows = 128, tile_columns = 32, tile_sum = 32, warp_rows = 4, warp_columns = 2, stages = 4>
// SM89-LABEL: func @three_of_f32
// SM89: stages = 3
func.func @three_of_f32(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x64x768xf32>, %init: tensor<?x256xf32>) -> tensor<?x256xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, k, n], %x[m, k] * %w[e, k, n + 256], %x[m, k] * %w[e, k, n + 512]
               : tensor<?x64xf32>, tensor<4x64x768xf32>, tensor<?x64xf32>, tensor<4x64x768xf32>, tensor<?x64xf32>, tensor<4x64x768xf32>)
      outs(%init : tensor<?x256xf32>) {
  ^bb0(%p: f32, %q: f32, %r: f32):
    %s = arith.addf %p, %q : f32
    %t = arith.addf %s, %r : f32
    moe.yield %t : f32
  }
  return %y : tensor<?x256xf32>
}

// MISSED: rows of K = 62 elements cannot be copied 16 bytes at a time; make K and the distance of rows multiples of 4
// CHECK-LABEL: func @odd_length_of_f32
// CHECK-NOT: gpu_matmul
func.func @odd_length_of_f32(%offsets: tensor<5xi32>, %x: tensor<?x62xf32>, %w: tensor<4x32x62xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x62xf32>, tensor<4x32x62xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// MISSED: rows of K = 63 elements cannot be copied 16 bytes at a time; make K and the distance of rows multiples of 8
// CHECK-LABEL: func @odd_length
// CHECK-NOT: gpu_matmul
func.func @odd_length(%offsets: tensor<5xi32>, %x: tensor<?x63xf16>, %w: tensor<4x32x63xf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x63xf16>, tensor<4x32x63xf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// MISSED: the place of a weight's element is not a linear function of e, n and k; store it as E×N×K or E×K×N
// CHECK-LABEL: func @packed
// CHECK-NOT: gpu_matmul
func.func @packed(%offsets: tensor<5xi32>, %x: tensor<?x64xf16>, %w: tensor<4x1x32x32x2xf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2] : tensor<?x64xf16>, tensor<4x1x32x32x2xf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// MISSED: rows are f16 and weights bf16; make them one type
// CHECK-LABEL: func @mixed
// CHECK-NOT: gpu_matmul
func.func @mixed(%offsets: tensor<5xi32>, %x: tensor<?x64xf16>, %w: tensor<4x32x64xbf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf16>, tensor<4x32x64xbf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// MISSED: a product is a sum of terms; concatenate them along k
// CHECK-LABEL: func @terms
// CHECK-NOT: gpu_matmul
func.func @terms(%offsets: tensor<5xi32>, %x: tensor<?x64xf16>, %w: tensor<4x32x64xf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] + %x[m, k] * %w[e, n, k] : tensor<?x64xf16>, tensor<4x32x64xf16>, tensor<?x64xf16>, tensor<4x32x64xf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// MISSED: rows are combined by the matmul; keep moe.combine, which is a kernel of its own (no moe-fuse-combine)
// CHECK-LABEL: func @combining
// CHECK-NOT: gpu_matmul
func.func @combining(%offsets: tensor<5xi32>, %h: tensor<?x64xf16>, %w: tensor<4x32x64xf16>, %slots: tensor<?x2xi32>, %weights: tensor<?x2xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%h[m, k] * %w[e, n, k] : tensor<?x64xf16>, tensor<4x32x64xf16>)
      combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// A prologue's rows are stored by a kernel before.
// PASSED: stages = 4, permuted = true>; rows are permuted first, as a prologue computes them
// CHECK-LABEL: func @prologue
// CHECK: #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4, permuted = true>
// SM90A-LABEL: func @prologue
// SM90A: #moe.gpu_wgmma<tile_rows = 128, tile_columns = 32, tile_sum = 64, groups = 2, stages = 8, permuted = true>
func.func @prologue(%offsets: tensor<5xi32>, %source: tensor<?xi32>, %x: tensor<?x64xbf16>, %s: tensor<?x1xbf16>, %w: tensor<4x32x64xbf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>) top_k(1)
      products(prologue(%x[t, k], %s[t, j]) * %w[e, n, k] : tensor<?x64xbf16>, tensor<?x1xbf16>, tensor<4x32x64xbf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%row: bf16, %weight: bf16):
    %weighted = arith.mulf %row, %weight : bf16
    moe.yield %weighted : bf16
  }
  return %y : tensor<?x32xf32>
}

// MISSED: products read different rows; make them one op each
// CHECK-LABEL: func @different_prologues
// CHECK-NOT: gpu_matmul
func.func @different_prologues(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x32x64xbf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(prologue(%x[m, k]) * %w[e, n, k], prologue(%x[m, k]) * %w[e, n, k]
               : tensor<?x64xbf16>, tensor<4x32x64xbf16>, tensor<?x64xbf16>, tensor<4x32x64xbf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32, %q: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%row: bf16):
    %r = arith.negf %row : bf16
    moe.yield %r : bf16
  } prologue {
  ^bb0(%row: bf16):
    %r = math.absf %row : bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x32xf32>
}

// MISSED: rows are f32 and weights bf16; make them one type
// CHECK-LABEL: func @wide_prologue
// CHECK-NOT: gpu_matmul
func.func @wide_prologue(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x32x64xbf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(prologue(%x[m, k]) * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x32x64xbf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%row: bf16):
    %r = arith.extf %row : bf16 to f32
    moe.yield %r : f32
  }
  return %y : tensor<?x32xf32>
}
