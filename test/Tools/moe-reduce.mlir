// moe-reduce keeps what makes the test script fail, and nothing else.

// RUN: rm -rf %t && mkdir %t
// RUN: moe-reduce %s -reduction-tree='traversal-mode=0 test=%S/Inputs/holds-combine.sh' -o %t/small.mlir
// RUN: FileCheck %s < %t/small.mlir

// CHECK: func @combine
// CHECK-NEXT: moe.combine
// CHECK-NOT: moe.
// CHECK-NOT: func

func.func @gate(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>) {
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return
}

func.func @combine(%ids: tensor<16x2xi32>, %o: tensor<5xi32>, %r: tensor<32x8xf32>, %w: tensor<16x2xf32>,
                   %y: tensor<16x8xf32>) -> tensor<16x8xf32> {
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) outs(%o, %ids : tensor<5xi32>, tensor<16x2xi32>)
  %1 = moe.combine rows(%r : tensor<32x8xf32>) slots(%ids : tensor<16x2xi32>)
      weights(%w : tensor<16x2xf32>) outs(%y : tensor<16x8xf32>)
  return %1 : tensor<16x8xf32>
}
