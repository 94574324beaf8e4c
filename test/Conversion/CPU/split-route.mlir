// RUN: moe-opt %s --moe-split-route | FileCheck %s

// The logits are a dense grouped matmul; a rounding and a bias are its epilogue. Gate
// and plan are ops.
// CHECK-LABEL: func @route
// CHECK-SAME: %[[X:.*]]: tensor<?x8xbf16>, %[[ROUTER:.*]]: tensor<16x8xbf16>, %[[BIAS:.*]]: tensor<16xf32>
// CHECK: %[[LOGITS:.*]] = moe.grouped_matmul offsets(%{{.*}} : tensor<17xi32>) products(%[[X]][m, k] * %[[ROUTER]][n, k] : {{.*}}) extras(%[[BIAS]][n] : tensor<16xf32>)
// CHECK: arith.truncf
// CHECK: arith.addf
// CHECK-NOT: scf.for
// CHECK: %[[WEIGHTS:.*]], %[[IDS:.*]] = moe.gate score(softmax) scale(2.5{{.*}}) ins(%[[LOGITS]] : tensor<?x16xf32>)
// CHECK: moe.plan ids(%[[IDS]] : tensor<?x2xi32>)
// CHECK-NOT: moe.route
func.func @route(%x: tensor<?x8xbf16>, %router: tensor<16x8xbf16>, %bias: tensor<16xf32>, %w: tensor<?x2xf32>,
                 %i: tensor<?x2xi32>, %o: tensor<17xi32>, %r: tensor<?xi32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<17xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  %0:5 = moe.route score(softmax) scale(2.5)
      router(%x[t, k] * %router[e, k] : tensor<?x8xbf16>, tensor<16x8xbf16>)
      extras(%bias[e] : tensor<16xf32>)
      outs(%w, %i, %o, %i, %r : tensor<?x2xf32>, tensor<?x2xi32>, tensor<17xi32>, tensor<?x2xi32>, tensor<?xi32>)
      logits {
  ^bb0(%sum: f32, %b: f32):
    %rounded = arith.truncf %sum : f32 to bf16
    %wide = arith.extf %rounded : bf16 to f32
    %logit = arith.addf %wide, %b : f32
    moe.yield %logit : f32
  }
  return %0#0, %0#1, %0#2, %0#3, %0#4 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<17xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// A function that vectors would approximate decides: it stays scalar.
// CHECK-LABEL: func @soft_cap
// CHECK: %[[SUMS:.*]] = linalg.generic
// CHECK: %[[LOGITS:.*]] = scf.for
// CHECK: math.tanh {{.*}} : f32
// CHECK: moe.gate score(softmax) ins(%[[LOGITS]] :
// CHECK: moe.plan
func.func @soft_cap(%x: tensor<?x8xf32>, %router: tensor<16x8xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>,
                    %o: tensor<17xi32>, %r: tensor<?xi32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<17xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  %0:5 = moe.route score(softmax)
      router(%x[t, k] * %router[e, k] : tensor<?x8xf32>, tensor<16x8xf32>)
      outs(%w, %i, %o, %i, %r : tensor<?x2xf32>, tensor<?x2xi32>, tensor<17xi32>, tensor<?x2xi32>, tensor<?xi32>)
      logits {
  ^bb0(%sum: f32):
    %logit = math.tanh %sum : f32
    moe.yield %logit : f32
  }
  return %0#0, %0#1, %0#2, %0#3, %0#4 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<17xi32>, tensor<?x2xi32>, tensor<?xi32>
}
