// Names that C does not have are mangled; functions that are no entries stay.
// RUN: moe-opt %s --moe-create-c-entry | FileCheck %s

// CHECK: func.func private @layers.0.mlp.body(
// CHECK: llvm.func internal @layers.0.mlp.run(
// CHECK: llvm.func @layers_0_mlp(
// CHECK: llvm.func @layers_0_mlp_packed(
func.func @layers.0.mlp(%out: memref<4xf32>)
    attributes {moe.entry = {results = 1 : i64, shapes = @layers.0.mlp.shapes}} {
  return
}
func.func private @layers.0.mlp.shapes() -> (i32, index) {
  %ok = arith.constant 0 : i32
  %c4 = arith.constant 4 : index
  return %ok, %c4 : i32, index
}

// CHECK: func.func @other(%{{.*}}: memref<4xf32>) {
func.func @other(%x: memref<4xf32>) {
  return
}
