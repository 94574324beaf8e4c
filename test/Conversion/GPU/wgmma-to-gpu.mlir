// RUN: moe-opt %s --moe-lower-to-gpu --canonicalize --split-input-file | FileCheck %s

// What the host launches: tensor maps of the rows, and of gate and up together.

// CHECK-LABEL: func.func @gate_up
// CHECK-SAME:  (%[[OFFSETS:.*]]: memref<5xi32>, %[[X:.*]]: memref<?x128xbf16>, %[[W:.*]]: memref<4x256x128xbf16>, %[[H:.*]]: memref<?x128xbf16>
// CHECK-DAG:   %[[BYTES:.*]] = arith.constant 98336 : i32
// CHECK-DAG:   %[[THREADS:.*]] = arith.constant 384 : index
// CHECK:       %[[ROWS:.*]] = memref.dim %[[H]], %c0
// No rows have no tensor map.
// CHECK:       %[[ANY:.*]] = arith.cmpi ne, %[[ROWS]], %c0
// CHECK:       scf.if %[[ANY]] {
// CHECK:         %[[ROW_VIEW:.*]] = memref.reinterpret_cast %[[X]] to offset: [0], sizes: [%[[ROWS]], 128], strides: [128, 1]
// CHECK:         %[[ROW_ANY:.*]] = memref.cast %[[ROW_VIEW]]
// CHECK:         %[[ROW_MAP:.*]] = nvgpu.tma.create.descriptor %[[ROW_ANY]] box[%c128, %c64] : memref<*xbf16>
// CHECK-SAME:      -> <tensor = memref<128x64xbf16, 3>, swizzle = swizzle_128b, l2promo = l2promo_256b, oob = zero, interleave = none>
// CHECK:         %[[W_VIEW:.*]] = memref.reinterpret_cast %[[W]] to offset: [0], sizes: [4, 256, 128], strides: [32768, 128, 1]
// CHECK:         %[[W_ANY:.*]] = memref.cast %[[W_VIEW]]
// CHECK:         %[[W_MAP:.*]] = nvgpu.tma.create.descriptor %[[W_ANY]] box[%c1, %c128, %c64] : memref<*xbf16>
// CHECK-NOT:     nvgpu.tma.create.descriptor
// CHECK:         gpu.launch_func @moe_kernels::@gate_up_matmul blocks in (%{{.*}}, %c1, %c1) threads in (%[[THREADS]], %c1, %c1)
// CHECK-SAME:      dynamic_shared_memory_size %[[BYTES]]
// CHECK-SAME:      args(%[[ROW_MAP]] : !nvgpu.tensormap.descriptor<{{[^)]*}}>, %[[W_MAP]] : !nvgpu.tensormap.descriptor<{{[^)]*}}>, %{{.*}} : !llvm.ptr, %{{.*}} : !llvm.ptr)
// CHECK-SAME:      {moe.blocks_per_multiprocessor = 1 : i64}

// CHECK: llvm.func @gate_up_matmul(%[[MAP0:[^:]*]]: !llvm.ptr {llvm.align = 64 : i64, llvm.byval = !llvm.array<128 x i8>, nvvm.grid_constant},
// CHECK-SAME: %[[MAP1:[^:]*]]: !llvm.ptr {llvm.align = 64 : i64, llvm.byval = !llvm.array<128 x i8>, nvvm.grid_constant}, %{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>)
// CHECK-SAME: nvvm.maxntid = array<i32: 384, 1, 1>, nvvm.minctasm = 1 : i32
// Two stages with two barriers each: one arrival fills one, eight warps empty it.
// CHECK-DAG:   %[[ONE:.*]] = arith.constant 1 : i32
// CHECK-DAG:   %[[EIGHT:.*]] = arith.constant 8 : i32
// CHECK-DAG:   %[[STAGE:.*]] = arith.constant 49152 : i32
// CHECK:       nvvm.mbarrier.init %{{.*}}, %[[ONE]]
// CHECK:       nvvm.mbarrier.init %{{.*}}, %[[EIGHT]]
// CHECK:       nvvm.mbarrier.init %{{.*}}, %[[ONE]]
// CHECK:       nvvm.mbarrier.init %{{.*}}, %[[EIGHT]]
// CHECK:       nvvm.fence.mbarrier.init
// CHECK:       nvvm.barrier0
// CHECK:       nvvm.setmaxregister decrease 40
// CHECK:       scf.for
// CHECK:         scf.for
// CHECK:           nvvm.mbarrier.try_wait.parity
// CHECK:           nvvm.elect.sync
// CHECK:           nvvm.mbarrier.arrive.expect_tx %{{.*}}, %[[STAGE]]
// CHECK:           nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[MAP0]], %{{.*}}, box[%[[K:.*]], %{{.*}}] :
// CHECK:           nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[MAP1]], %{{.*}}, box[%[[K]], %[[N:.*]], %[[E:.*]]] :
// CHECK:           %[[UP:.*]] = arith.addi %[[N]], %c128_i32
// CHECK:           nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[MAP1]], %{{.*}}, box[%[[K]], %[[UP]], %[[E]]] :
// CHECK:       nvvm.setmaxregister increase 232
// CHECK:       scf.for
// CHECK:         scf.for
// CHECK:           nvvm.mbarrier.try_wait.parity
// CHECK:           nvvm.wgmma.fence.aligned
// CHECK-COUNT-8:   nvvm.wgmma.mma_async {{.*}}, <m = 64, n = 128, k = 16>, D[<f32>, <one>], A[<bf16>, <one>, <row>], B[<bf16>, <one>, <col>]
// CHECK-NEXT:      nvvm.wgmma.commit.group.sync.aligned
// CHECK-NEXT:      nvvm.wgmma.wait.group.sync.aligned 1
// CHECK:           nvvm.mbarrier.arrive
// CHECK:         nvvm.wgmma.wait.group.sync.aligned 0
// CHECK:         nvvm.mbarrier.arrive
// CHECK:         arith.mulf
// 32 columns at once: four lanes exchange what they have, in two steps.
// CHECK-COUNT-4: nvvm.shfl.sync  bfly
// CHECK:         llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
func.func @gate_up(%offsets: memref<5xi32>, %x: memref<?x128xbf16>, %w: memref<4x256x128xbf16>, %h: memref<?x128xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k], %x[m, k] * %w[e, n + 128, k]
               : memref<?x128xbf16>, memref<4x256x128xbf16>, memref<?x128xbf16>, memref<4x256x128xbf16>)
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

// Columns of gate and up that take turns are two maps: a row of one is two rows of the weight further on. Gathered rows
// have none. The numbers of experts and of rows are the host's.

// CHECK-LABEL: func.func @interleaved
// CHECK:   %[[E:.*]] = arith.subi
// CHECK:   memref.reinterpret_cast %{{.*}} to offset: [0], sizes: [%[[E]], 128, 128], strides: [32768, 256, 1]
// CHECK:   memref.reinterpret_cast %{{.*}} to offset: [128], sizes: [%[[E]], 128, 128], strides: [32768, 256, 1]
// CHECK:   gpu.launch_func
// 128 threads gather, and one lane announces bytes; four warps multiply.
// CHECK:   llvm.func @interleaved_matmul
// CHECK-DAG: %[[FILLS:.*]] = arith.constant 129 : i32
// CHECK-DAG: %[[EMPTIES:.*]] = arith.constant 4 : i32
// CHECK:   nvvm.mbarrier.init %{{.*}}, %[[FILLS]]
// CHECK:   nvvm.mbarrier.init %{{.*}}, %[[EMPTIES]]
// CHECK:   nvvm.cp.async.wait.group 0
// CHECK:   nvvm.fence.proxy
// CHECK:   nvvm.mbarrier.arrive
// CHECK:   nvvm.mbarrier.try_wait.parity
// CHECK:   nvvm.mbarrier.arrive.expect_tx
// CHECK-COUNT-2: nvvm.cp.async.bulk.tensor
// CHECK:   nvvm.cp.async.shared.global
// CHECK:   nvvm.cp.async.commit.group
// Weights are the side of 64, and 16 rows the other; a lane stores single elements.
// CHECK-COUNT-8: nvvm.wgmma.mma_async {{.*}}, <m = 64, n = 16, k = 16>
// CHECK:   llvm.store %{{.*}} {alignment = 2 : i64} : f16, !llvm.ptr<1>
func.func @interleaved(%offsets: memref<?xi32>, %source: memref<?xi32>, %x: memref<?x128xf16>, %w: memref<?x256x128xf16>, %h: memref<?x128xf16>) {
  moe.grouped_matmul offsets(%offsets : memref<?xi32>) source(%source : memref<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n * 2, k], %x[t, k] * %w[e, n * 2 + 1, k]
               : memref<?x128xf16>, memref<?x256x128xf16>, memref<?x128xf16>, memref<?x256x128xf16>)
      outs(%h : memref<?x128xf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 16, tile_columns = 64, tile_sum = 64, groups = 1, stages = 3, swapped = true>} {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return
}
