// RUN: rm -rf %t && split-file %s %t
// RUN: moe-opt --allow-unregistered-dialect %t/layer.mlir --moe-allocations-to-workspace --cse --canonicalize \
// RUN:     --remarks-filter-analyse=moe-allocations-to-workspace 2>%t/found | FileCheck %t/layer.mlir
// RUN: FileCheck %t/layer.mlir --check-prefix=FOUND < %t/found
// RUN: moe-opt --allow-unregistered-dialect %t/kept.mlir --moe-allocations-to-workspace \
// RUN:     --remarks-filter-missed=moe-allocations-to-workspace 2>%t/missed | FileCheck %t/kept.mlir
// RUN: FileCheck %t/kept.mlir --check-prefix=MISSED < %t/missed
// RUN: moe-opt --allow-unregistered-dialect %t/errors.mlir --split-input-file --verify-diagnostics --moe-allocations-to-workspace

//--- layer.mlir
// T = size 0 of %x. In bytes, each a multiple of 64:
//   %fixed   65·4 = 260 → 320                  at 0
//   %scalar  8 → 64                            at 320
//   %wide    T·(16·4) = T·64: no rounding      at 384
//   %rows    (T·2)·32·2 = T·128                at 384 + T·64
//   %narrow  T·2·4 = T·8, rounded              at 384 + T·192
//   %again   like it, in a loop: one for all iterations

// FOUND: remark: [Analysis] workspace | Category:moe-allocations-to-workspace | Function=layer
// FOUND-SAME: "T * 192 + ((T * 8 + 63) / 64) * 64 * 2 + 384 bytes of workspace in 6 buffers"

// CHECK-LABEL: func.func @layer(
// CHECK-SAME:    %[[X:.*]]: memref<?x8xf32>, %{{.*}}: memref<?x8xf32>, %[[W:.*]]: memref<?xi8>)
// CHECK-SAME:    attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes, workspace = @layer.workspace}}
// CHECK-DAG:     %[[T:.*]] = memref.dim %[[X]], %{{.*}}
// CHECK-DAG:     %[[T64:.*]] = arith.muli %[[T]], %c64
// CHECK-DAG:     %[[ROWS:.*]] = arith.addi %[[T64]], %c384
// CHECK-DAG:     %[[T128:.*]] = arith.muli %[[T]], %c128
// CHECK-DAG:     %[[NARROW:.*]] = arith.addi %[[ROWS]], %[[T128]]
// CHECK-NOT:     memref.alloc
// CHECK:         memref.view %[[W]][%c0][] : memref<?xi8> to memref<65xi32>
// CHECK:         memref.view %[[W]][%c384][%[[T]]] : memref<?xi8> to memref<?x16xf32>
// CHECK:         memref.view %[[W]][%[[NARROW]]][%[[T]]] : memref<?xi8> to memref<?x2xf32>
// CHECK:         memref.view %[[W]][%[[ROWS]]][%{{.*}}] : memref<?xi8> to memref<?x32xbf16>
// CHECK:         memref.view %[[W]][%c320][] : memref<?xi8> to memref<index>
// CHECK:         scf.for
// CHECK:           memref.view %[[W]][%{{.*}}][%[[T]]] : memref<?xi8> to memref<?x2xf32>
// CHECK-NOT:     memref.dealloc
// CHECK:         return
func.func @layer(%x: memref<?x8xf32>, %out: memref<?x8xf32>)
    attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes}} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %T = memref.dim %x, %c0 : memref<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %fixed = memref.alloc() {alignment = 64 : i64} : memref<65xi32>
  %wide = memref.alloc(%T) : memref<?x16xf32>
  %narrow = memref.alloc(%T) : memref<?x2xf32>
  %rows = memref.alloc(%M) : memref<?x32xbf16>
  %scalar = memref.alloc() : memref<index>
  "test.use"(%fixed, %wide, %narrow, %rows, %scalar)
      : (memref<65xi32>, memref<?x16xf32>, memref<?x2xf32>, memref<?x32xbf16>, memref<index>) -> ()
  scf.for %i = %c0 to %T step %c1 {
    %again = memref.alloc(%T) : memref<?x2xf32>
    %view = memref.cast %again : memref<?x2xf32> to memref<?x?xf32>
    "test.use"(%view) : (memref<?x?xf32>) -> ()
    memref.dealloc %again : memref<?x2xf32>
  }
  memref.dealloc %fixed : memref<65xi32>
  memref.dealloc %wide : memref<?x16xf32>
  memref.dealloc %narrow : memref<?x2xf32>
  %base, %offset, %sizes:2, %strides:2 = memref.extract_strided_metadata %rows
      : memref<?x32xbf16> -> memref<bf16>, index, index, index, index, index
  memref.dealloc %base : memref<bf16>
  memref.dealloc %scalar : memref<index>
  return
}
func.func private @layer.shapes(%T: index {moe.name = "T"}) -> (i32, index, index) {
  %ok = arith.constant 0 : i32
  %c8 = arith.constant 8 : index
  return %ok, %T, %c8 : i32, index, index
}
// CHECK-LABEL: func.func private @layer.workspace(
// CHECK-SAME:    %[[T:.*]]: index {moe.name = "T"}) -> index {
// CHECK-DAG:     %[[T192:.*]] = arith.muli %[[T]], %c192
// CHECK-DAG:     %[[T8:.*]] = arith.muli %[[T]], %c8
// CHECK-DAG:     %[[UP:.*]] = arith.addi %[[T8]], %c63
// CHECK-DAG:     %[[LINES:.*]] = arith.divui %[[UP]], %c64
// CHECK:         return

// Nobody's entry.
// CHECK-LABEL: func.func @other(
// CHECK:         memref.alloc
func.func @other() {
  %a = memref.alloc() : memref<4xf32>
  "test.use"(%a) : (memref<4xf32>) -> ()
  memref.dealloc %a : memref<4xf32>
  return
}

//--- kept.mlir
// What stays, each with its deallocation.

// MISSED: memory is allocated in calls | Category:moe-allocations-to-workspace | Function=layer | Reason="its size depends on data, not on the sizes of arguments alone"
// MISSED: Reason="its size depends on data, not on the sizes of arguments alone"
// MISSED: Reason="it is allocated where several threads may be"
// MISSED: Reason="a loop or a branch carries it on"
// MISSED: Reason="a loop or a branch carries it on"
// MISSED: Reason="it is laid out in its own way"
// MISSED: Function=callee | Reason="it is in a function that the entry calls"

// CHECK-LABEL: func.func @layer(
// CHECK-COUNT-6: memref.alloc
// CHECK: memref.dealloc
func.func @layer(%x: memref<?xi32>, %out: memref<?xi32>)
    attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes}} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %T = memref.dim %x, %c0 : memref<?xi32>
  %value = memref.load %x[%c0] : memref<?xi32>
  %count = arith.index_cast %value : i32 to index
  %data = memref.alloc(%count) : memref<?xf32>
  "test.use"(%data) : (memref<?xf32>) -> ()
  memref.dealloc %data : memref<?xf32>
  // A size that a caller's result has need not be the arguments'.
  %R = memref.dim %out, %c0 : memref<?xi32>
  %result = memref.alloc(%R) : memref<?xf32>
  "test.use"(%result) : (memref<?xf32>) -> ()
  memref.dealloc %result : memref<?xf32>
  scf.parallel (%i) = (%c0) to (%T) step (%c1) {
    %private = memref.alloc(%T) : memref<?xf32>
    "test.use"(%private) : (memref<?xf32>) -> ()
    memref.dealloc %private : memref<?xf32>
  }
  %first = memref.alloc(%T) : memref<?xf32>
  %last = scf.for %i = %c0 to %T step %c1 iter_args(%before = %first) -> memref<?xf32> {
    %next = memref.alloc(%T) : memref<?xf32>
    "test.use"(%before, %next) : (memref<?xf32>, memref<?xf32>) -> ()
    memref.dealloc %before : memref<?xf32>
    scf.yield %next : memref<?xf32>
  }
  memref.dealloc %last : memref<?xf32>
  %odd = memref.alloc(%T) {alignment = 4096 : i64} : memref<?xf32>
  "test.use"(%odd) : (memref<?xf32>) -> ()
  memref.dealloc %odd : memref<?xf32>
  func.call @callee() : () -> ()
  return
}
func.func private @layer.shapes(%T: index {moe.name = "T"}) -> (i32, index) {
  %ok = arith.constant 0 : i32
  return %ok, %T : i32, index
}
// CHECK-LABEL: func.func private @layer.workspace(
// CHECK: %[[NONE:.*]] = arith.constant 0 : index
// CHECK: return %[[NONE]]
func.func private @callee() {
  %a = memref.alloc() : memref<4xf32>
  "test.use"(%a) : (memref<4xf32>) -> ()
  memref.dealloc %a : memref<4xf32>
  return
}

//--- errors.mlir
// expected-error @below {{@f has not the results and shapes that moe-prepare-entry writes}}
func.func @f(%x: memref<?xi32>) attributes {moe.entry = {results = 1 : i64}} {
  return
}

// -----

// expected-error @below {{@f is not on memrefs; bufferize it first}}
func.func @f(%x: tensor<4xi32>, %out: memref<4xi32>)
    attributes {moe.entry = {results = 1 : i64, shapes = @f.shapes}} {
  return
}
func.func private @f.shapes() -> (i32, index) {
  %ok = arith.constant 0 : i32
  %c4 = arith.constant 4 : index
  return %ok, %c4 : i32, index
}

// -----

// expected-error @below {{@f has a workspace already}}
func.func @f(%x: memref<4xi32>, %out: memref<4xi32>, %w: memref<?xi8>)
    attributes {moe.entry = {results = 1 : i64, shapes = @f.shapes, workspace = @f.workspace}} {
  return
}
func.func private @f.shapes() -> (i32, index) {
  %ok = arith.constant 0 : i32
  %c4 = arith.constant 4 : index
  return %ok, %c4 : i32, index
}
func.func private @f.workspace() -> index {
  %c0 = arith.constant 0 : index
  return %c0 : index
}

// -----

// expected-error @below {{@f needs the symbol @f.workspace, which is taken}}
func.func @f(%x: memref<4xi32>, %out: memref<4xi32>)
    attributes {moe.entry = {results = 1 : i64, shapes = @f.shapes}} {
  return
}
func.func private @f.shapes() -> (i32, index) {
  %ok = arith.constant 0 : i32
  %c4 = arith.constant 4 : index
  return %ok, %c4 : i32, index
}
func.func private @f.workspace() -> index {
  %c0 = arith.constant 0 : index
  return %c0 : index
}
