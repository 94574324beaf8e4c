// RUN: moe-opt %s --moe-grouped-matmul-to-parallel-loops | FileCheck %s

// What tensor cores do not take: f32, a prologue, a gathered row's weight.
// CHECK-LABEL: func.func @matmul(
// CHECK-SAME:    %[[O:.*]]: memref<5xi32>, %[[S:.*]]: memref<?xi32>, %[[X:.*]]: memref<?x8xf32>, %[[W:.*]]: memref<4x6x8xf32>, %[[C:.*]]: memref<?x2xf32>, %[[Y:.*]]: memref<?x6xf32>
// CHECK:       scf.parallel (%[[M:.*]], %[[N:.*]]) = (%{{.*}}, %{{.*}}) to (%{{.*}}, %{{.*}})
// CHECK:         %[[E:.*]] = scf.for
// CHECK:           memref.load %[[O]]
// CHECK:           arith.cmpi sle
// CHECK:         %[[OWNED:.*]] = arith.cmpi slt, %[[E]]
// CHECK:         scf.if %[[OWNED]] {
// CHECK:           %[[SOURCE:.*]] = memref.load %[[S]][%[[M]]]
// CHECK:           %[[T:.*]] = arith.divui
// CHECK:           %[[J:.*]] = arith.remui
// CHECK:           %[[SUM:.*]] = scf.for %[[K:[a-z0-9_]+]] =
// CHECK:             memref.load %[[X]][%[[T]], %[[K]]]
// CHECK:             memref.load %[[W]][%[[E]], %[[N]], %[[K]]]
// CHECK:           memref.load %[[C]][%[[T]], %[[J]]]
// CHECK:           memref.store %{{.*}}, %[[Y]][%[[M]], %[[N]]]
// CHECK-NOT:   moe.grouped_matmul
func.func @matmul(%o: memref<5xi32>, %s: memref<?xi32>, %x: memref<?x8xf32>, %w: memref<4x6x8xf32>,
                  %c: memref<?x2xf32>, %y: memref<?x6xf32>) {
  moe.grouped_matmul offsets(%o : memref<5xi32>) source(%s : memref<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : memref<?x8xf32>, memref<4x6x8xf32>)
      extras(%c[t, j] : memref<?x2xf32>) outs(%y : memref<?x6xf32>) {
  ^bb0(%sum: f32, %weight: f32):
    %v = arith.mulf %sum, %weight : f32
    moe.yield %v : f32
  }
  return
}

// Rows that are combined, and tensors, stay.
// CHECK-LABEL: func.func @others(
// CHECK:       moe.grouped_matmul
func.func @others(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x6x8xf32>, %y: tensor<?x6xf32>) -> tensor<?x6xf32> {
  %r = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<?x6xf32>) {
  ^bb0(%sum: f32):
    moe.yield %sum : f32
  }
  return %r : tensor<?x6xf32>
}
