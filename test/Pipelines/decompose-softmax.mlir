// RUN: moe-opt %s --moe-decompose-softmax | FileCheck %s
// A layer with one goes all the way.
// RUN: moe-opt %s --moe-general-lowering | FileCheck %s --check-prefix=LOWERED
// RUN: moe-opt %s --moe-cpu-lowering | FileCheck %s --check-prefix=LOWERED
// LOWERED-LABEL: llvm.func @layer(
// LOWERED-NOT: linalg.softmax

// CHECK-LABEL: func.func @layer(
// CHECK-NOT: linalg.softmax
// CHECK: arith.maxnumf
// CHECK: arith.subf
// CHECK: math.exp
// CHECK: arith.addf
// CHECK: %[[P:.*]] = linalg.generic
// CHECK: arith.divf
// CHECK: moe.gate score(none) ins(%[[P]] :
func.func @layer(%x: tensor<?x8xf32>) -> (tensor<?x2xf32>, tensor<?x2xi32>) {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %e = tensor.empty(%T) : tensor<?x8xf32>
  %p = linalg.softmax dimension(1) ins(%x : tensor<?x8xf32>) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %weights, %ids = moe.gate score(none) ins(%p : tensor<?x8xf32>) outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  return %weights, %ids : tensor<?x2xf32>, tensor<?x2xi32>
}

// CHECK-LABEL: func.func @on_memrefs(
// CHECK: linalg.softmax
func.func @on_memrefs(%x: memref<4x8xf32>, %y: memref<4x8xf32>) {
  linalg.softmax dimension(1) ins(%x : memref<4x8xf32>) outs(%y : memref<4x8xf32>)
  return
}
