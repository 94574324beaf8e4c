// Programs that the verifier accepts and that are wrong all the same: with the option they stop
// with a message; the last one is right and runs to its end. (stdbuf: the message is in a buffer
// when the program aborts.)

// RUN: moe-opt %s --moe-general-lowering="runtime-verification=true" -o %t.mlir
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e backwards -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=BACKWARDS
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e beyond -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=BEYOND
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e outside -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=OUTSIDE
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e collide -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=COLLIDE
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e too_few_rows -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=FEW
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e too_many_yielded -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=MANY
// RUN: mlir-runner %t.mlir -e right -entry-point-result=f32 | FileCheck %s --check-prefix=RIGHT

// Without the option nothing is asserted.
// RUN: moe-opt %s --moe-general-lowering | FileCheck %s --check-prefix=UNCHECKED
// UNCHECKED-NOT: @puts
// UNCHECKED-NOT: @abort

// BACKWARDS: offsets go backwards
func.func @backwards() -> f32 {
  %o = arith.constant dense<[0, 2, 1]> : tensor<3xi32>
  %r = call @run_expert(%o) : (tensor<3xi32>) -> f32
  return %r : f32
}

// BEYOND: offsets[E] is beyond the rows
func.func @beyond() -> f32 {
  %o = arith.constant dense<[0, 2, 5]> : tensor<3xi32>
  %r = call @run_expert(%o) : (tensor<3xi32>) -> f32
  return %r : f32
}

// COLLIDE: slots collide: two choices share a row
func.func @collide() -> f32 {
  %s = arith.constant dense<[[0, 1], [1, -1]]> : tensor<2x2xi32>
  %r = call @run_combine(%s) : (tensor<2x2xi32>) -> f32
  return %r : f32
}

// OUTSIDE: an id is outside [0, E), but the op says in_bounds
func.func @outside() -> f32 {
  %ids = arith.constant dense<[[0], [2], [1]]> : tensor<3x1xi32>
  %c0 = arith.constant 0 : index
  %o0 = tensor.empty() : tensor<3xi32>
  %s0 = tensor.empty() : tensor<3x1xi32>
  %0:2 = moe.dispatch in_bounds ids(%ids : tensor<3x1xi32>) outs(%o0, %s0 : tensor<3xi32>, tensor<3x1xi32>)
  %last = tensor.extract %0#0[%c0] : tensor<3xi32>
  %r = arith.sitofp %last : i32 to f32
  return %r : f32
}

// FEW: there are fewer rows than choices that are kept; T·k rows always suffice
func.func @too_few_rows() -> f32 {
  %ids = arith.constant dense<[[0], [1], [1]]> : tensor<3x1xi32>
  %x = arith.constant dense<[1.0, 2.0, 3.0]> : tensor<3xf32>
  %c0 = arith.constant 0 : index
  %o0 = tensor.empty() : tensor<3xi32>
  %s0 = tensor.empty() : tensor<3x1xi32>
  %r0 = tensor.empty() : tensor<2xf32>
  %0:3 = moe.dispatch ids(%ids : tensor<3x1xi32>) tokens(%x : tensor<3xf32>)
      outs(%o0, %s0, %r0 : tensor<3xi32>, tensor<3x1xi32>, tensor<2xf32>)
  %r = tensor.extract %0#2[%c0] : tensor<2xf32>
  return %r : f32
}

// MANY: the body yields another number of rows than it was given
func.func @too_many_yielded() -> f32 {
  %o = arith.constant dense<[0, 1, 3]> : tensor<3xi32>
  %x = arith.constant dense<[1.0, 2.0, 3.0]> : tensor<3xf32>
  %c0 = arith.constant 0 : index
  %c100 = arith.constant 100 : index
  %y0 = tensor.empty() : tensor<3xf32>
  %y = moe.expert offsets(%o : tensor<3xi32>) rows(%x : tensor<3xf32>) outs(%y0 : tensor<3xf32>) {
  ^bb0(%e: index, %xe: tensor<?xf32>):
    %first = tensor.extract %xe[%c0] : tensor<?xf32>
    %empty = tensor.empty(%c100) : tensor<?xf32>
    %many = linalg.fill ins(%first : f32) outs(%empty : tensor<?xf32>) -> tensor<?xf32>
    moe.yield %many : tensor<?xf32>
  }
  %r = tensor.extract %y[%c0] : tensor<3xf32>
  return %r : f32
}

// Offsets need not start at 0, and −1 is nowhere: 10 + 200.
// RIGHT: 2.100000e+02
func.func @right() -> f32 {
  %o = arith.constant dense<[1, 2, 4]> : tensor<3xi32>
  %a = call @run_expert(%o) : (tensor<3xi32>) -> f32
  %s = arith.constant dense<[[1, -1], [0, 2]]> : tensor<2x2xi32>
  %b = call @run_combine(%s) : (tensor<2x2xi32>) -> f32
  %r = arith.addf %a, %b : f32
  return %r : f32
}

// The last of four rows, times ten for the first expert and hundred for the second.
func.func private @run_expert(%o: tensor<3xi32>) -> f32 {
  %c3 = arith.constant 3 : index
  %x = arith.constant dense<[1.0, 1.0, 1.0, 2.0]> : tensor<4xf32>
  %w = arith.constant dense<[[10.0], [100.0]]> : tensor<2x1xf32>
  %y0 = tensor.empty() : tensor<4xf32>
  %y = moe.expert offsets(%o : tensor<3xi32>) rows(%x : tensor<4xf32>) params(%w : tensor<2x1xf32>)
      outs(%y0 : tensor<4xf32>) {
  ^bb0(%e: index, %xe: tensor<?xf32>, %we: tensor<1xf32>):
    %c0 = arith.constant 0 : index
    %factor = tensor.extract %we[%c0] : tensor<1xf32>
    %n = tensor.dim %xe, %c0 : tensor<?xf32>
    %empty = tensor.empty(%n) : tensor<?xf32>
    %factors = linalg.fill ins(%factor : f32) outs(%empty : tensor<?xf32>) -> tensor<?xf32>
    %ye = arith.mulf %xe, %factors : tensor<?xf32>
    moe.yield %ye : tensor<?xf32>
  }
  %r = tensor.extract %y[%c3] : tensor<4xf32>
  return %r : f32
}

// The first of two tokens: the row of its one slot.
func.func private @run_combine(%s: tensor<2x2xi32>) -> f32 {
  %c0 = arith.constant 0 : index
  %r = arith.constant dense<[[5.0], [10.0], [20.0]]> : tensor<3x1xf32>
  %w = arith.constant dense<1.0> : tensor<2x2xf32>
  %y0 = tensor.empty() : tensor<2x1xf32>
  %y = moe.combine rows(%r : tensor<3x1xf32>) slots(%s : tensor<2x2xi32>) weights(%w : tensor<2x2xf32>)
      outs(%y0 : tensor<2x1xf32>)
  %v = tensor.extract %y[%c0, %c0] : tensor<2x1xf32>
  return %v : f32
}
