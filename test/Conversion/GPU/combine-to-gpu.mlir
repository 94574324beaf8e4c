// RUN: moe-opt %s --moe-lower-to-gpu --canonicalize --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-lower-to-gpu --split-input-file --remarks-filter-missed='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=MISSED

// CHECK: func.func @bf16
// 2048 columns, 8 a thread, 128 threads: two blocks a token.
// CHECK-DAG: %[[THREADS:.*]] = arith.constant 128 : index
// CHECK:     %[[BLOCKS:.*]] = arith.muli %{{.*}}, %c2
// CHECK:     arith.maxui %[[BLOCKS]], %c1
// CHECK:     gpu.launch_func @moe_kernels::@bf16_combine {{.*}} threads in (%[[THREADS]], %c1, %c1)
// CHECK-SAME: args({{.*}} : i32, %{{.*}} : i32)
// CHECK: llvm.func @bf16_combine
// CHECK: scf.for
// The choices of a token in ascending order of their slots, −1 last.
// CHECK:   scf.for
// CHECK:     scf.for
// CHECK:       arith.cmpi uge
// CHECK:       arith.cmpi ult
// CHECK:     llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xbf16>
// CHECK:     math.fma
// CHECK:   arith.addf
// CHECK:   arith.truncf %{{.*}} : vector<8xf32> to vector<8xbf16>
// CHECK:   llvm.store %{{.*}} {alignment = 16 : i64} : vector<8xbf16>, !llvm.ptr<1>
func.func @bf16(%rows: memref<?x2048xbf16>, %slots: memref<?x8xi32>, %weights: memref<?x8xf32>, %base: memref<?x2048xbf16>, %y: memref<?x2048xbf16>) {
  moe.combine rows(%rows : memref<?x2048xbf16>) slots(%slots : memref<?x8xi32>)
      weights(%weights : memref<?x8xf32>) base(%base : memref<?x2048xbf16>) outs(%y : memref<?x2048xbf16>)
  return
}

// -----

// An odd number of columns is added up one by one.

// CHECK: llvm.func @odd_combine
// CHECK: llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> vector<1xf32>
func.func @odd(%rows: memref<?x37xf32>, %slots: memref<?x2xi32>, %weights: memref<?x2xf32>, %y: memref<?x37xf32>) {
  moe.combine rows(%rows : memref<?x37xf32>) slots(%slots : memref<?x2xi32>)
      weights(%weights : memref<?x2xf32>) outs(%y : memref<?x37xf32>)
  return
}

// -----

// MISSED: a kernel takes buffers in the default layout with static rows, not {{.*}}memref<?x?xf32>
// CHECK: func.func @dynamic
// CHECK: moe.combine
func.func @dynamic(%rows: memref<?x?xf32>, %slots: memref<?x2xi32>, %weights: memref<?x2xf32>, %y: memref<?x?xf32>) {
  moe.combine rows(%rows : memref<?x?xf32>) slots(%slots : memref<?x2xi32>)
      weights(%weights : memref<?x2xf32>) outs(%y : memref<?x?xf32>)
  return
}
