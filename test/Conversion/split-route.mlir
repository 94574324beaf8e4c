// RUN: moe-opt %s --moe-split-route | FileCheck %s

// The parts of a route: a contraction, what the regions do, gate and plan as ops.
// CHECK-LABEL: func @route
// CHECK: %[[SUMS:.*]] = linalg.generic
// CHECK: %[[LOGITS:.*]] = scf.for
// CHECK: arith.truncf
// CHECK: %[[WEIGHTS:.*]], %[[IDS:.*]] = moe.gate score(softmax) scale(2.5{{.*}}) ins(%[[LOGITS]] : tensor<?x16xf32>)
// CHECK: moe.plan ids(%[[IDS]] : tensor<?x2xi32>)
// CHECK-NOT: moe.route
func.func @route(%x: tensor<?x8xbf16>, %router: tensor<16x8xbf16>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>,
                 %o: tensor<17xi32>, %r: tensor<?xi32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<17xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  %0:5 = moe.route score(softmax) scale(2.5)
      router(%x[t, k] * %router[e, k] : tensor<?x8xbf16>, tensor<16x8xbf16>)
      outs(%w, %i, %o, %i, %r : tensor<?x2xf32>, tensor<?x2xi32>, tensor<17xi32>, tensor<?x2xi32>, tensor<?xi32>)
      logits {
  ^bb0(%sum: f32):
    %b = arith.truncf %sum : f32 to bf16
    %logit = arith.extf %b : bf16 to f32
    moe.yield %logit : f32
  }
  return %0#0, %0#1, %0#2, %0#3, %0#4 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<17xi32>, tensor<?x2xi32>, tensor<?xi32>
}
