// RUN: moe-opt %s --moe-loops-to-gpu | FileCheck %s

module attributes {gpu.container_module} {

// A thread an iteration; sizes are parameters, constants are not.
// CHECK-LABEL: func.func @scale(
// CHECK-SAME:    %[[X:.*]]: memref<?x8xf32>, %[[Y:.*]]: memref<?x8xf32>
// CHECK-DAG:   %[[BYTES:.*]] = memref.extract_aligned_pointer_as_index %[[X]]
// CHECK-DAG:   %[[BLOCKS:.*]] = arith.ceildivui
// CHECK:       gpu.launch_func @moe_kernels::@scale_loop blocks in (%{{.*}}, %{{.*}}, %{{.*}}) threads in (%c256{{.*}}, %{{.*}}, %{{.*}})
// CHECK-NEXT:  return
func.func @scale(%x: memref<?x8xf32>, %y: memref<?x8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %two = arith.constant 2.0 : f32
  %T = memref.dim %x, %c0 : memref<?x8xf32>
  scf.parallel (%t, %h) = (%c0, %c0) to (%T, %c8) step (%c1, %c1) {
    %v = memref.load %x[%t, %h] : memref<?x8xf32>
    %d = arith.mulf %v, %two : f32
    memref.store %d, %y[%t, %h] : memref<?x8xf32>
  }
  return
}

// What is no parallel loop runs in one thread, one kernel for ops in a row; what
// it is computed from stays on the host.
// CHECK-LABEL: func.func @serial(
// CHECK:       arith.muli
// CHECK:       gpu.launch_func @moe_kernels::@serial_serial blocks in (%c1{{.*}}, %{{.*}}, %{{.*}}) threads in (%c1{{.*}},
// CHECK-NOT:   memref.store
// CHECK:       return
func.func @serial(%x: memref<?xi32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %zero = arith.constant 0 : i32
  %end = arith.muli %n, %c3 : index
  memref.store %zero, %x[%c0] : memref<?xi32>
  scf.for %i = %c1 to %end step %c1 {
    %before = arith.subi %i, %c1 : index
    %v = memref.load %x[%before] : memref<?xi32>
    %w = arith.addi %v, %v : i32
    memref.store %w, %x[%i] : memref<?xi32>
  }
  return
}

// Views are made again in the kernel, from a pointer to the whole.
// CHECK-LABEL: func.func @rows(
// CHECK:       gpu.launch_func @moe_kernels::@rows_loop
// CHECK-NEXT:  return
func.func @rows(%x: memref<?x8xf32>, %t: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %zero = arith.constant 0.0 : f32
  %row = memref.subview %x[%t, 0] [1, 8] [1, 1] : memref<?x8xf32> to memref<8xf32, strided<[1], offset: ?>>
  scf.parallel (%h) = (%c0) to (%c8) step (%c1) {
    memref.store %zero, %row[%h] : memref<8xf32, strided<[1], offset: ?>>
  }
  return
}

// Loops around launches stay; what is between them leaves.
// CHECK-LABEL: func.func @around(
// CHECK:       scf.for
// CHECK:         gpu.launch_func @moe_kernels::@around_serial
// CHECK-NEXT:    gpu.launch_func @others::@kernel
// CHECK-NEXT:  }
gpu.module @others {
  llvm.func @kernel() attributes {gpu.kernel} {
    llvm.return
  }
}
func.func @around(%x: memref<8xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  scf.for %i = %c0 to %n step %c1 {
    memref.store %zero, %x[%c0] : memref<8xf32>
    gpu.launch_func @others::@kernel blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1)
  }
  return
}

// An entry's arguments are never written: what is read of them is read again by
// each kernel. Constants lie on the device.
// CHECK-LABEL: func.func @scalars(
// CHECK-NOT:   memref.load
// CHECK-NOT:   memref.get_global
// CHECK:       gpu.launch_func @moe_kernels::@scalars_loop
// CHECK-NEXT:  return
memref.global "private" constant @table : memref<8xf32> = dense<[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]>
func.func @scalars(%scale: memref<f32>, %y: memref<8xf32>)
    attributes {moe.entry = {results = 1 : i64, shapes = @shapes}} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %s = memref.load %scale[] : memref<f32>
  %t = memref.get_global @table : memref<8xf32>
  scf.parallel (%i) = (%c0) to (%c8) step (%c1) {
    %v = memref.load %t[%i] : memref<8xf32>
    %w = arith.mulf %v, %s : f32
    memref.store %w, %y[%i] : memref<8xf32>
  }
  return
}
func.func private @shapes() -> i32

}

// CHECK:       gpu.module @moe_kernels
// CHECK:       memref.global "private" constant @table
// CHECK-LABEL: llvm.func @scale_loop(
// CHECK-SAME:    %{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: i64
// CHECK-SAME:    nvvm.maxntid = array<i32: 256, 1, 1>
// CHECK:         nvvm.read.ptx.sreg.ctaid.x
// CHECK:         scf.if
// CHECK:           arith.remui
// CHECK:           memref.load
// CHECK:           memref.store
// CHECK-LABEL: llvm.func @serial_serial(
// CHECK-SAME:    nvvm.maxntid = array<i32: 1, 1, 1>
// CHECK:         memref.store
// CHECK:         scf.for
// CHECK-LABEL: llvm.func @rows_loop(
// CHECK:         memref.subview
// CHECK-LABEL: llvm.func @scalars_loop(
// CHECK-DAG:     memref.load %{{.*}}[] : memref<f32>
// CHECK-DAG:     memref.get_global @table
