// Results and body arguments have the names that the documentation gives them.

// RUN: moe-opt %s | FileCheck %s

func.func @layer(%l: tensor<16x4xf32>, %x: tensor<16x8xf32>, %w: tensor<4x8xf32>, %w0: tensor<16x2xf32>,
                 %i0: tensor<16x2xi32>, %o: tensor<5xi32>, %r: tensor<32x8xf32>, %rw: tensor<32xf32>,
                 %dw: tensor<4x8xf32>, %y0: tensor<16x8xf32>) -> tensor<16x8xf32> {
  // CHECK: %weights, %ids = moe.gate
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x4xf32>)
      outs(%w0, %i0 : tensor<16x2xf32>, tensor<16x2xi32>)
  // CHECK: %offsets, %slots, %rows, %rows_0 = moe.dispatch
  %1:4 = moe.dispatch ids(%0#1 : tensor<16x2xi32>) tokens(%x : tensor<16x8xf32>)
      choices(%0#0 : tensor<16x2xf32>)
      outs(%o, %i0, %r, %rw : tensor<5xi32>, tensor<16x2xi32>, tensor<32x8xf32>, tensor<32xf32>)
  // CHECK: %y, %y_1 = moe.expert
  // CHECK-NEXT: ^bb0(%expert: index, %rows_2: tensor<?x8xf32>, %rows_3: tensor<?xf32>, %param: tensor<8xf32>):
  %2:2 = moe.expert offsets(%1#0 : tensor<5xi32>) rows(%1#2, %1#3 : tensor<32x8xf32>, tensor<32xf32>)
      params(%w : tensor<4x8xf32>) outs(%r, %dw : tensor<32x8xf32>, tensor<4x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>, %g: tensor<?xf32>, %we: tensor<8xf32>):
    moe.yield %xe, %we : tensor<?x8xf32>, tensor<8xf32>
  }
  // CHECK: %combined = moe.combine
  %3 = moe.combine rows(%2#0 : tensor<32x8xf32>) slots(%1#1 : tensor<16x2xi32>)
      weights(%0#0 : tensor<16x2xf32>) outs(%y0 : tensor<16x8xf32>)
  return %3 : tensor<16x8xf32>
}

func.func @kernel_level(%o: tensor<5xi32>, %r: tensor<32x8xf32>, %w: tensor<4x8xf32>, %rw: tensor<32xf32>,
                        %s: tensor<16x2xi32>, %g: tensor<16x2xf32>, %y: tensor<16x8xf32>) -> tensor<16x8xf32> {
  // CHECK: %rows, %rows_0 = moe.grouped_matmul
  // CHECK-NEXT: ^bb0(%product: f32, %product_1: f32, %extra: f32):
  // CHECK: } decode {
  // CHECK-NEXT: ^bb0(%n: index, %k: index, %stored: f32, %scale: f32):
  %0:2 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%r[m, k] * decode(%w[e, k], %w[e, k]), %r[m, k] * %w[e, k]
               : tensor<32x8xf32>, tensor<4x8xf32>, tensor<4x8xf32>, tensor<32x8xf32>, tensor<4x8xf32>)
      extras(%rw[m] : tensor<32xf32>) outs(%r, %r : tensor<32x8xf32>, tensor<32x8xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    moe.yield %a, %c : f32, f32
  } decode {
  ^bb0(%a: index, %b: index, %c: f32, %d: f32):
    moe.yield %c : f32
  }
  // CHECK: %combined = moe.grouped_matmul
  %1 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%0#0[m, k] * %w[e, k] : tensor<32x8xf32>, tensor<4x8xf32>)
      combine(%s : tensor<16x2xi32>, %g : tensor<16x2xf32>) base(%y : tensor<16x8xf32>)
      outs(%y : tensor<16x8xf32>) {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %1 : tensor<16x8xf32>
}
