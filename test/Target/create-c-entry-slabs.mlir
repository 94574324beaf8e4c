// Where tensors are slabs of experts, functions for one of them are built: arguments of one expert,
// and its slab of results that have all.
// RUN: moe-opt %s --moe-create-c-entry | FileCheck %s
// RUN: sed 's/, slabs//' %s | moe-opt --moe-create-c-entry | FileCheck %s --check-prefix=PLAIN

// CHECK-LABEL: llvm.func internal @pack.run_expert(
// CHECK-SAME:    %[[EXPERT:.*]]: i64, %[[TENSORS:.*]]: !llvm.ptr, %[[WORKSPACE:.*]]: !llvm.ptr, %[[BYTES:.*]]: i64) -> i32
// The argument has one expert, the result any number,
// CHECK:         llvm.call @moe.check_tensor
// CHECK:         llvm.call @moe.check_tensor
// of which this is one: 12 is MOE_BAD_EXPERT, 512 blames the result.
// CHECK:         %[[COUNT:[0-9]+]] = llvm.load %{{.*}} : !llvm.ptr -> i64
// CHECK:         %[[IS_ONE:.*]] = llvm.icmp "ult" %[[EXPERT]], %[[COUNT]] : i64
// CHECK:         %[[STATUS:.*]] = llvm.mlir.constant(524 : i32) : i32
// CHECK:         llvm.cond_br %[[IS_ONE]]
// A slab has 3 × 4 × 2 bytes.
// CHECK:         %[[SLAB:.*]] = llvm.mlir.constant(24 : i64) : i64
// CHECK:         llvm.mul %[[EXPERT]], %[[SLAB]] : i64
// CHECK:         llvm.call @pack.run(%{{.*}}, %[[WORKSPACE]], %[[BYTES]])
// CHECK-LABEL: llvm.func @pack_expert(
// CHECK-SAME:    i64, %{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: i64) -> i32
// CHECK:         llvm.call @pack.run_expert
// CHECK-LABEL: llvm.func @pack_expert_packed(
// CHECK:         llvm.call @pack.run_expert

// PLAIN-NOT: expert
func.func @pack(%w: memref<?x4x3xbf16>, %out: memref<?x3x4xbf16>)
    attributes {moe.entry = {results = 1 : i64, shapes = @pack.shapes, slabs}} {
  return
}
func.func private @pack.shapes(%e: index) -> (i32, index, index, index) {
  %ok = arith.constant 0 : i32
  %c3 = arith.constant 3 : index
  %c4 = arith.constant 4 : index
  return %ok, %e, %c3, %c4 : i32, index, index, index
}
