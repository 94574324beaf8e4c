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

// Packed weights are the second operand as they lie, and so are rows the first, 32 at a time; those that are left
// and the end of k, 6 elements, are copied, without a shuffle. 40 columns are two panels.
// CHECK-LABEL: func @packed
//  CHECK-SAME:   %[[X:[^ ]*]]: memref<?x1094xbf16>, %[[W:[^ ]*]]: memref<4x2x547x32x2xbf16>
//       CHECK: scf.parallel
//   CHECK-DAG:   %[[SUMS:.*]] = memref.alloca() {alignment = 64 : i64} : memref<1x128x64xf32>
//   CHECK-DAG:   %[[ROWS:.*]] = memref.alloca() {alignment = 64 : i64} : memref<8x560x32xbf16>
//   CHECK-DAG:   %[[EDGE:.*]] = memref.alloca() {alignment = 64 : i64} : memref<2x16x32xbf16>
//   CHECK-NOT:   vector.shuffle
//       CHECK:   vector.store %{{.*}}, %[[ROWS]]
//       CHECK:   vector.maskedload %[[X]]
//       CHECK:   vector.store %{{.*}}, %[[ROWS]]
//       CHECK:   %[[PANELS:.*]] = memref.collapse_shape %[[W]]
// Where rows are few, two tiles of copies ask for all that comes next, a panel's 1 KB a step.
//       CHECK:   scf.if
//       CHECK:   scf.for {{.*}} iter_args(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) -> (!amx.tile<16x16xf32>, !amx.tile<16x16xf32>, !amx.tile<16x16xf32>, !amx.tile<16x16xf32>)
// CHECK-COUNT-32: memref.prefetch %[[PANELS]]
//   CHECK-NOT:   memref.prefetch
// CHECK-COUNT-2: amx.tile_load %[[ROWS]]
// CHECK-COUNT-2: amx.tile_load %[[PANELS]][{{.*}}] : memref<4x2x547x64xbf16> into !amx.tile<16x32xbf16>
// CHECK-COUNT-4: amx.tile_mulf
//       CHECK:   scf.yield
// CHECK-COUNT-4: amx.tile_store %[[SUMS]]
//       CHECK:   } else {
//       CHECK:   scf.for {{.*}} iter_args(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) -> (!amx.tile<16x16xf32>, !amx.tile<16x16xf32>, !amx.tile<16x16xf32>, !amx.tile<16x16xf32>)
// CHECK-COUNT-16: memref.prefetch %[[PANELS]]
//   CHECK-NOT:   memref.prefetch
// CHECK-COUNT-2: amx.tile_load %[[X]][{{.*}}] : memref<?x1094xbf16> into !amx.tile<16x32xbf16>
// CHECK-COUNT-2: amx.tile_load %[[PANELS]]
// CHECK-COUNT-4: amx.tile_mulf
// The rows that are left.
// CHECK-COUNT-2: amx.tile_load %[[ROWS]]
// A second part of k adds to what is there.
//       CHECK:   amx.tile_load %[[SUMS]]
//       CHECK:   amx.tile_mulf
// The end of k: three pairs, and zeros.
//       CHECK:   vector.load %[[PANELS]]{{.*}} vector<32xbf16>
//       CHECK:   vector.store %{{.*}}, %[[EDGE]]
//       CHECK:   vector.store %{{.*}}, %[[EDGE]]
// CHECK-COUNT-4: amx.tile_load %[[SUMS]]
// CHECK-COUNT-2: amx.tile_load %[[EDGE]]
// CHECK-COUNT-2: amx.tile_load %[[ROWS]]
// CHECK-COUNT-4: amx.tile_mulf
// CHECK-COUNT-4: amx.tile_store %[[SUMS]]
//   CHECK-NOT:   vector.shuffle
//       CHECK:   return
func.func @packed(%offsets: memref<5xi32>, %x: memref<?x1094xbf16>, %w: memref<4x2x547x32x2xbf16>, %y: memref<?x40xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2] : memref<?x1094xbf16>, memref<4x2x547x32x2xbf16>)
      outs(%y : memref<?x40xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 128, block_columns = 64, block_sum = 512, lanes = 16, kernel = amx>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// Gathered rows are all copied, once for gate and up.
// CHECK-LABEL: func @packed_gathered
//  CHECK-SAME:   %[[X:[^ ]*]]: memref<?x64xbf16>
//   CHECK-NOT: amx.tile_load %[[X]]
//       CHECK: vector.load %[[X]]
//       CHECK: amx.tile_mulf
//   CHECK-NOT: {{vector.load|amx.tile_load}} %[[X]]
//       CHECK: return
func.func @packed_gathered(%offsets: memref<5xi32>, %source: memref<?xi32>, %x: memref<?x64xbf16>, %gate: memref<4x1x32x32x2xbf16>, %up: memref<4x1x32x32x2xbf16>, %y: memref<?x32xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>) source(%source : memref<?xi32>) top_k(2)
      products(%x[t, k] * %gate[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2],
               %x[t, k] * %up[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2]
               : memref<?x64xbf16>, memref<4x1x32x32x2xbf16>, memref<?x64xbf16>, memref<4x1x32x32x2xbf16>)
      outs(%y : memref<?x32xf32>)
      attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 128, block_columns = 32, block_sum = 512, lanes = 16, kernel = amx>} {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    moe.yield %p : f32
  }
  return
}
