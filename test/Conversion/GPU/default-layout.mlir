// RUN: moe-opt %s --moe-lower-to-gpu --canonicalize --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-lower-to-gpu --split-input-file --remarks-filter-missed=MoELowerToGPU -o /dev/null 2>&1 | FileCheck %s --check-prefix=MISSED

// What bufferization has put into another buffer is copied to and from memory that a kernel takes.

// MISSED: a memref<?x1xf32, strided<[2, 1]>> is copied: kernels take buffers in the default layout
// MISSED: a memref<?x1xi32, strided<[2, 1], offset: 1>> is copied
// CHECK: func.func @parts(%[[L:.*]]: memref<?x8xf32>, %[[W:.*]]: memref<?x1xf32, strided<[2, 1]>>, %[[I:.*]]: memref<?x1xi32, strided<[2, 1], offset: 1>>)
// CHECK:   %[[WEIGHTS:.*]] = memref.alloc(%{{.*}}) : memref<?x1xf32>
// CHECK:   memref.copy %[[W]], %[[WEIGHTS]]
// CHECK:   %[[IDS:.*]] = memref.alloc(%{{.*}}) : memref<?x1xi32>
// CHECK:   gpu.launch_func @moe_kernels::@parts_gate
// CHECK-DAG: memref.copy %[[WEIGHTS]], %[[W]]
// CHECK-DAG: memref.copy %[[IDS]], %[[I]]
// CHECK: return
func.func @parts(%l: memref<?x8xf32>, %w: memref<?x1xf32, strided<[2, 1]>>, %i: memref<?x1xi32, strided<[2, 1], offset: 1>>) {
  moe.gate score(softmax) ins(%l : memref<?x8xf32>) outs(%w, %i : memref<?x1xf32, strided<[2, 1]>>, memref<?x1xi32, strided<[2, 1], offset: 1>>)
  return
}

// -----

// MISSED: a memref<?x64xf32, strided<[128, 1], offset: 64>> is copied
// CHECK: func.func @combine(
// CHECK-SAME: %[[BASE:[^:]*]]: memref<?x64xf32, strided<[128, 1], offset: 64>>)
// CHECK: %[[COPY:.*]] = memref.alloc(%{{.*}}) : memref<?x64xf32>
// CHECK: memref.copy %[[BASE]], %[[COPY]]
// CHECK: gpu.launch_func @moe_kernels::@combine_combine
// CHECK-NEXT: memref.copy %[[COPY]], %[[BASE]]
// CHECK-NEXT: return
func.func @combine(%rows: memref<?x64xf32>, %slots: memref<?x2xi32>, %w: memref<?x2xf32>, %base: memref<?x64xf32, strided<[128, 1], offset: 64>>) {
  moe.combine rows(%rows : memref<?x64xf32>) slots(%slots : memref<?x2xi32>) weights(%w : memref<?x2xf32>)
      base(%base : memref<?x64xf32, strided<[128, 1], offset: 64>>) outs(%base : memref<?x64xf32, strided<[128, 1], offset: 64>>)
  return
}

// -----

// Rows apart are read and written where they are; offsets that begin in the middle of a buffer are not.

// MISSED-NOT: memref<?x64xbf16
// MISSED: a memref<5xi32, strided<[1], offset: 5>> is copied
// CHECK: func.func @matmul(%[[OFFSETS:.*]]: memref<5xi32, strided<[1], offset: 5>>, %[[X:.*]]: memref<?x64xbf16, strided<[128, 1], offset: 64>>,
// CHECK: %[[COPY:.*]] = memref.alloc() : memref<5xi32>
// CHECK: memref.copy %[[OFFSETS]], %[[COPY]]
// CHECK-NOT: memref.alloc
// CHECK: gpu.launch_func @moe_kernels::@matmul_matmul
// CHECK-NOT: memref.copy
// CHECK: return
func.func @matmul(%o: memref<5xi32, strided<[1], offset: 5>>, %x: memref<?x64xbf16, strided<[128, 1], offset: 64>>, %w: memref<4x128x64xbf16>,
                  %y: memref<?x128xbf16, strided<[256, 1]>>) {
  moe.grouped_matmul offsets(%o : memref<5xi32, strided<[1], offset: 5>>)
      products(%x[m, k] * %w[e, n, k] : memref<?x64xbf16, strided<[128, 1], offset: 64>>, memref<4x128x64xbf16>)
      outs(%y : memref<?x128xbf16, strided<[256, 1]>>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 64, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 2, stages = 3>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}
