// RUN: moe-opt %s --moe-grouped-matmul-to-vector | FileCheck %s

// 40 columns are a pair of tiles and 8 more; 70 elements of k two steps and 6 more.
// CHECK-LABEL: func @rows
//  CHECK-SAME:   %[[X:[^ ]*]]: memref<?x70xbf16>, %[[W:[^ ]*]]: memref<4x40x70xbf16>
//       CHECK: scf.parallel
//   CHECK-DAG:   %[[PANEL:.*]] = memref.alloca() {alignment = 64 : i64} : memref<4x48x32xbf16>
//   CHECK-DAG:   %[[EDGE:.*]] = memref.alloca() {alignment = 64 : i64} : memref<2x16x32xbf16>
// Rows are turned once, in 16 × 16 pairs.
//       CHECK:   vector.load %[[X]][{{.*}}] : memref<?x70xbf16>, vector<32xbf16>
//       CHECK:   vector.shuffle
//       CHECK:   vector.store %{{.*}}, %[[PANEL]]
// Whole tiles of weights are read in place.
//       CHECK:   scf.for {{.*}} iter_args(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) -> (!amx.tile<16x16xf32>, !amx.tile<16x16xf32>, !amx.tile<16x16xf32>, !amx.tile<16x16xf32>)
// CHECK-COUNT-2: amx.tile_load %[[PANEL]]
//       CHECK:   amx.tile_load %[[W]][{{.*}}], %{{.*}} : memref<4x40x70xbf16> into !amx.tile<16x32xbf16>
// CHECK-COUNT-2: amx.tile_mulf
//       CHECK:   amx.tile_load %[[W]]
// CHECK-COUNT-2: amx.tile_mulf
//       CHECK:   scf.yield
// The end of k is a copy that is filled up.
//       CHECK:   vector.maskedload %[[W]]
//       CHECK:   vector.store %{{.*}}, %[[EDGE]]
//       CHECK:   amx.tile_load %[[EDGE]]
//       CHECK:   amx.tile_store
func.func @rows(%offsets: memref<5xi32>, %x: memref<?x70xbf16>, %w: memref<4x40x70xbf16>, %y: memref<?x40xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x70xbf16>, memref<4x40x70xbf16>)
      outs(%y : memref<?x40xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 2048, lanes = 16, kernel = amx>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// With n last, weights are the second operand: two rows of them in turns, in a panel of pairs of k.
// CHECK-LABEL: func @columns
//  CHECK-SAME:   %[[X:[^ ]*]]: memref<?x70xbf16>, %[[W:[^ ]*]]: memref<4x70x40xbf16>
//       CHECK: scf.parallel
//   CHECK-DAG:   %[[ROWS:.*]] = memref.alloca() {alignment = 64 : i64} : memref<4x48x32xbf16>
//   CHECK-DAG:   %[[PANEL:.*]] = memref.alloca() {alignment = 64 : i64} : memref<48x2x32xbf16>
//   CHECK-DAG:   %[[SUMS:.*]] = memref.alloca() {alignment = 64 : i64} : memref<1x64x64xf32>
// Rows are copied as they are.
//       CHECK:   %[[ROW:.*]] = vector.load %[[X]][{{.*}}] : memref<?x70xbf16>, vector<32xbf16>
//   CHECK-NOT:   vector.shuffle
//       CHECK:   vector.store %[[ROW]], %[[ROWS]]
//       CHECK:   %[[LOW:.*]] = vector.shuffle {{.*}} : vector<32xbf16>, vector<32xbf16>
//       CHECK:   vector.store %[[LOW]], %[[PANEL]]
//       CHECK:   %[[HIGH:.*]] = vector.shuffle {{.*}} : vector<32xbf16>, vector<32xbf16>
//       CHECK:   vector.store %[[HIGH]], %[[PANEL]]
//       CHECK:   scf.for {{.*}} iter_args(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) -> (!amx.tile<16x16xf32>, !amx.tile<16x16xf32>, !amx.tile<16x16xf32>, !amx.tile<16x16xf32>)
// CHECK-COUNT-2: amx.tile_load %[[ROWS]]
//       CHECK:   amx.tile_load %[[PANEL]][{{.*}}], %{{.*}} : memref<48x2x32xbf16> into !amx.tile<16x32xbf16>
// CHECK-COUNT-2: amx.tile_mulf
//       CHECK:   amx.tile_load %[[PANEL]]
// CHECK-COUNT-2: amx.tile_mulf
//       CHECK:   scf.yield
// Results go where they belong, as they are; only pairs of vectors are put in order.
// CHECK-COUNT-4: amx.tile_store %[[SUMS]]
//       CHECK:   vector.shuffle {{.*}} : vector<16xf32>, vector<16xf32>
func.func @columns(%offsets: memref<5xi32>, %x: memref<?x70xbf16>, %w: memref<4x70x40xbf16>, %y: memref<?x40xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, n] : memref<?x70xbf16>, memref<4x70x40xbf16>)
      outs(%y : memref<?x40xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 2048, lanes = 16, kernel = amx>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// Interleaved gate and up are two tiles of 16 columns from one panel, each in its order.
// CHECK-LABEL: func @interleaved
//       CHECK: %[[SUMS:.*]] = memref.alloca() {alignment = 64 : i64} : memref<2x64x32xf32>
// CHECK-COUNT-4: amx.tile_mulf
// CHECK-COUNT-4: amx.tile_store %[[SUMS]]
//   CHECK-NOT: vector.shuffle {{.*}} : vector<16xf32>, vector<16xf32>
//       CHECK: return
func.func @interleaved(%offsets: memref<5xi32>, %x: memref<?x64xbf16>, %w: memref<4x64x64xbf16>, %y: memref<?x32xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, 2 * n], %x[m, k] * %w[e, k, 2 * n + 1]
               : memref<?x64xbf16>, memref<4x64x64xbf16>, memref<?x64xbf16>, memref<4x64x64xbf16>)
      outs(%y : memref<?x32xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 32, block_sum = 2048, lanes = 16, kernel = amx>} {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    moe.yield %p : f32
  }
  return
}
