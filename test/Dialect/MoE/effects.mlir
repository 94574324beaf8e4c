// Tensors: no effects, so equal ops are one, unused ones go, and invariant ones leave a loop.
// Memrefs: inits are written, all else is read.

// RUN: moe-opt %s --cse --split-input-file | FileCheck %s --check-prefix=CSE
// RUN: moe-opt %s --canonicalize --split-input-file | FileCheck %s --check-prefix=DCE
// RUN: moe-opt %s --loop-invariant-code-motion --split-input-file | FileCheck %s --check-prefix=LICM

//===----------------------------------------------------------------------===//
// Equal ops
//===----------------------------------------------------------------------===//

// CSE-LABEL: func @equal_on_tensors
func.func @equal_on_tensors(%ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>,
                            %x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  // CSE: moe.dispatch
  // CSE-NOT: moe.dispatch
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  %1:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  // CSE: %[[Y:.*]] = moe.expert
  // CSE-NOT: moe.expert
  %2 = moe.expert offsets(%0#0 : tensor<5xi32>) rows(%x : tensor<?x8xf32>) outs(%x : tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>):
    %neg = arith.negf %xe : tensor<?x8xf32>
    moe.yield %neg : tensor<?x8xf32>
  }
  %3 = moe.expert offsets(%1#0 : tensor<5xi32>) rows(%x : tensor<?x8xf32>) outs(%x : tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>):
    %neg = arith.negf %xe : tensor<?x8xf32>
    moe.yield %neg : tensor<?x8xf32>
  }
  // CSE: return %[[Y]], %[[Y]]
  return %2, %3 : tensor<?x8xf32>, tensor<?x8xf32>
}

// -----
// Equal but for an index: the two halves of a stacked weight.
// CSE-LABEL: func @equal_grouped_matmuls
func.func @equal_grouped_matmuls(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x12x8xf32>,
                                 %y: tensor<32x6xf32>) -> (tensor<32x6xf32>, tensor<32x6xf32>, tensor<32x6xf32>) {
  // CSE: %[[A:.*]] = moe.grouped_matmul
  // CSE: %[[B:.*]] = moe.grouped_matmul {{.*}} %arg2[e, n + 6, k]
  // CSE-NOT: moe.grouped_matmul
  // CSE: return %[[A]], %[[A]], %[[B]]
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x12x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %1 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x12x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %2 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n + 6, k] : tensor<32x8xf32>, tensor<4x12x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %0, %1, %2 : tensor<32x6xf32>, tensor<32x6xf32>, tensor<32x6xf32>
}

// -----
// Not the same order, not the same plan.
// CSE-LABEL: func @not_equal
func.func @not_equal(%c: index, %ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>)
    -> (tensor<16x2xi32>, tensor<16x2xi32>) {
  // CSE-COUNT-2: moe.dispatch
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) capacity(%c) order(choice_major)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  %1:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) capacity(%c)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return %0#1, %1#1 : tensor<16x2xi32>, tensor<16x2xi32>
}

// -----
// A load after the write is another load. (Which operands are read and which written:
// test/unit/Dialect.)
// CSE-LABEL: func @loads_around_a_write
func.func @loads_around_a_write(%r: memref<32x8xf32>, %s: memref<16x2xi32>, %w: memref<16x2xf32>,
                                %y: memref<16x8xf32>) -> (f32, f32) {
  %c0 = arith.constant 0 : index
  // CSE: %[[Y0:.*]] = memref.load %arg3
  // CSE: moe.combine
  // CSE: %[[Y1:.*]] = memref.load %arg3
  // CSE: return %[[Y0]], %[[Y1]]
  %y0 = memref.load %y[%c0, %c0] : memref<16x8xf32>
  moe.combine rows(%r : memref<32x8xf32>) slots(%s : memref<16x2xi32>)
      weights(%w : memref<16x2xf32>) outs(%y : memref<16x8xf32>)
  %y1 = memref.load %y[%c0, %c0] : memref<16x8xf32>
  return %y0, %y1 : f32, f32
}

//===----------------------------------------------------------------------===//
// Unused ops
//===----------------------------------------------------------------------===//

// -----
// DCE-LABEL: func @unused_on_tensors
func.func @unused_on_tensors(%l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %ids: tensor<16x2xi32>,
                             %o: tensor<5xi32>, %r: tensor<32x8xf32>, %y: tensor<16x8xf32>) {
  // DCE-NEXT: return
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>)
      outs(%w, %ids : tensor<16x2xf32>, tensor<16x2xi32>)
  %1:2 = moe.dispatch ids(%0#1 : tensor<16x2xi32>) outs(%o, %ids : tensor<5xi32>, tensor<16x2xi32>)
  %2 = moe.expert offsets(%1#0 : tensor<5xi32>) rows(%r : tensor<32x8xf32>) outs(%r : tensor<32x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>):
    moe.yield %xe : tensor<?x8xf32>
  }
  %3 = moe.combine rows(%2 : tensor<32x8xf32>) slots(%1#1 : tensor<16x2xi32>)
      weights(%0#0 : tensor<16x2xf32>) outs(%y : tensor<16x8xf32>)
  return
}

// -----
// DCE-LABEL: func @writes_stay
func.func @writes_stay(%l: memref<16x4xf32>, %w: memref<16x2xf32>, %ids: memref<16x2xi32>,
                       %o: memref<5xi32>, %s: memref<16x2xi32>, %r: memref<32x8xf32>, %y: memref<16x8xf32>) {
  // DCE: moe.gate
  // DCE: moe.dispatch
  // DCE: moe.combine
  moe.gate score(softmax) ins(%l : memref<16x4xf32>) outs(%w, %ids : memref<16x2xf32>, memref<16x2xi32>)
  moe.dispatch ids(%ids : memref<16x2xi32>) outs(%o, %s : memref<5xi32>, memref<16x2xi32>)
  moe.combine rows(%r : memref<32x8xf32>) slots(%s : memref<16x2xi32>)
      weights(%w : memref<16x2xf32>) outs(%y : memref<16x8xf32>)
  return
}

// -----
// DCE-LABEL: func @unused_grouped_matmul
func.func @unused_grouped_matmul(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>,
                                 %y: tensor<32x6xf32>) {
  // DCE-NEXT: return
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----
// DCE-LABEL: func @grouped_matmul_that_writes
func.func @grouped_matmul_that_writes(%o: memref<5xi32>, %x: memref<32x8xf32>, %w: memref<4x6x8xf32>,
                                      %y: memref<32x6xf32>) {
  // DCE-NEXT: moe.grouped_matmul
  moe.grouped_matmul offsets(%o : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<32x8xf32>, memref<4x6x8xf32>) outs(%y : memref<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

//===----------------------------------------------------------------------===//
// Loops that may not run once
//===----------------------------------------------------------------------===//

// -----
// A dispatch leaves the loop where M ≥ T·k is proved: too few rows are undefined behaviour. An
// expert stays, since its offsets may be anything.
// LICM-LABEL: func @loop_on_tensors
func.func @loop_on_tensors(%n: index, %l: tensor<16x4xf32>, %w: tensor<16x2xf32>, %ids: tensor<16x2xi32>,
                           %x: tensor<16x8xf32>, %o: tensor<5xi32>, %r32: tensor<32x8xf32>,
                           %r31: tensor<31x8xf32>, %rd: tensor<?x8xf32>, %y: tensor<16x8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // LICM: moe.gate
  // LICM-NEXT: moe.dispatch {{.*}} tensor<32x8xf32>)
  // LICM-NEXT: moe.combine
  // LICM-NEXT: scf.for
  // LICM: moe.dispatch {{.*}} tensor<31x8xf32>)
  // LICM: moe.dispatch {{.*}} tensor<?x8xf32>)
  // LICM: moe.expert
  scf.for %i = %c0 to %n step %c1 {
    %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>)
        outs(%w, %ids : tensor<16x2xf32>, tensor<16x2xi32>)
    %1:3 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<16x8xf32>)
        outs(%o, %ids, %r32 : tensor<5xi32>, tensor<16x2xi32>, tensor<32x8xf32>)
    %2:3 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<16x8xf32>)
        outs(%o, %ids, %r31 : tensor<5xi32>, tensor<16x2xi32>, tensor<31x8xf32>)
    %3:3 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<16x8xf32>)
        outs(%o, %ids, %rd : tensor<5xi32>, tensor<16x2xi32>, tensor<?x8xf32>)
    %4 = moe.expert offsets(%o : tensor<5xi32>) rows(%r32 : tensor<32x8xf32>) outs(%r32 : tensor<32x8xf32>) {
    ^bb0(%e: index, %xe: tensor<?x8xf32>):
      moe.yield %xe : tensor<?x8xf32>
    }
    %5 = moe.combine rows(%r32 : tensor<32x8xf32>) slots(%ids : tensor<16x2xi32>)
        weights(%w : tensor<16x2xf32>) outs(%y : tensor<16x8xf32>)
  }
  return
}

// -----
// A grouped matmul stays: its offsets may be anything.
// LICM-LABEL: func @loop_of_grouped_matmul
func.func @loop_of_grouped_matmul(%n: index, %o: tensor<5xi32>, %x: tensor<32x8xf32>,
                                  %w: tensor<4x6x8xf32>, %y: tensor<32x6xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // LICM: scf.for
  // LICM-NEXT: moe.grouped_matmul
  scf.for %i = %c0 to %n step %c1 {
    %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
        products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
    ^bb0(%p: f32):
      moe.yield %p : f32
    }
  }
  return
}

// -----
// LICM-LABEL: func @loop_on_memrefs
func.func @loop_on_memrefs(%n: index, %l: memref<16x4xf32>, %w: memref<16x2xf32>, %ids: memref<16x2xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // LICM: scf.for
  // LICM-NEXT: moe.gate
  scf.for %i = %c0 to %n step %c1 {
    moe.gate score(softmax) ins(%l : memref<16x4xf32>) outs(%w, %ids : memref<16x2xf32>, memref<16x2xi32>)
  }
  return
}
