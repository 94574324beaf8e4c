// RUN: moe-opt %s --moe-grouped-matmul-to-vector | FileCheck %s

// Tasks over the experts that have rows and the blocks of columns; tiles of rows
// and columns with their sums in registers; the rest of a tile's rows in a switch.
// CHECK-LABEL: func @rows
// CHECK: %[[ACTIVE:.*]] = memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<?xindex>
// CHECK: scf.parallel
// CHECK:   memref.alloca() {alignment = 64 : i64} : memref<1x4x16xf32>
// CHECK:   scf.for
// CHECK:     %{{.*}}:8 = scf.for {{.*}} iter_args({{.*}}) -> (vector<16xf32>, {{.*}})
// CHECK:       memref.prefetch
// CHECK:       vector.load {{.*}} : memref<?x64xbf16>, vector<32xbf16>
// CHECK:       x86vector.avx512.dot {{.*}} : vector<32xbf16> -> vector<16xf32>
// CHECK:     vector.shuffle
// CHECK:     vector.store {{.*}} : memref<1x4x16xf32>, vector<4xf32>
// CHECK:   scf.index_switch
// The epilogue, on vectors of columns.
// CHECK:   arith.truncf {{.*}} : vector<16xf32> to vector<16xbf16>
// CHECK:   vector.store {{.*}} : memref<?x32xbf16>, vector<16xbf16>
// CHECK-NOT: moe.grouped_matmul
func.func @rows(%offsets: memref<5xi32>, %x: memref<?x64xbf16>, %w: memref<4x32x64xbf16>, %y: memref<?x32xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x64xbf16>, memref<4x32x64xbf16>)
      outs(%y : memref<?x32xbf16>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 16, block_sum = 64, lanes = 16, bf16_dot = true>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// Tasks over blocks of columns; each adds the experts' rows in order.
// CHECK-LABEL: func @combined
// CHECK: memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<2x?x16xf32>
// CHECK: scf.parallel
// CHECK:   scf.for
// CHECK:     vector.fma
// CHECK-NOT: moe.grouped_matmul
func.func @combined(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x32x64xf32>,
                    %slots: memref<?x2xi32>, %weights: memref<?x2xf32>, %y: memref<?x32xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x64xf32>, memref<4x32x64xf32>)
      combine(%slots : memref<?x2xi32>, %weights : memref<?x2xf32>)
      outs(%y : memref<?x32xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 16, block_sum = 64, lanes = 16>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// E×K×N weights: a block is turned into a panel along k, in pairs of bf16.
// CHECK-LABEL: func @turned
// CHECK: scf.parallel
// CHECK:   %[[PANEL:.*]] = memref.alloca() {alignment = 64 : i64} : memref<16x96xbf16>
// CHECK:   scf.for
// CHECK:     vector.interleave {{.*}} : vector<16xbf16> -> vector<32xbf16>
// CHECK-COUNT-64: vector.shuffle
// CHECK-COUNT-16: vector.store {{.*}}, %[[PANEL]]
// CHECK:   vector.load %[[PANEL]]{{.*}} : memref<16x96xbf16>, vector<32xbf16>
// CHECK-NOT: memref.prefetch
// CHECK-NOT: moe.grouped_matmul
func.func @turned(%offsets: memref<5xi32>, %x: memref<?x64xbf16>, %w: memref<4x64x32xbf16>, %y: memref<?x32xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, n] : memref<?x64xbf16>, memref<4x64x32xbf16>)
      outs(%y : memref<?x32xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 16, block_sum = 64, lanes = 16, bf16_dot = true>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// A prologue: the rows of a block are computed first.
// CHECK-LABEL: func @prologue
// CHECK: scf.parallel
// CHECK:   %[[ROWS:.*]] = memref.alloca() {alignment = 64 : i64} : memref<4x80xf32>
// CHECK:   %[[SQUARE:.*]] = arith.mulf %[[ROW:.*]], %[[ROW]] : vector<16xf32>
// CHECK:   vector.store %[[SQUARE]], %[[ROWS]]
// CHECK:   vector.load %[[ROWS]]
// CHECK-NOT: moe.grouped_matmul
func.func @prologue(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x32x64xf32>, %y: memref<?x32xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(prologue(%x[m, k]) * %w[e, n, k] : memref<?x64xf32>, memref<4x32x64xf32>)
      outs(%y : memref<?x32xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 16, block_sum = 64, lanes = 16>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%row: f32):
    %square = arith.mulf %row, %row : f32
    moe.yield %square : f32
  }
  return
}

// Nobody chose a strategy.
// CHECK-LABEL: func @left
// CHECK: moe.grouped_matmul
func.func @left(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x32x64xf32>, %y: memref<?x32xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x64xf32>, memref<4x32x64xf32>)
      outs(%y : memref<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}
