// Tensors without elements, seen from the types: a layer without columns. Upstream refuses slices
// at any offset of a dimension of size 0, so there must be none.

// RUN: moe-opt %s --moe-decompose | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering | FileCheck %s --check-prefix=LLVM

// LLVM-DAG: llvm.func @dispatch
// LLVM-DAG: llvm.func @expert
// LLVM-DAG: llvm.func @combine

// The order of the rows is still worked out; the rows are those of the destination.
// CHECK-LABEL: func @dispatch

// CHECK-NOT: tensor.{{.*}}_slice
// CHECK: return
func.func @dispatch(%ids: tensor<?x2xi32>, %x: tensor<?x0xf32>, %o: tensor<5xi32>,
                    %s: tensor<?x2xi32>, %r: tensor<?x0xf32>) -> (tensor<?x2xi32>, tensor<?x0xf32>) {
  %0:3 = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x0xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?x0xf32>)
  return %0#1, %0#2 : tensor<?x2xi32>, tensor<?x0xf32>
}

// The body still sees how many rows there are.
// CHECK-LABEL: func @expert
// CHECK-NOT: tensor.{{.*}}_slice
// CHECK: %[[ROWS:.*]] = tensor.empty(%[[N:.*]]) : tensor<?x0xf32>
// CHECK: tensor.dim %[[ROWS]]
// CHECK: tensor.insert_slice %{{.*}} into %{{.*}}[%{{.*}}] [1] [1] : tensor<index> into tensor<4xindex>
// CHECK-NOT: tensor.{{.*}}_slice
func.func @expert(%o: tensor<5xi32>, %x: tensor<?x0xf32>, %w: tensor<4x0xf32>, %y: tensor<?x0xf32>,
                  %counts: tensor<4xindex>) -> (tensor<?x0xf32>, tensor<4xindex>) {
  %c0 = arith.constant 0 : index
  %0:2 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x0xf32>)
      params(%w : tensor<4x0xf32>) outs(%y, %counts : tensor<?x0xf32>, tensor<4xindex>) {
  ^bb0(%e: index, %xe: tensor<?x0xf32>, %we: tensor<0xf32>):
    %n = tensor.dim %xe, %c0 : tensor<?x0xf32>
    %count = tensor.from_elements %n : tensor<index>
    moe.yield %xe, %count : tensor<?x0xf32>, tensor<index>
  }
  return %0#0, %0#1 : tensor<?x0xf32>, tensor<4xindex>
}

// CHECK-LABEL: func @combine
// CHECK-NOT: tensor.{{.*}}_slice
func.func @combine(%r: tensor<?x0xf32>, %s: tensor<?x2xi32>, %w: tensor<?x2xf32>,
                   %y: tensor<?x0xf32>) -> tensor<?x0xf32> {
  %0 = moe.combine rows(%r : tensor<?x0xf32>) slots(%s : tensor<?x2xi32>)
      weights(%w : tensor<?x2xf32>) outs(%y : tensor<?x0xf32>)
  return %0 : tensor<?x0xf32>
}
