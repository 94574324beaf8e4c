// RUN: moe-opt %s --moe-outline-parallel | FileCheck %s

// CHECK: llvm.func extern_weak @moe_rt_parallel_for(i64, !llvm.ptr, !llvm.ptr)

// CHECK-LABEL: func.func private @scale_task0(
// CHECK-SAME: %[[CONTEXT:.*]]: !llvm.ptr, %[[I:.*]]: i64)
// CHECK: llvm.load
// CHECK: memref.load
// CHECK: memref.store

// CHECK-LABEL: func.func @scale(
// CHECK: %[[CONTEXT:.*]] = llvm.alloca
// CHECK: %[[HOST:.*]] = llvm.mlir.addressof @moe_rt_parallel_for
// CHECK: %[[HAS:.*]] = llvm.icmp "ne" %[[HOST]]
// One task wakes nobody.
// CHECK: %[[MANY:.*]] = arith.cmpi sgt, %[[COUNT:.*]], %c1_i64
// CHECK: %[[ASKS:.*]] = arith.andi %[[HAS]], %[[MANY]]
// CHECK: scf.if %[[ASKS]] {
// CHECK:   llvm.call @moe_rt_parallel_for(%[[COUNT]], %{{.*}}, %[[CONTEXT]])
// CHECK: } else {
// CHECK:   scf.for
// CHECK:     func.call @scale_task0(%[[CONTEXT]], %{{.*}})
func.func @scale(%buffer: memref<?xf32>, %factor: f32, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %x = memref.load %buffer[%i] : memref<?xf32>
    %y = arith.mulf %x, %factor : f32
    memref.store %y, %buffer[%i] : memref<?xf32>
    scf.reduce
  }
  return
}

// Two dimensions, and a loop with a result, stay.
// CHECK-LABEL: func.func @other(
// CHECK-COUNT-2: scf.parallel
func.func @other(%buffer: memref<?x?xf32>, %n: index) -> f32 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  scf.parallel (%i, %j) = (%c0, %c0) to (%n, %n) step (%c1, %c1) {
    memref.store %zero, %buffer[%i, %j] : memref<?x?xf32>
    scf.reduce
  }
  %sum = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%zero) -> f32 {
    %x = memref.load %buffer[%i, %i] : memref<?x?xf32>
    scf.reduce(%x : f32) {
    ^bb0(%a: f32, %b: f32):
      %s = arith.addf %a, %b : f32
      scf.reduce.return %s : f32
    }
  }
  return %sum : f32
}
