// The passes run on any op with a symbol table; what is beside it stays.
// RUN: moe-opt %s --pass-pipeline='builtin.module(builtin.module(moe-prepare-entry{entry=f}))' | FileCheck %s

// CHECK-LABEL: func.func @host() {
func.func @host() {
  return
}

// CHECK-LABEL: module @inner
module @inner {
  // CHECK: func.func @f({{.*}}: memref<4xf32>
  // CHECK: func.func private @f.shapes()
  func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
  // CHECK: func.func private @g(
  func.func @g(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
}
