// RUN: moe-opt %s --moe-create-c-entry | FileCheck %s
// RUN: moe-opt %s --moe-create-c-entry=export-shapes | FileCheck %s --check-prefix=SHAPES
// RUN: moe-opt %s --moe-create-c-entry --convert-to-llvm --reconcile-unrealized-casts | FileCheck %s --check-prefix=LLVM

// One check of a tensor for all.
// CHECK-LABEL: llvm.func internal @moe.check_tensor(

// The function itself is out of sight, without names that mean nothing now.
// CHECK-LABEL: func.func private @my_layer.body(
// CHECK-SAME:    %{{.*}}: memref<?x8xbf16>, %{{.*}}: memref<i64>, %{{.*}}: memref<?x2xf32>) {
func.func @my_layer(%x: memref<?x8xbf16> {moe.name = "x"}, %n: memref<i64>,
                    %out: memref<?x2xf32> {moe.name = "y"})
    attributes {moe.entry = {results = 1 : i64, shapes = @my_layer.shapes}} {
  return
}
// CHECK: func.func private @my_layer.shapes(%{{.*}}: index) -> (i32, index, index)
func.func private @my_layer.shapes(%t: index {moe.name = "T"}) -> (i32, index, index) {
  %ok = arith.constant 0 : i32
  %c2 = arith.constant 2 : index
  return %ok, %t, %c2 : i32, index, index
}

// Arguments: x is of rank 2 and type 3, and may have any number of rows.
// CHECK-LABEL: llvm.func internal @my_layer.check(
// CHECK-SAME:    %[[TENSORS:.*]]: !llvm.ptr, %[[SIZES:.*]]: !llvm.ptr) -> i32 {
// CHECK-DAG:     %[[ANY:.*]] = llvm.mlir.constant(-1 : i64)
// CHECK-DAG:     %[[EIGHT:.*]] = llvm.mlir.constant(8 : i64)
// CHECK-DAG:     llvm.store %[[ANY]], %{{.*}} : i64, !llvm.ptr
// CHECK-DAG:     llvm.store %[[EIGHT]], %{{.*}} : i64, !llvm.ptr
// CHECK:         %[[RANK:.*]] = llvm.mlir.constant(2 : i32)
// CHECK:         %[[TYPE:.*]] = llvm.mlir.constant(3 : i32)
// CHECK:         %[[BLAME:.*]] = llvm.mlir.constant(256 : i32)
// CHECK:         llvm.call @moe.check_tensor(%{{.*}}, %[[RANK]], %[[TYPE]], %{{.*}}, %[[BLAME]])
// n is a scalar of type 4.
// CHECK:         %[[TYPE:.*]] = llvm.mlir.constant(4 : i32)
// CHECK-NEXT:    %[[BLAME:.*]] = llvm.mlir.constant(512 : i32)
// CHECK-NEXT:    llvm.call @moe.check_tensor(%{{.*}}, %{{.*}}, %[[TYPE]], %{{.*}}, %[[BLAME]])
// CHECK:         %[[T:.*]] = builtin.unrealized_conversion_cast %{{.*}} : i64 to index
// CHECK:         %[[STATUS:.*]]:3 = func.call @my_layer.shapes(%[[T]])
// CHECK:         llvm.return %[[STATUS]]#0 : i32

// Results: against the sizes that the check computed.
// CHECK-LABEL: llvm.func internal @my_layer.run(
// CHECK:         %[[SIZES:.*]] = llvm.alloca
// CHECK:         llvm.call @my_layer.check(%{{.*}}, %[[SIZES]])
// CHECK:         %[[BLAME:.*]] = llvm.mlir.constant(768 : i32)
// CHECK:         llvm.call @moe.check_tensor(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[BLAME]])
// CHECK:         func.call @my_layer.body(%{{.*}}) : (memref<?x8xbf16>, memref<i64>, memref<?x2xf32>) -> ()

// CHECK-LABEL: llvm.func @my_layer(
// CHECK-SAME:    !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: i64) -> i32
// CHECK:         llvm.call @my_layer.run(
// CHECK-LABEL: llvm.func @my_layer_packed(
// CHECK-SAME:    %[[TENSORS:.*]]: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: i64) -> i32
// CHECK-SAME:    {
// CHECK-NEXT:    llvm.call @my_layer.run(%[[TENSORS]], %{{.*}}, %{{.*}})

// Without a workspace none is needed.
// CHECK-LABEL: llvm.func @my_layer_workspace(%{{.*}}: i64) -> i64 {
// CHECK-DAG:     %[[NONE:.*]] = llvm.mlir.constant(0 : i64)
// CHECK:         llvm.return %[[NONE]] : i64
// CHECK-LABEL: llvm.func @my_layer_workspace_packed(%{{.*}}: !llvm.ptr) -> i64 {
// CHECK-NOT: @my_layer_shapes

// SHAPES-LABEL: llvm.func @my_layer_shapes(
// SHAPES-SAME:    %[[ARGUMENTS:.*]]: !llvm.ptr, %[[SIZES:.*]]: !llvm.ptr) -> i32
// SHAPES-NEXT:    llvm.call @my_layer.check(%[[ARGUMENTS]], %[[SIZES]])

// Nothing is left of the casts.
// LLVM-LABEL: llvm.func @my_layer_packed(
// LLVM-NOT: unrealized_conversion_cast
