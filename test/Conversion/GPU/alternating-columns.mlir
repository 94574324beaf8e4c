// RUN: moe-opt %s --moe-lower-to-gpu --canonicalize --split-input-file | FileCheck %s

// Gate and up whose columns alternate in one weight are products with one weight of twice the columns: 4 passes of
// copies for 128 rows, 4 for 128 columns of the weight.

// CHECK: llvm.func @mma_sync_matmul
// CHECK-COUNT-16: nvvm.cp.async.shared.global
// CHECK-NOT:      nvvm.cp.async.shared.global
// CHECK:     nvvm.cp.async.wait.group 2
// CHECK:     nvvm.barrier0
// 4 loads of rows, 2 of 16 columns each.
// CHECK-COUNT-4: nvvm.ldmatrix {{.*}}layout = #nvvm.mma_layout<row>
// CHECK-COUNT-2: nvvm.ldmatrix {{.*}}layout = #nvvm.mma_layout<col>
// CHECK:     nvvm.mma.sync
// CHECK:   scf.yield
// A lane has both sums of a column: no shuffle. The second product's column is the first of two.
// CHECK-NOT: nvvm.shfl
// CHECK:   %[[GATE:.*]] = arith.negf %[[SUMS:.*]]#3
// CHECK:   arith.mulf %[[GATE]], %[[SUMS]]#2
// CHECK:   arith.truncf %{{.*}} : f32 to bf16
// CHECK:   llvm.store %{{.*}} {alignment = 2 : i64} : bf16, !llvm.ptr<1>
func.func @mma_sync(%offsets: memref<5xi32>, %x: memref<?x128xbf16>, %w: memref<4x128x256xbf16>, %h: memref<?x128xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, n * 2 + 1], %x[m, k] * %w[e, k, n * 2]
               : memref<?x128xbf16>, memref<4x128x256xbf16>, memref<?x128xbf16>, memref<4x128x256xbf16>)
      outs(%h : memref<?x128xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>} {
  ^bb0(%g: f32, %u: f32):
    %minus = arith.negf %g : f32
    %p = arith.mulf %minus, %u : f32
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// -----

// One map of 2·N columns, of which a step takes 4 panels, and one product of 64 × 256 instead of two of 64 × 128.

// CHECK-LABEL: func.func @wgmma
// CHECK:         memref.reinterpret_cast %{{.*}} to offset: [0], sizes: [%{{.*}}, 128], strides: [128, 1]
// CHECK:         memref.reinterpret_cast %{{.*}} to offset: [0], sizes: [4, 128, 256], strides: [32768, 256, 1]
// CHECK:         nvgpu.tma.create.descriptor %{{.*}} box[%c1, %c64, %c64] : memref<*xbf16>
// CHECK-NOT:     nvgpu.tma.create.descriptor
// CHECK: llvm.func @wgmma_matmul
// CHECK:           nvvm.mbarrier.arrive.expect_tx
// CHECK-COUNT-5:   nvvm.cp.async.bulk.tensor.shared.cluster.global
// CHECK-NOT:       nvvm.cp.async.bulk.tensor.shared.cluster.global
// CHECK-COUNT-4:   nvvm.wgmma.mma_async {{.*}}, <m = 64, n = 256, k = 16>, D[<f32>, <one>], A[<bf16>, <one>, <row>], B[<bf16>, <one>, <row>]
// CHECK-NOT:       nvvm.wgmma.mma_async
// CHECK:         nvvm.wgmma.wait.group.sync.aligned 0
// CHECK:         arith.mulf
// Lanes exchange results as ever; then columns 4 apart are sorted.
// CHECK-COUNT-4: nvvm.shfl.sync  bfly
// CHECK:         arith.shli
// CHECK:         arith.ori
// CHECK:         llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
func.func @wgmma(%offsets: memref<5xi32>, %x: memref<?x128xbf16>, %w: memref<4x128x256xbf16>, %h: memref<?x128xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, n * 2], %x[m, k] * %w[e, k, n * 2 + 1]
               : memref<?x128xbf16>, memref<4x128x256xbf16>, memref<?x128xbf16>, memref<4x128x256xbf16>)
      outs(%h : memref<?x128xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 128, tile_sum = 64, groups = 2, stages = 2>} {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// -----

// With columns on the side of 64, lanes 4 apart have gate and up of a column, and exchange half of them.

// CHECK: llvm.func @swapped_matmul
// CHECK-COUNT-4:   nvvm.wgmma.mma_async {{.*}}, <m = 64, n = 8, k = 16>, D[<f32>, <one>], A[<bf16>, <one>, <col>], B[<bf16>, <one>, <col>]
// CHECK:         nvvm.wgmma.wait.group.sync.aligned 0
// CHECK:         %[[IN_PAIR:.*]] = arith.andi %{{.*}}, %c4_i32
// CHECK:         %[[SECOND:.*]] = arith.cmpi eq, %[[IN_PAIR]], %c4_i32
// CHECK:         %[[SENT:.*]] = arith.select %[[SECOND]], %[[UPPER:.*]], %[[LOWER:.*]] : f32
// CHECK:         %[[GOT:.*]] = nvvm.shfl.sync  bfly %{{.*}}, %[[SENT]], %c4_i32
// CHECK:         %[[GATE:.*]] = arith.select %[[SECOND]], %[[GOT]], %[[UPPER]]
// CHECK:         %[[UP:.*]] = arith.select %[[SECOND]], %[[LOWER]], %[[GOT]]
// CHECK:         arith.mulf %[[GATE]], %[[UP]]
func.func @swapped(%offsets: memref<5xi32>, %x: memref<?x128xbf16>, %w: memref<4x128x256xbf16>, %h: memref<?x128xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, n * 2], %x[m, k] * %w[e, k, n * 2 + 1]
               : memref<?x128xbf16>, memref<4x128x256xbf16>, memref<?x128xbf16>, memref<4x128x256xbf16>)
      outs(%h : memref<?x128xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 8, tile_columns = 64, tile_sum = 64, groups = 1, stages = 2, swapped = true>} {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}
