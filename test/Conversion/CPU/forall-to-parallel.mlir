// RUN: moe-opt %s --moe-forall-to-parallel | FileCheck %s

// CHECK-LABEL: func.func @tasks(
// CHECK: scf.parallel (%[[I:.*]]) = (%{{.*}}) to (%arg1) step (%{{.*}}) {
// CHECK: memref.store %{{.*}}, %{{.*}}[%[[I]]]
func.func @tasks(%y: memref<?xf32>, %n: index, %v: f32) {
  scf.forall (%i) in (%n) {
    memref.store %v, %y[%i] : memref<?xf32>
  }
  return
}

// What would need a thread's own memory, or threads within threads, stays.
// CHECK-LABEL: func.func @others(
// CHECK-NOT: scf.parallel
// CHECK-COUNT-4: scf.forall
// CHECK: scf.parallel
// CHECK-NEXT: scf.forall
func.func @others(%y: memref<?xf32>, %n: index, %v: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.forall (%i, %j) in (%n, %n) {
    memref.store %v, %y[%i] : memref<?xf32>
  }
  scf.forall (%i) in (%n) {
    %own = memref.alloc() : memref<4xf32>
    memref.store %v, %own[%c0] : memref<4xf32>
    memref.dealloc %own : memref<4xf32>
  }
  scf.forall (%i) in (%n) {
    func.call @tasks(%y, %i, %v) : (memref<?xf32>, index, f32) -> ()
  }
  scf.forall (%i) in (%n) {
    scf.parallel (%j) = (%c0) to (%n) step (%c1) {
      scf.forall (%k) in (%n) {
        memref.store %v, %y[%k] : memref<?xf32>
      }
    }
  }
  return
}

// CHECK-LABEL: func.func @on_tensors(
// CHECK: scf.forall
func.func @on_tensors(%y: tensor<8xf32>) -> tensor<8xf32> {
  %r = scf.forall (%i) in (8) shared_outs(%o = %y) -> (tensor<8xf32>) {
    %s = tensor.extract_slice %y[%i] [1] [1] : tensor<8xf32> to tensor<1xf32>
    scf.forall.in_parallel {
      tensor.parallel_insert_slice %s into %o[%i] [1] [1] : tensor<1xf32> into tensor<8xf32>
    }
  }
  return %r : tensor<8xf32>
}
