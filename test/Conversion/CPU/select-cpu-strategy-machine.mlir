// What the module says of the machine decides on sizes, and on the instructions where
// no option does.
// RUN: moe-opt %s --split-input-file --moe-select-cpu-strategy | FileCheck %s
// RUN: moe-opt %s --split-input-file --moe-select-cpu-strategy --remarks-filter-passed='.*' \
// RUN:     -o /dev/null 2>&1 | FileCheck %s --check-prefix=WHY

// A small core: a quarter of the rows, two thirds of the weights.
// CHECK: #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 48, block_columns = 96, block_sum = 672, lanes = 16>
// WHY: remark: {{.*}}avx512 has registers for 4 x 6 sums; a tile's weights take 15 KB of the first cache of 32 KB, a block's rows up to 126 KB of the second of 256 KB
module attributes {dlti.target_system_spec = #dlti.target_system_spec<
    "CPU" = #dlti.target_device_spec<"vector_isa" = "avx512",
        "L1_cache_size_in_bytes" = 32768 : i64, "L2_cache_size_in_bytes" = 262144 : i64>>} {
  func.func @small(%offsets: tensor<5xi32>, %x: tensor<?x4096xf32>, %w: tensor<4x96x4096xf32>, %init: tensor<?x96xf32>) -> tensor<?x96xf32> {
    %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
        products(%x[m, k] * %w[e, n, k] : tensor<?x4096xf32>, tensor<4x96x4096xf32>)
        outs(%init : tensor<?x96xf32>) {
    ^bb0(%p: f32):
      moe.yield %p : f32
    }
    return %y : tensor<?x96xf32>
  }
}

// -----

// Shorter parts of k where weights run along n.
// CHECK: block_sum = 32, lanes = 16, kernel = bf16_dot>
// WHY: weights run along n, so parts of k are short and a tile's panel takes half of the first cache of 16 KB
module attributes {dlti.target_system_spec = #dlti.target_system_spec<
    "CPU" = #dlti.target_device_spec<"vector_isa" = "avx512bf16", "L1_cache_size_in_bytes" = 16384 : i32>>} {
  func.func @columns(%offsets: tensor<5xi32>, %x: tensor<?x512xbf16>, %w: tensor<4x512x96xbf16>, %init: tensor<?x96xf32>) -> tensor<?x96xf32> {
    %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
        products(%x[m, k] * %w[e, k, n] : tensor<?x512xbf16>, tensor<4x512x96xbf16>)
        outs(%init : tensor<?x96xf32>) {
    ^bb0(%p: f32):
      moe.yield %p : f32
    }
    return %y : tensor<?x96xf32>
  }
}

// -----

// AMX: fewer rows turned at once.
// CHECK: tile_rows = 16, tile_columns = 16, block_rows = 32
// WHY: AMX's tiles; up to 32 rows are turned for each block of columns, in the second cache of 256 KB
module attributes {dlti.target_system_spec = #dlti.target_system_spec<
    "CPU" = #dlti.target_device_spec<"vector_isa" = "amx-bf16", "L2_cache_size_in_bytes" = 262144 : i64>>} {
  func.func @amx(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x32x64xbf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
    %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
        products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x32x64xbf16>)
        outs(%init : tensor<?x32xf32>) {
    ^bb0(%p: f32):
      moe.yield %p : f32
    }
    return %y : tensor<?x32xf32>
  }
}

// -----

// A shorter part of a panel, and fewer rows of all of k.
// CHECK: #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 320, lanes = 16, kernel = amx>
// WHY: AMX's tiles; up to 64 rows share packed weights, in the second cache of 256 KB
module attributes {dlti.target_system_spec = #dlti.target_system_spec<
    "CPU" = #dlti.target_device_spec<"vector_isa" = "amx-bf16",
        "L1_cache_size_in_bytes" = 32768 : i64, "L2_cache_size_in_bytes" = 262144 : i64>>} {
  func.func @amx_packed(%offsets: tensor<5xi32>, %x: tensor<?x1024xbf16>, %w: tensor<4x2x512x32x2xbf16>, %init: tensor<?x40xf32>) -> tensor<?x40xf32> {
    %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
        products(%x[m, k] * %w[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2] : tensor<?x1024xbf16>, tensor<4x2x512x32x2xbf16>)
        outs(%init : tensor<?x40xf32>) {
    ^bb0(%p: f32):
      moe.yield %p : f32
    }
    return %y : tensor<?x40xf32>
  }
}
