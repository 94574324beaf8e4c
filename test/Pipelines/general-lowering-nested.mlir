// In a host's pipeline that is anchored on an inner module, the outer one is left alone.

// RUN: moe-opt %s --pass-pipeline='builtin.module(builtin.module(moe-general-lowering))' | FileCheck %s

// Run on the outer one, it lowers what is in both: an inner module has symbols of its own.
// RUN: moe-opt %s --moe-general-lowering | FileCheck %s --check-prefix=BOTH
// BOTH-NOT: moe.
// BOTH-DAG: llvm.func @outer
// BOTH-DAG: llvm.func @combine
// BOTH-NOT: moe.

// RUN: not moe-opt %s --pass-pipeline='builtin.module(func.func(moe-general-lowering))' 2>&1 \
// RUN:     | FileCheck %s --check-prefix=FUNC
// FUNC: error: a lowering to LLVM adds functions, so it runs on an op with a symbol table, such as a module, not on 'func.func'

// CHECK-LABEL: func.func @outer
// CHECK-NEXT: moe.combine
func.func @outer(%r: tensor<3x1xf32>, %s: tensor<2x2xi32>, %w: tensor<2x2xf32>, %y: tensor<2x1xf32>)
    -> tensor<2x1xf32> {
  %0 = moe.combine rows(%r : tensor<3x1xf32>) slots(%s : tensor<2x2xi32>) weights(%w : tensor<2x2xf32>)
      outs(%y : tensor<2x1xf32>)
  return %0 : tensor<2x1xf32>
}

// CHECK-LABEL: module @inner
module @inner {
  // CHECK: llvm.func @combine
  // CHECK-NOT: moe.
  func.func @combine(%r: tensor<3x1xf32>, %s: tensor<2x2xi32>, %w: tensor<2x2xf32>, %y: tensor<2x1xf32>)
      -> tensor<2x1xf32> {
    %0 = moe.combine rows(%r : tensor<3x1xf32>) slots(%s : tensor<2x2xi32>) weights(%w : tensor<2x2xf32>)
        outs(%y : tensor<2x1xf32>)
    return %0 : tensor<2x1xf32>
  }
}
