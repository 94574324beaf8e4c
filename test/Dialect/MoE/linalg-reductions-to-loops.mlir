// Sums are carried in registers, eight at a time; every other op is left for
// convert-linalg-to-loops. The pass nests anywhere.

// RUN: moe-opt %s --moe-linalg-reductions-to-loops --canonicalize --split-input-file | FileCheck %s
// RUN: moe-opt %s --pass-pipeline='any(any(moe-linalg-reductions-to-loops,canonicalize))' --split-input-file \
// RUN:     | FileCheck %s
// RUN: moe-opt %s --pass-pipeline='builtin.module(func.func(moe-linalg-reductions-to-loops,canonicalize))' \
// RUN:     --split-input-file | FileCheck %s

// 19 columns: two times eight sums, then three times one.
// CHECK-LABEL: func @matmul
func.func @matmul(%a: memref<?x8xf32>, %b: memref<8x19xf32>, %c: memref<?x19xf32>) {
  // CHECK: scf.for %[[M:.*]] =
  // CHECK: scf.for %[[N:.*]] = %c0 to %c16 step %c8
  // CHECK-COUNT-8: memref.load %arg2
  // CHECK: scf.for %[[K:.*]] = {{.*}} -> (f32, f32, f32, f32, f32, f32, f32, f32)
  // CHECK-NOT: memref.store
  // CHECK: scf.yield
  // CHECK-COUNT-8: memref.store {{.*}}, %arg2
  // CHECK: scf.for %[[N1:.*]] = %c16 to %c19 step %c1
  // CHECK: %[[INIT:.*]] = memref.load %arg2[%[[M]], %[[N1]]]
  // CHECK: %[[SUM:.*]] = scf.for %[[K1:.*]] = %c0 to %c8 step %c1 iter_args(%[[S:.*]] = %[[INIT]]) -> (f32)
  // CHECK: %[[P:.*]] = arith.mulf
  // CHECK: %[[NEXT:.*]] = arith.addf %[[S]], %[[P]]
  // CHECK: scf.yield %[[NEXT]]
  // CHECK: memref.store %[[SUM]], %arg2[%[[M]], %[[N1]]]
  // CHECK-NOT: linalg
  linalg.matmul ins(%a, %b : memref<?x8xf32>, memref<8x19xf32>) outs(%c : memref<?x19xf32>)
  return
}

// -----
// CHECK-LABEL: func @sum_of_all
func.func @sum_of_all(%a: memref<16xf32>, %b: memref<f32>) {
  // CHECK: %[[INIT:.*]] = memref.load %arg1[]
  // CHECK: %[[SUM:.*]] = scf.for {{.*}} iter_args(%{{.*}} = %[[INIT]])
  // CHECK: memref.store %[[SUM]], %arg1[]
  linalg.reduce ins(%a : memref<16xf32>) outs(%b : memref<f32>) dimensions = [0] (%x: f32, %sum: f32) {
    %s = arith.addf %sum, %x : f32
    linalg.yield %s : f32
  }
  return
}

// -----
// No reduction.
// CHECK-LABEL: func @elementwise
func.func @elementwise(%a: memref<4xf32>, %b: memref<4xf32>) {
  // CHECK-NEXT: linalg.exp
  linalg.exp ins(%a : memref<4xf32>) outs(%b : memref<4xf32>)
  return
}

// -----
// Tensors.
// CHECK-LABEL: func @tensors
func.func @tensors(%a: tensor<?x8xf32>, %b: tensor<8x19xf32>, %c: tensor<?x19xf32>) -> tensor<?x19xf32> {
  // CHECK-NEXT: linalg.matmul
  %0 = linalg.matmul ins(%a, %b : tensor<?x8xf32>, tensor<8x19xf32>) outs(%c : tensor<?x19xf32>) -> tensor<?x19xf32>
  return %0 : tensor<?x19xf32>
}

// -----
// A convolution reads at the sum of two loops: not a projected permutation.
// CHECK-LABEL: func @convolution
func.func @convolution(%a: memref<12xf32>, %b: memref<3xf32>, %c: memref<10xf32>) {
  // CHECK-NEXT: linalg.conv_1d
  linalg.conv_1d ins(%a, %b : memref<12xf32>, memref<3xf32>) outs(%c : memref<10xf32>)
  return
}

// -----
// Two outputs.
// CHECK-LABEL: func @two_outputs
func.func @two_outputs(%a: memref<4x16xf32>, %s: memref<4xf32>, %m: memref<4xf32>) {
  // CHECK-NEXT: linalg.generic
  linalg.generic {
      indexing_maps = [affine_map<(m, k) -> (m, k)>, affine_map<(m, k) -> (m)>, affine_map<(m, k) -> (m)>],
      iterator_types = ["parallel", "reduction"]}
      ins(%a : memref<4x16xf32>) outs(%s, %m : memref<4xf32>, memref<4xf32>) {
  ^bb0(%x: f32, %sum: f32, %max: f32):
    %0 = arith.addf %sum, %x : f32
    %1 = arith.maximumf %max, %x : f32
    linalg.yield %0, %1 : f32, f32
  }
  return
}
