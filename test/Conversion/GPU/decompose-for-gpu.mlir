// RUN: moe-opt %s --moe-decompose-for-gpu | FileCheck %s

// A combine of rows in a static width has a kernel, others have not.
// CHECK-LABEL: func.func @combine(
// CHECK:       moe.combine
func.func @combine(%rows: tensor<?x8xf32>, %slots: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
                   %y: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %r = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%y : tensor<?x8xf32>)
  return %r : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @dynamic(
// CHECK-NOT:   moe.combine
// CHECK:       scf.for
func.func @dynamic(%rows: tensor<?x?xf32>, %slots: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
                   %y: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %r = moe.combine rows(%rows : tensor<?x?xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%y : tensor<?x?xf32>)
  return %r : tensor<?x?xf32>
}
