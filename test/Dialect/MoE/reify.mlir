// The sizes of results are those of the destinations: nothing of an op is left when only sizes
// are asked for.

// RUN: moe-opt %s --resolve-ranked-shaped-type-result-dims --canonicalize | FileCheck %s

// CHECK-LABEL: func @gate
func.func @gate(%l: tensor<?x64xf32>, %w: tensor<?x?xf32>, %i: tensor<?x?xi32>) -> (index, index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // CHECK-NOT: moe.gate
  // CHECK-DAG: %[[T:.*]] = tensor.dim %arg1, %c0
  // CHECK-DAG: %[[K:.*]] = tensor.dim %arg2, %c1
  %0:2 = moe.gate score(softmax) ins(%l : tensor<?x64xf32>)
      outs(%w, %i : tensor<?x?xf32>, tensor<?x?xi32>)
  %t = tensor.dim %0#0, %c0 : tensor<?x?xf32>
  %k = tensor.dim %0#1, %c1 : tensor<?x?xi32>
  // CHECK: return %[[T]], %[[K]]
  return %t, %k : index, index
}

// CHECK-LABEL: func @dispatch
func.func @dispatch(%ids: tensor<?x2xi32>, %x: tensor<?x?xf32>, %o: tensor<?xi32>, %s: tensor<?x2xi32>,
                    %r: tensor<?x?xf32>) -> (index, index, index, index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // CHECK-NOT: moe.dispatch
  // CHECK-DAG: %[[E1:.*]] = tensor.dim %arg2, %c0
  // CHECK-DAG: %[[T:.*]] = tensor.dim %arg3, %c0
  // CHECK-DAG: %[[M:.*]] = tensor.dim %arg4, %c0
  // CHECK-DAG: %[[H:.*]] = tensor.dim %arg4, %c1
  %0:3 = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x?xf32>)
      outs(%o, %s, %r : tensor<?xi32>, tensor<?x2xi32>, tensor<?x?xf32>)
  %e1 = tensor.dim %0#0, %c0 : tensor<?xi32>
  %t = tensor.dim %0#1, %c0 : tensor<?x2xi32>
  %m = tensor.dim %0#2, %c0 : tensor<?x?xf32>
  %h = tensor.dim %0#2, %c1 : tensor<?x?xf32>
  // CHECK: return %[[E1]], %[[T]], %[[M]], %[[H]]
  return %e1, %t, %m, %h : index, index, index, index
}

// CHECK-LABEL: func @expert
func.func @expert(%o: tensor<?xi32>, %x: tensor<?x8xf32>, %s: tensor<8xf32>, %y: tensor<?x8xf32>,
                  %dw: tensor<?x8xf32>) -> (index, index) {
  %c0 = arith.constant 0 : index
  // CHECK-NOT: moe.expert
  // CHECK-DAG: %[[M:.*]] = tensor.dim %arg3, %c0
  // CHECK-DAG: %[[E:.*]] = tensor.dim %arg4, %c0
  %0:2 = moe.expert offsets(%o : tensor<?xi32>) rows(%x : tensor<?x8xf32>)
      outs(%y, %dw : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>):
    moe.yield %xe, %s : tensor<?x8xf32>, tensor<8xf32>
  }
  %m = tensor.dim %0#0, %c0 : tensor<?x8xf32>
  %e = tensor.dim %0#1, %c0 : tensor<?x8xf32>
  // CHECK: return %[[M]], %[[E]]
  return %m, %e : index, index
}

// CHECK-LABEL: func @grouped_matmul
func.func @grouped_matmul(%o: tensor<?xi32>, %s: tensor<?xi32>, %x: tensor<?x?xf32>, %w: tensor<?x?x?xf32>,
                          %sl: tensor<?x2xi32>, %g: tensor<?x2xf32>, %y: tensor<?x?xf32>,
                          %z: tensor<?x?xf32>) -> (index, index, index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // CHECK-NOT: moe.grouped_matmul
  // CHECK-DAG: %[[M:.*]] = tensor.dim %arg6, %c0
  // CHECK-DAG: %[[T:.*]] = tensor.dim %arg7, %c0
  // CHECK-DAG: %[[N:.*]] = tensor.dim %arg7, %c1
  %0 = moe.grouped_matmul offsets(%o : tensor<?xi32>) source(%s : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<?x?xf32>, tensor<?x?x?xf32>) outs(%y : tensor<?x?xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %1 = moe.grouped_matmul offsets(%o : tensor<?xi32>)
      products(%0[m, k] * %w[e, k, n] : tensor<?x?xf32>, tensor<?x?x?xf32>)
      combine(%sl : tensor<?x2xi32>, %g : tensor<?x2xf32>) outs(%z : tensor<?x?xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %m = tensor.dim %0, %c0 : tensor<?x?xf32>
  %t = tensor.dim %1, %c0 : tensor<?x?xf32>
  %n = tensor.dim %1, %c1 : tensor<?x?xf32>
  // CHECK: return %[[M]], %[[T]], %[[N]]
  return %m, %t, %n : index, index, index
}

// CHECK-LABEL: func @combine
func.func @combine(%r: tensor<?x?xf32>, %s: tensor<?x2xi32>, %w: tensor<?x2xf32>, %y: tensor<?x?xf32>)
    -> (index, index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // CHECK-NOT: moe.combine
  // CHECK-DAG: %[[T:.*]] = tensor.dim %arg3, %c0
  // CHECK-DAG: %[[H:.*]] = tensor.dim %arg3, %c1
  %0 = moe.combine rows(%r : tensor<?x?xf32>) slots(%s : tensor<?x2xi32>)
      weights(%w : tensor<?x2xf32>) outs(%y : tensor<?x?xf32>)
  %t = tensor.dim %0, %c0 : tensor<?x?xf32>
  %h = tensor.dim %0, %c1 : tensor<?x?xf32>
  // CHECK: return %[[T]], %[[H]]
  return %t, %h : index, index
}
