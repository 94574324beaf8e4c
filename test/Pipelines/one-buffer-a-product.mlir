// The two products of a gated expert add to the same zeros after CSE. Each gets a buffer that is
// filled where it is: no buffer is copied in an expert.

// REQUIRES: moe-compile

// RUN: rm -rf %t && moe-compile %s --lowering=general -o %t.o --dump-stages=%t
// RUN: FileCheck %s < %t/02-buffers.mlir

// CHECK-LABEL: func.func @experts
// CHECK: scf.if
// CHECK-NOT: memref.copy
// CHECK: %[[GATE:.*]] = memref.alloc({{.*}}) {{.*}} : memref<?x6xf32>
// CHECK-NOT: memref.copy
// CHECK: %[[UP:.*]] = memref.alloc({{.*}}) {{.*}} : memref<?x6xf32>
// CHECK-NOT: memref.copy
// CHECK: return

func.func @experts(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %wg: tensor<4x8x6xf32>,
                   %wu: tensor<4x8x6xf32>, %wd: tensor<4x6x8xf32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %m = tensor.dim %x, %c0 : tensor<?x8xf32>
  %init = tensor.empty(%m) : tensor<?x8xf32>
  %y = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>)
      params(%wg, %wu, %wd : tensor<4x8x6xf32>, tensor<4x8x6xf32>, tensor<4x6x8xf32>)
      outs(%init : tensor<?x8xf32>) {
  ^bb0(%e: index, %r: tensor<?x8xf32>, %g: tensor<8x6xf32>, %u: tensor<8x6xf32>, %d: tensor<6x8xf32>):
    %zero = arith.constant 0.0 : f32
    %n = tensor.dim %r, %c0 : tensor<?x8xf32>
    %e0 = tensor.empty(%n) : tensor<?x6xf32>
    %z0 = linalg.fill ins(%zero : f32) outs(%e0 : tensor<?x6xf32>) -> tensor<?x6xf32>
    %gate = linalg.matmul ins(%r, %g : tensor<?x8xf32>, tensor<8x6xf32>)
        outs(%z0 : tensor<?x6xf32>) -> tensor<?x6xf32>
    %up = linalg.matmul ins(%r, %u : tensor<?x8xf32>, tensor<8x6xf32>)
        outs(%z0 : tensor<?x6xf32>) -> tensor<?x6xf32>
    %h = arith.mulf %gate, %up : tensor<?x6xf32>
    %e1 = tensor.empty(%n) : tensor<?x8xf32>
    %z1 = linalg.fill ins(%zero : f32) outs(%e1 : tensor<?x8xf32>) -> tensor<?x8xf32>
    %down = linalg.matmul ins(%h, %d : tensor<?x6xf32>, tensor<6x8xf32>)
        outs(%z1 : tensor<?x8xf32>) -> tensor<?x8xf32>
    moe.yield %down : tensor<?x8xf32>
  }
  return %y : tensor<?x8xf32>
}
