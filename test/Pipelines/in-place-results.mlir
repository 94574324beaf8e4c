// RUN: moe-opt %s --moe-in-place-results --split-input-file | FileCheck %s

// Both products may begin in the memory of @zeros' fill: the first result must not be where the
// second reads it from.

// CHECK-LABEL: func @shared
// CHECK: bufferization.materialize_in_destination %{{.*}} in writable %[[A:.*]] :
// CHECK: bufferization.materialize_in_destination %{{.*}} in restrict writable %[[B:.*]] :
func.func @shared(%x: tensor<4x4xf32>, %a: memref<4x4xf32>, %b: memref<4x4xf32>) {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<4x4xf32>
  %zeros = linalg.fill ins(%zero : f32) outs(%empty : tensor<4x4xf32>) -> tensor<4x4xf32>
  %0 = linalg.matmul ins(%x, %x : tensor<4x4xf32>, tensor<4x4xf32>)
      outs(%zeros : tensor<4x4xf32>) -> tensor<4x4xf32>
  %1 = linalg.add ins(%0, %x : tensor<4x4xf32>, tensor<4x4xf32>)
      outs(%zeros : tensor<4x4xf32>) -> tensor<4x4xf32>
  bufferization.materialize_in_destination %0 in restrict writable %a
      : (tensor<4x4xf32>, memref<4x4xf32>) -> ()
  bufferization.materialize_in_destination %1 in restrict writable %b
      : (tensor<4x4xf32>, memref<4x4xf32>) -> ()
  return
}

// -----

// Nothing in common: both stay.

// CHECK-LABEL: func @apart
// CHECK-COUNT-2: bufferization.materialize_in_destination %{{.*}} in restrict writable
func.func @apart(%x: tensor<4x4xf32>, %a: memref<4x4xf32>, %b: memref<4x4xf32>) {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<4x4xf32>
  %0 = linalg.fill ins(%zero : f32) outs(%empty : tensor<4x4xf32>) -> tensor<4x4xf32>
  %1 = linalg.exp ins(%x : tensor<4x4xf32>) outs(%empty : tensor<4x4xf32>) -> tensor<4x4xf32>
  bufferization.materialize_in_destination %0 in restrict writable %a
      : (tensor<4x4xf32>, memref<4x4xf32>) -> ()
  bufferization.materialize_in_destination %1 in restrict writable %b
      : (tensor<4x4xf32>, memref<4x4xf32>) -> ()
  return
}

// -----

// In a loop a result may be read in the next iteration.

// CHECK-LABEL: func @loop
// CHECK: bufferization.materialize_in_destination %{{.*}} in writable
func.func @loop(%x: tensor<4xf32>, %a: memref<4xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    %empty = tensor.empty() : tensor<4xf32>
    %0 = linalg.exp ins(%x : tensor<4xf32>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
    bufferization.materialize_in_destination %0 in restrict writable %a
        : (tensor<4xf32>, memref<4xf32>) -> ()
  }
  return
}
