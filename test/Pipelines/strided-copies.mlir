// RUN: moe-opt %s --moe-strided-copies | FileCheck %s

// CHECK-LABEL: func @strided
// CHECK-NOT: memref.copy
// CHECK: linalg.generic {{.*}} ins(%[[A:.*]] : memref<4x4xf32, strided<[8, 1]>>) outs(%[[B:.*]] : memref<4x4xf32>)
// CHECK: linalg.yield %in : f32
func.func @strided(%a: memref<4x4xf32, strided<[8, 1]>>, %b: memref<4x4xf32>) {
  memref.copy %a, %b : memref<4x4xf32, strided<[8, 1]>> to memref<4x4xf32>
  return
}

// CHECK-LABEL: func @strided_target
// CHECK: linalg.generic
func.func @strided_target(%a: memref<?x4xf32>, %b: memref<?x4xf32, strided<[?, 1], offset: ?>>) {
  memref.copy %a, %b : memref<?x4xf32> to memref<?x4xf32, strided<[?, 1], offset: ?>>
  return
}

// A memcpy: identity layouts, and a static window whose rows lie end to end.

// CHECK-LABEL: func @contiguous
// CHECK-COUNT-2: memref.copy
// CHECK-NOT: linalg
func.func @contiguous(%a: memref<?x4xf32>, %b: memref<?x4xf32>,
                      %c: memref<2x4xf32, strided<[4, 1], offset: 8>>, %d: memref<2x4xf32>) {
  memref.copy %a, %b : memref<?x4xf32> to memref<?x4xf32>
  memref.copy %c, %d : memref<2x4xf32, strided<[4, 1], offset: 8>> to memref<2x4xf32>
  return
}

// Of unknown rank: not ours to write as loops.

// CHECK-LABEL: func @unranked
// CHECK: memref.copy
func.func @unranked(%a: memref<*xf32>, %b: memref<*xf32>) {
  memref.copy %a, %b : memref<*xf32> to memref<*xf32>
  return
}
