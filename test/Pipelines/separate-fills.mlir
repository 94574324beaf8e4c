// RUN: moe-opt %s --moe-separate-fills | FileCheck %s

// Two products on the same zeros, as CSE leaves them.

// CHECK-LABEL: func @products
// CHECK: %[[E0:.*]] = tensor.empty(%[[N:.*]]) : tensor<?x4xf32>
// CHECK-NEXT: %[[Z0:.*]] = linalg.fill {{.*}} outs(%[[E0]] : tensor<?x4xf32>)
// CHECK-NEXT: linalg.matmul {{.*}} outs(%[[Z0]] : tensor<?x4xf32>)
// CHECK-NEXT: %[[E1:.*]] = tensor.empty(%[[N]]) : tensor<?x4xf32>
// CHECK-NEXT: %[[Z1:.*]] = linalg.fill {{.*}} outs(%[[E1]] : tensor<?x4xf32>)
// CHECK-NEXT: linalg.matmul {{.*}} outs(%[[Z1]] : tensor<?x4xf32>)
// CHECK-NEXT: return
func.func @products(%x: tensor<?x4xf32>, %w: tensor<4x4xf32>, %n: index)
    -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty(%n) : tensor<?x4xf32>
  %zeros = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x4xf32>) -> tensor<?x4xf32>
  %0 = linalg.matmul ins(%x, %w : tensor<?x4xf32>, tensor<4x4xf32>)
      outs(%zeros : tensor<?x4xf32>) -> tensor<?x4xf32>
  %1 = linalg.matmul ins(%x, %w : tensor<?x4xf32>, tensor<4x4xf32>)
      outs(%zeros : tensor<?x4xf32>) -> tensor<?x4xf32>
  return %0, %1 : tensor<?x4xf32>, tensor<?x4xf32>
}

// A reader keeps the original.

// CHECK-LABEL: func @reader
// CHECK: %[[Z:.*]] = linalg.fill
// CHECK: %[[OWN:.*]] = linalg.fill
// CHECK: linalg.matmul ins(%[[Z]], %{{.*}}) outs(%[[OWN]] :
func.func @reader(%w: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %one = arith.constant 1.0 : f32
  %empty = tensor.empty() : tensor<4x4xf32>
  %ones = linalg.fill ins(%one : f32) outs(%empty : tensor<4x4xf32>) -> tensor<4x4xf32>
  %0 = linalg.matmul ins(%ones, %w : tensor<4x4xf32>, tensor<4x4xf32>)
      outs(%ones : tensor<4x4xf32>) -> tensor<4x4xf32>
  return %0 : tensor<4x4xf32>
}

// One use, and a fill of a tensor that somebody gave: nothing to do.

// CHECK-LABEL: func @left_alone
// CHECK-COUNT-2: linalg.fill
// CHECK-NOT: linalg.fill
func.func @left_alone(%x: tensor<4x4xf32>, %given: tensor<4x4xf32>)
    -> (tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>) {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<4x4xf32>
  %once = linalg.fill ins(%zero : f32) outs(%empty : tensor<4x4xf32>) -> tensor<4x4xf32>
  %0 = linalg.matmul ins(%x, %x : tensor<4x4xf32>, tensor<4x4xf32>)
      outs(%once : tensor<4x4xf32>) -> tensor<4x4xf32>
  %twice = linalg.fill ins(%zero : f32) outs(%given : tensor<4x4xf32>) -> tensor<4x4xf32>
  %1 = linalg.matmul ins(%x, %x : tensor<4x4xf32>, tensor<4x4xf32>)
      outs(%twice : tensor<4x4xf32>) -> tensor<4x4xf32>
  %2 = linalg.exp ins(%x : tensor<4x4xf32>) outs(%twice : tensor<4x4xf32>) -> tensor<4x4xf32>
  return %0, %1, %2 : tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>
}
