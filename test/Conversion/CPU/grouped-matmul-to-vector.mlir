// RUN: moe-opt %s --moe-grouped-matmul-to-vector | FileCheck %s

// Tasks over the experts that have rows and the blocks of columns; tiles of rows
// and columns with their sums in registers; the rest of a tile's rows in a switch.
// CHECK-LABEL: func @rows
// CHECK: %[[ACTIVE:.*]] = memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<?xi32>
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
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 16, block_sum = 64, lanes = 16, kernel = bf16_dot>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// Tasks over blocks of columns; each adds the experts' rows in order, and a row asks for
// the sums of the token of a later one. What a row is scaled by is loaded once.
// CHECK-LABEL: func @combined
// CHECK: %[[SUMS:.*]] = memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<2x?x16xf32>
// CHECK: scf.parallel
// CHECK:   scf.for
// CHECK:     arith.divui
// CHECK:     %[[LATER:.*]] = arith.minui
// CHECK:     memref.load %[[SCALES:.*]][%{{.*}}] : memref<4xf32>
// CHECK:     scf.for
// CHECK-NOT:   memref.load %[[SCALES]]
// CHECK:       memref.prefetch %[[SUMS]][%{{.*}}, %[[LATER]], %{{.*}}], read, locality<3>
// CHECK:       vector.fma
// CHECK-NOT: moe.grouped_matmul
func.func @combined(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x32x64xf32>,
                    %scales: memref<4xf32>, %slots: memref<?x2xi32>, %weights: memref<?x2xf32>,
                    %y: memref<?x32xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x64xf32>, memref<4x32x64xf32>)
      extras(%scales[e] : memref<4xf32>)
      combine(%slots : memref<?x2xi32>, %weights : memref<?x2xf32>)
      outs(%y : memref<?x32xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 16, block_sum = 64, lanes = 16>} {
  ^bb0(%p: f32, %scale: f32):
    %scaled = arith.mulf %p, %scale : f32
    moe.yield %scaled : f32
  }
  return
}

// Many rows of a combining matmul: while a tile computes, it asks for a row of the next
// part of k and, in the last part, for one of the next block, into the second cache.
// CHECK-LABEL: func @rows_ahead
// CHECK: scf.parallel
// CHECK:   %[[K:.*]] = arith.addi %{{.*}}, %c64
// CHECK-NEXT: memref.prefetch %arg1[%{{.*}}, %[[K]]], read, locality<2>, data : memref<?x128xf32>
// CHECK:   %[[K:.*]] = arith.addi %{{.*}}, %c-64
// CHECK-NEXT: memref.prefetch %arg1[%{{.*}}, %[[K]]], read, locality<2>, data : memref<?x128xf32>
// CHECK-NOT: moe.grouped_matmul
func.func @rows_ahead(%offsets: memref<5xi32>, %x: memref<?x128xf32>, %w: memref<4x32x128xf32>,
                      %slots: memref<?x2xi32>, %weights: memref<?x2xf32>, %y: memref<?x32xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x128xf32>, memref<4x32x128xf32>)
      combine(%slots : memref<?x2xi32>, %weights : memref<?x2xf32>)
      outs(%y : memref<?x32xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 64, block_columns = 16, block_sum = 64, lanes = 16>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// Packed weights: panels, parts of k, tiles of rows of about equal height. A step is in one
// dimension; the sums come from the scratch, or are 0 at first; the next part is asked for
// on the way; nothing is shuffled.
// CHECK-LABEL: func @packed
// CHECK: scf.parallel
// CHECK:   memref.alloca() {alignment = 64 : i64} : memref<1x4x64xf32>
// CHECK:   %[[STEPS:.*]] = memref.collapse_shape {{.*}} {{\[\[}}0], [1], [2], [3, 4]] : memref<4x4x32x32x2xbf16> into memref<4x4x32x64xbf16>
// CHECK:   scf.for {{.*}} step %c64
// CHECK:   scf.for {{.*}} step %c32
// CHECK:   scf.for {{.*}} step %c32
// CHECK:     arith.ceildivui
// CHECK:     scf.for {{.*}} iter_args
// CHECK:       scf.index_switch
// CHECK:       case 1
// CHECK:         vector.load {{.*}} : memref<1x4x64xf32>, vector<16xf32>
// CHECK:         arith.select {{.*}} : vector<16xf32>
// CHECK:         scf.for
// CHECK-COUNT-2:   memref.prefetch
// CHECK-COUNT-2:   vector.load %[[STEPS]]{{.*}} : memref<4x4x32x64xbf16>, vector<32xbf16>
// CHECK:           vector.broadcast {{.*}} : i32 to vector<16xi32>
// CHECK-COUNT-2:   x86vector.avx512.dot
// CHECK:         vector.store {{.*}} : memref<1x4x64xf32>, vector<16xf32>
// CHECK:       default
// CHECK-COUNT-4: x86vector.avx512.dot
// CHECK-NOT: vector.shuffle
// CHECK-NOT: moe.grouped_matmul
// CHECK: return
func.func @packed(%offsets: memref<5xi32>, %x: memref<?x64xbf16>, %w: memref<4x4x32x32x2xbf16>, %y: memref<?x128xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2] : memref<?x64xbf16>, memref<4x4x32x32x2xbf16>)
      outs(%y : memref<?x128xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 2, block_rows = 4, block_columns = 64, block_sum = 32, lanes = 16, kernel = bf16_dot>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// E×K×N weights: vectors run along n. The first tile of rows interleaves two rows of
// weights into pairs of bf16, and makes a panel of them that the others read. The sums
// of a tile come from the scratch and go back to it, in order.
// CHECK-LABEL: func @columns
// CHECK: scf.parallel
// CHECK:   memref.alloca() {alignment = 64 : i64} : memref<1x4x64xf32>
// CHECK:   %[[PANEL:.*]] = memref.alloca() {alignment = 64 : i64} : memref<32x4x32xbf16>
// CHECK:   vector.load {{.*}} : memref<1x4x64xf32>, vector<16xf32>
// CHECK:   scf.for
// CHECK:     memref.prefetch
// CHECK:     vector.load {{.*}} : memref<4x64x128xbf16>, vector<32xbf16>
// CHECK:     vector.shuffle {{.*}} [0, 32, 1, 33, 2, 34, 3, 35, 8, 40,
// CHECK:     vector.shuffle {{.*}} [4, 36, 5, 37, 6, 38, 7, 39, 12, 44,
// CHECK:     vector.store {{.*}}, %[[PANEL]]
// CHECK:     x86vector.avx512.dot
// CHECK:   vector.shuffle {{.*}} [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23]
// CHECK:   vector.store {{.*}} : memref<1x4x64xf32>, vector<16xf32>
// CHECK:   vector.load %[[PANEL]]{{.*}} : memref<32x4x32xbf16>, vector<32xbf16>
// CHECK-NOT: moe.grouped_matmul
func.func @columns(%offsets: memref<5xi32>, %x: memref<?x64xbf16>, %w: memref<4x64x128xbf16>, %y: memref<?x128xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, n] : memref<?x64xbf16>, memref<4x64x128xbf16>)
      outs(%y : memref<?x128xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 64, block_sum = 64, lanes = 16, kernel = bf16_dot>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// Gate and up in turns are read once: even and odd lanes of the same vectors.
// CHECK-LABEL: func @turns
// CHECK: scf.parallel
// CHECK:   %[[FIRST:.*]] = vector.load {{.*}} : memref<4x64x128xf32>, vector<32xf32>
// CHECK:   vector.shuffle %[[FIRST]], %[[FIRST]] [0, 2, 4, 6,
// CHECK:   vector.shuffle %[[FIRST]], %[[FIRST]] [1, 3, 5, 7,
// CHECK-NOT: moe.grouped_matmul
func.func @turns(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x64x128xf32>, %y: memref<?x64xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, 2 * n], %x[m, k] * %w[e, k, 2 * n + 1]
               : memref<?x64xf32>, memref<4x64x128xf32>, memref<?x64xf32>, memref<4x64x128xf32>)
      outs(%y : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 2, tile_columns = 4, block_rows = 4, block_columns = 32, block_sum = 64, lanes = 16>} {
  ^bb0(%gate: f32, %up: f32):
    %h = arith.mulf %gate, %up : f32
    moe.yield %h : f32
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
