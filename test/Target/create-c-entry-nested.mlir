// The pass runs on any op with a symbol table; what is beside it, and functions inside it that are
// no entry, stay.
// RUN: moe-opt %s --allow-unregistered-dialect --pass-pipeline='builtin.module(builtin.module(moe-create-c-entry))' \
// RUN:     | FileCheck %s

// CHECK-LABEL: func.func @host(%arg0: tensor<4xf32>) {
// CHECK-NEXT: "host.op"(%arg0) : (tensor<4xf32>) -> ()
// CHECK-NEXT: return
func.func @host(%x: tensor<4xf32>) {
  "host.op"(%x) : (tensor<4xf32>) -> ()
  return
}

// CHECK-LABEL: module @inner
module @inner {
  // CHECK: func.func private @f.body(
  // CHECK-DAG: llvm.func @f(
  // CHECK-DAG: llvm.func @f_packed(
  func.func @f(%x: memref<4xf32>, %y: memref<4xf32>)
      attributes {moe.entry = {results = 1 : i64, shapes = @f.shapes}} {
    memref.copy %x, %y : memref<4xf32> to memref<4xf32>
    return
  }
  func.func private @f.shapes() -> (i32, index) {
    %ok = arith.constant 0 : i32
    %c4 = arith.constant 4 : index
    return %ok, %c4 : i32, index
  }
  // CHECK: func.func @no_entry(%arg0: memref<4xf32>) {
  // CHECK-NEXT: return
  func.func @no_entry(%x: memref<4xf32>) {
    return
  }
}
