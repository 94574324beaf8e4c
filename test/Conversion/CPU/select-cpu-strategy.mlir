// RUN: moe-opt %s --moe-select-cpu-strategy=isa=avx512bf16 | FileCheck %s
// RUN: moe-opt %s --moe-select-cpu-strategy=isa=avx2 | FileCheck %s --check-prefix=AVX2
// RUN: moe-opt %s --moe-select-cpu-strategy=isa=amx-bf16 | FileCheck %s --check-prefix=AMX
// RUN: moe-opt %s --moe-select-cpu-strategy=isa=avx512bf16 --remarks-filter-missed='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=MISSED
// RUN: not moe-opt %s --moe-select-cpu-strategy=isa=mmx 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// UNKNOWN: error: moe-select-cpu-strategy: unknown isa 'mmx'; use generic, avx2, avx512, avx512bf16 or amx-bf16

// CHECK-LABEL: func @bf16
// CHECK: #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 48, block_sum = 2048, lanes = 16, kernel = bf16_dot>
// AVX2-LABEL: func @bf16
// AVX2: #moe.cpu_matmul<tile_rows = 3, tile_columns = 4, block_rows = 84, block_columns = 32, block_sum = {{[0-9]+}}, lanes = 8>
// AMX-LABEL: func @bf16
// AMX: #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 32, block_sum = 2048, lanes = 16, kernel = amx>
func.func @bf16(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x32x64xbf16>, %init: tensor<?x32xbf16>) -> tensor<?x32xbf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x32x64xbf16>)
      outs(%init : tensor<?x32xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return %y : tensor<?x32xbf16>
}

// One factor in f32: no bf16 products.
// CHECK-LABEL: func @mixed
// CHECK: lanes = 16>
// AMX-LABEL: func @mixed
// AMX: tile_rows = 4, {{.*}} lanes = 16>
func.func @mixed(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x32x64xbf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf32>, tensor<4x32x64xbf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// A pinned decision stays.
// CHECK-LABEL: func @pinned
// CHECK: tile_rows = 2
func.func @pinned(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x32x64xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf32>, tensor<4x32x64xf32>)
      outs(%init : tensor<?x32xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 2, block_rows = 4, block_columns = 8, block_sum = 32, lanes = 4>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// Wider blocks and shorter parts for weights with n last; a block of this few columns
// is one tile.
// CHECK-LABEL: func @transposed
// CHECK: block_columns = 96, block_sum = 64, lanes = 16>
func.func @transposed(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x64x32xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, k, n] : tensor<?x64xf32>, tensor<4x64x32xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// Rows that are computed first: the type that the prologue yields decides.
// CHECK-LABEL: func @prologue
// CHECK: block_columns = 192, block_sum = 512, lanes = 16, kernel = bf16_dot>
func.func @prologue(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x32x64xbf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(prologue(%x[m, k]) * %w[e, n, k] : tensor<?x64xf32>, tensor<4x32x64xbf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%row: f32):
    %rounded = arith.truncf %row : f32 to bf16
    moe.yield %rounded : bf16
  }
  return %y : tensor<?x32xf32>
}

// MISSED: 'vector.broadcast' in the prologue does not work on vectors; use elementwise ops of arith and math
// CHECK-LABEL: func @scalar_prologue
// CHECK-NOT: cpu_matmul
func.func @scalar_prologue(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x32x64xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(prologue(%x[m, k]) * %w[e, n, k] : tensor<?x64xf32>, tensor<4x32x64xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%row: f32):
    %vector = vector.broadcast %row : f32 to vector<1xf32>
    %value = vector.extract %vector[0] : f32 from vector<1xf32>
    moe.yield %value : f32
  }
  return %y : tensor<?x32xf32>
}

// Weights that are decoded: the panel's type decides, f32 where the region yields that.
// CHECK-LABEL: func @decode
// CHECK: block_sum = 2048, lanes = 16, kernel = bf16_dot>
// CHECK: block_sum = 1024, lanes = 16>
// AVX2-LABEL: func @decode
// AVX2-COUNT-2: block_sum = 1536, lanes = 8>
// AMX-LABEL: func @decode
// AMX: tile_rows = 4
func.func @decode(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x32x64xi8>, %init: tensor<?x32xf32>) -> (tensor<?x32xf32>, tensor<?x32xf32>) {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, n, k]) : tensor<?x64xbf16>, tensor<4x32x64xi8>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %code: i8):
    %value = arith.sitofp %code : i8 to bf16
    moe.yield %value : bf16
  }
  %z = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, n, k]) : tensor<?x64xbf16>, tensor<4x32x64xi8>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %code: i8):
    %value = arith.sitofp %code : i8 to f32
    moe.yield %value : f32
  }
  return %y, %z : tensor<?x32xf32>, tensor<?x32xf32>
}

// What is stored with n last is decoded to a panel along k all the same.
// CHECK-LABEL: func @decode_columns
// CHECK: block_columns = 48, block_sum = 1024, lanes = 16>
func.func @decode_columns(%offsets: tensor<5xi32>, %x: tensor<?x2048xf32>, %w: tensor<4x256x32xi32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, k floordiv 8, n]) : tensor<?x2048xf32>, tensor<4x256x32xi32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %code: i32):
    %value = arith.sitofp %code : i32 to f32
    moe.yield %value : f32
  }
  return %y : tensor<?x32xf32>
}

// MISSED: 'vector.broadcast' in the decode region does not work on vectors; use elementwise ops of arith and math
// CHECK-LABEL: func @scalar_decode
// CHECK-NOT: cpu_matmul
func.func @scalar_decode(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x32x64xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, n, k]) : tensor<?x64xf32>, tensor<4x32x64xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %code: f32):
    %vector = vector.broadcast %code : f32 to vector<1xf32>
    %value = vector.extract %vector[0] : f32 from vector<1xf32>
    moe.yield %value : f32
  }
  return %y : tensor<?x32xf32>
}

// The index of packed weights, but pairs are four elements apart: no panel of 32 × 2.
// MISSED: a weight has neither k nor n as its last index; store it as E×N×K or E×K×N
// CHECK-LABEL: func @padded_pairs
// CHECK-NOT: cpu_matmul
func.func @padded_pairs(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x1x32x32x4xbf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2] : tensor<?x64xbf16>, tensor<4x1x32x32x4xbf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// MISSED: some weights are packed and others are not; pack all of them, or none
// CHECK-LABEL: func @half_packed
// CHECK-NOT: cpu_matmul
func.func @half_packed(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %packed: tensor<4x1x64x32xf32>, %w: tensor<4x32x64xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %packed[e, n floordiv 32, k, n mod 32], %x[m, k] * %w[e, n, k]
               : tensor<?x64xf32>, tensor<4x1x64x32xf32>, tensor<?x64xf32>, tensor<4x32x64xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32, %q: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// MISSED: a weight has neither k nor n as its last index; store it as E×N×K or E×K×N
// CHECK-LABEL: func @experts_last
// CHECK-NOT: cpu_matmul
func.func @experts_last(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<64x32x4xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[k, n, e] : tensor<?x64xf32>, tensor<64x32x4xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// MISSED: K, the length of a sum, is not a positive constant; make it static
// CHECK-LABEL: func @dynamic
// CHECK-NOT: cpu_matmul
func.func @dynamic(%offsets: tensor<5xi32>, %x: tensor<?x?xf32>, %w: tensor<4x32x?xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x?xf32>, tensor<4x32x?xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}

// Gates: how many tokens a task has.
// CHECK-LABEL: func @gate
// CHECK: moe.gate {{.*}} {moe.lowering_config = #moe.cpu_routing<block_tokens = 32>}
// CHECK: moe.gate {{.*}} {moe.lowering_config = #moe.cpu_routing<block_tokens = 7>}
func.func @gate(%logits: tensor<?x64xf32>, %w: tensor<?x8xf32>, %i: tensor<?x8xi32>)
    -> (tensor<?x8xf32>, tensor<?x8xi32>) {
  %0:2 = moe.gate score(softmax) ins(%logits : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  %1:2 = moe.gate score(softmax) ins(%logits : tensor<?x64xf32>) outs(%0#0, %0#1 : tensor<?x8xf32>, tensor<?x8xi32>)
      {moe.lowering_config = #moe.cpu_routing<block_tokens = 7>}
  return %1#0, %1#1 : tensor<?x8xf32>, tensor<?x8xi32>
}

// CHECK-LABEL: func @many_experts
// CHECK-NOT: lowering_config
// MISSED: registers rank at most 512 experts, not 513
func.func @many_experts(%logits: tensor<?x513xf32>, %w: tensor<?x8xf32>, %i: tensor<?x8xi32>)
    -> (tensor<?x8xf32>, tensor<?x8xi32>) {
  %0:2 = moe.gate score(softmax) ins(%logits : tensor<?x513xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  return %0#0, %0#1 : tensor<?x8xf32>, tensor<?x8xi32>
}

// CHECK-LABEL: func @dynamic_choices
// CHECK-NOT: lowering_config
// MISSED: E or k is not a constant
func.func @dynamic_choices(%logits: tensor<?x64xf32>, %w: tensor<?x?xf32>, %i: tensor<?x?xi32>)
    -> (tensor<?x?xf32>, tensor<?x?xi32>) {
  %0:2 = moe.gate score(softmax) ins(%logits : tensor<?x64xf32>) outs(%w, %i : tensor<?x?xf32>, tensor<?x?xi32>)
  return %0#0, %0#1 : tensor<?x?xf32>, tensor<?x?xi32>
}

// A router's blocks of columns are narrow, so that there are some for each thread.
// CHECK-LABEL: func @router
// CHECK: #moe.cpu_matmul<tile_rows = 3, tile_columns = 8, block_rows = 126, block_columns = 16, block_sum = 2048, lanes = 16, kernel = bf16_dot>
// AVX2-LABEL: func @router
// AVX2: tile_rows = 3, tile_columns = 4, {{.*}}, block_columns = 16,
// AMX-LABEL: func @router
// AMX: tile_rows = 16, tile_columns = 16, {{.*}}, block_columns = 32,
func.func @router(%offsets: tensor<2xi32>, %x: tensor<?x2048xbf16>, %w: tensor<64x2048xbf16>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<2xi32>)
      products(%x[m, k] * %w[n, k] : tensor<?x2048xbf16>, tensor<64x2048xbf16>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x64xf32>
}

// Plans: how many tokens a chunk has at least. With a capacity they decompose.
// CHECK-LABEL: func @plan
// CHECK: moe.plan ids(%{{.*}} : tensor<?x8xi32>) outs({{.*}}) {moe.lowering_config = #moe.cpu_routing<block_tokens = 256>}
// CHECK: moe.plan
// CHECK-NOT: lowering_config
// MISSED: with a capacity, what a token keeps depends on all tokens before it
func.func @plan(%ids: tensor<?x8xi32>, %o: tensor<65xi32>, %s: tensor<?x8xi32>, %r: tensor<?xi32>, %c: index)
    -> (tensor<65xi32>, tensor<?x8xi32>, tensor<?xi32>) {
  %0:3 = moe.plan ids(%ids : tensor<?x8xi32>) outs(%o, %s, %r : tensor<65xi32>, tensor<?x8xi32>, tensor<?xi32>)
  %1:3 = moe.plan ids(%ids : tensor<?x8xi32>) capacity(%c) outs(%0#0, %0#1, %0#2 : tensor<65xi32>, tensor<?x8xi32>, tensor<?xi32>)
  return %1#0, %1#1, %1#2 : tensor<65xi32>, tensor<?x8xi32>, tensor<?xi32>
}

// Weights with n last, interleaved, and rows that a prologue computes: blocks of rows are tall.
// CHECK-LABEL: func @interleaved
// AMX-LABEL: func @interleaved
// AMX: #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 128, block_columns = 32, block_sum = 2048, lanes = 16, kernel = amx>
func.func @interleaved(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x64x64xbf16>, %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %0 = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(prologue(%x[m, k]) * %w[e, k, 2 * n], %x[m, k] * %w[e, k, 2 * n + 1]
               : tensor<?x64xbf16>, tensor<4x64x64xbf16>, tensor<?x64xbf16>, tensor<4x64x64xbf16>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    moe.yield %p : f32
  } prologue {
  ^bb0(%row: bf16):
    %twice = arith.addf %row, %row : bf16
    moe.yield %twice : bf16
  }
  return %0 : tensor<?x32xf32>
}
