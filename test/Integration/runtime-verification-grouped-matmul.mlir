// What the verifier cannot see of moe.grouped_matmul stops a program with a message; the last one
// is right and runs to its end. (stdbuf: the message is in a buffer when the program aborts.)

// RUN: moe-opt %s --moe-general-lowering="runtime-verification=true" -o %t.mlir
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e backwards -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=BACKWARDS
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e beyond -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=BEYOND
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e nowhere -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=SOURCE
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e no_token -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=SOURCE
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e columns -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=COLUMNS
// RUN: not --crash stdbuf -o0 mlir-runner %t.mlir -e collide -entry-point-result=f32 2>&1 | FileCheck %s --check-prefix=COLLIDE
// RUN: mlir-runner %t.mlir -e right -entry-point-result=f32 | FileCheck %s --check-prefix=RIGHT

// BACKWARDS: offsets go backwards
func.func @backwards() -> f32 {
  %o = arith.constant dense<[0, 2, 1]> : tensor<3xi32>
  %s = arith.constant dense<[0, 1, 3, -1]> : tensor<4xi32>
  %r = call @run_rows(%o, %s) : (tensor<3xi32>, tensor<4xi32>) -> f32
  return %r : f32
}

// BEYOND: offsets[E] is beyond the rows
func.func @beyond() -> f32 {
  %o = arith.constant dense<[0, 2, 5]> : tensor<3xi32>
  %s = arith.constant dense<[0, 1, 3, -1]> : tensor<4xi32>
  %r = call @run_rows(%o, %s) : (tensor<3xi32>, tensor<4xi32>) -> f32
  return %r : f32
}

// The source of row 3, which an expert owns.
// SOURCE: the source of a row that is computed is outside [0, T·k)
func.func @nowhere() -> f32 {
  %o = arith.constant dense<[0, 2, 4]> : tensor<3xi32>
  %s = arith.constant dense<[0, 1, 3, -1]> : tensor<4xi32>
  %r = call @run_rows(%o, %s) : (tensor<3xi32>, tensor<4xi32>) -> f32
  return %r : f32
}

// Choice 4 is of token 2; there are two.
func.func @no_token() -> f32 {
  %o = arith.constant dense<[0, 2, 3]> : tensor<3xi32>
  %s = arith.constant dense<[0, 1, 4, -1]> : tensor<4xi32>
  %r = call @run_rows(%o, %s) : (tensor<3xi32>, tensor<4xi32>) -> f32
  return %r : f32
}

// Offsets need not start at 0, and a row that nobody owns has any source: 2 · 10.
// RIGHT: 2.000000e+01
func.func @right() -> f32 {
  %o = arith.constant dense<[1, 2, 3]> : tensor<3xi32>
  %s = arith.constant dense<[99, 2, 3, -1]> : tensor<4xi32>
  %a = call @run_rows(%o, %s) : (tensor<3xi32>, tensor<4xi32>) -> f32
  %slots = arith.constant dense<[[1, -1], [2, 3]]> : tensor<2x2xi32>
  %b = call @run_combine(%slots) : (tensor<2x2xi32>) -> f32
  return %a : f32
}

// COLLIDE: slots collide: two choices share a row
func.func @collide() -> f32 {
  %slots = arith.constant dense<[[1, -1], [1, 3]]> : tensor<2x2xi32>
  %r = call @run_combine(%slots) : (tensor<2x2xi32>) -> f32
  return %r : f32
}

// Of the weights there are two columns, and of the destination three.
// COLUMNS: an index expression leaves its operand
func.func @columns() -> f32 {
  %w = arith.constant dense<1.0> : tensor<2x2x1xf32>
  %wide = tensor.cast %w : tensor<2x2x1xf32> to tensor<2x?x1xf32>
  %r = call @run_columns(%wide) : (tensor<2x?x1xf32>) -> f32
  return %r : f32
}

func.func private @run_columns(%w: tensor<2x?x1xf32>) -> f32 {
  %o = arith.constant dense<[0, 0, 2]> : tensor<3xi32>
  %x = arith.constant dense<1.0> : tensor<2x1xf32>
  %init = tensor.empty() : tensor<2x3xf32>
  %y = moe.grouped_matmul offsets(%o : tensor<3xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<2x1xf32>, tensor<2x?x1xf32>) outs(%init : tensor<2x3xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %c0 = arith.constant 0 : index
  %r = tensor.extract %y[%c0, %c0] : tensor<2x3xf32>
  return %r : f32
}

// The second row: the value of its token, 1 or 2, times ten for the first expert.
func.func private @run_rows(%o: tensor<3xi32>, %s: tensor<4xi32>) -> f32 {
  %x = arith.constant dense<[[1.0], [2.0]]> : tensor<2x1xf32>
  %w = arith.constant dense<[[[10.0]], [[100.0]]]> : tensor<2x1x1xf32>
  %init = arith.constant dense<0.0> : tensor<4x1xf32>
  %y = moe.grouped_matmul offsets(%o : tensor<3xi32>) source(%s : tensor<4xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<2x1xf32>, tensor<2x1x1xf32>) outs(%init : tensor<4x1xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = tensor.extract %y[%c1, %c0] : tensor<4x1xf32>
  return %r : f32
}

func.func private @run_combine(%slots: tensor<2x2xi32>) -> f32 {
  %o = arith.constant dense<[0, 2, 4]> : tensor<3xi32>
  %x = arith.constant dense<[[1.0], [2.0], [3.0], [4.0]]> : tensor<4x1xf32>
  %w = arith.constant dense<[[[10.0]], [[100.0]]]> : tensor<2x1x1xf32>
  %g = arith.constant dense<1.0> : tensor<2x2xf32>
  %init = tensor.empty() : tensor<2x1xf32>
  %y = moe.grouped_matmul offsets(%o : tensor<3xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<4x1xf32>, tensor<2x1x1xf32>)
      combine(%slots : tensor<2x2xi32>, %g : tensor<2x2xf32>) outs(%init : tensor<2x1xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %c0 = arith.constant 0 : index
  %r = tensor.extract %y[%c0, %c0] : tensor<2x1xf32>
  return %r : f32
}
