// RUN: moe-opt %s --moe-relax-rounding | FileCheck %s

// CHECK-LABEL: func @epilogue
// CHECK: ^bb0(%[[PRODUCT:.*]]: f32, %[[BIAS:.*]]: bf16):
// CHECK-NEXT: %[[LIMIT:.*]] = arith.constant 7.000000e+00 : f32
// CHECK-NEXT: %[[WIDE:.*]] = arith.extf %[[BIAS]] : bf16 to f32
// CHECK-NEXT: %[[SUM:.*]] = arith.addf %[[PRODUCT]], %[[WIDE]] : f32
// CHECK-NEXT: %[[SMALL:.*]] = arith.cmpf olt, %[[SUM]], %[[LIMIT]] : f32
// CHECK-NEXT: %[[CHOSEN:.*]] = arith.select %[[SMALL]], %[[SUM]], %[[LIMIT]] : f32
// CHECK-NEXT: %[[E:.*]] = math.exp %[[CHOSEN]] : f32
// CHECK-NEXT: %[[ROUNDED:.*]] = arith.truncf %[[E]] : f32 to bf16
// CHECK-NEXT: moe.yield %[[ROUNDED]] : bf16
func.func @epilogue(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x32x64xbf16>,
                    %bias: tensor<4x32xbf16>, %init: tensor<?x32xbf16>) -> tensor<?x32xbf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x32x64xbf16>)
      extras(%bias[e, n] : tensor<4x32xbf16>)
      outs(%init : tensor<?x32xbf16>) {
  ^bb0(%p: f32, %b: bf16):
    %limit = arith.constant 7.0 : bf16
    %r = arith.truncf %p : f32 to bf16
    %s = arith.addf %r, %b : bf16
    %small = arith.cmpf olt, %s, %limit : bf16
    %c = arith.select %small, %s, %limit : bf16
    %f = arith.extf %c : bf16 to f32
    %e = math.exp %f : f32
    %h = arith.truncf %e : f32 to bf16
    moe.yield %h : bf16
  }
  return %y : tensor<?x32xbf16>
}

// The bits of a rounded value are those of that value.
// CHECK-LABEL: func @bits
// CHECK: %[[ROUNDED:.*]] = arith.truncf %{{.*}} : f32 to bf16
// CHECK-NEXT: %[[BITS:.*]] = arith.bitcast %[[ROUNDED]] : bf16 to i16
// CHECK-NEXT: %[[BACK:.*]] = arith.bitcast %[[BITS]] : i16 to bf16
// CHECK-NEXT: %[[WIDE:.*]] = arith.extf %[[BACK]] : bf16 to f32
// CHECK-NEXT: %[[NEGATIVE:.*]] = arith.negf %[[WIDE]] : f32
// CHECK-NEXT: %[[RESULT:.*]] = arith.truncf %[[NEGATIVE]] : f32 to bf16
// CHECK-NEXT: moe.yield %[[RESULT]] : bf16
func.func @bits(%offsets: tensor<5xi32>, %x: tensor<?x64xbf16>, %w: tensor<4x32x64xbf16>,
                %init: tensor<?x32xbf16>) -> tensor<?x32xbf16> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x32x64xbf16>)
      outs(%init : tensor<?x32xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    %i = arith.bitcast %r : bf16 to i16
    %b = arith.bitcast %i : i16 to bf16
    %n = arith.negf %b : bf16
    moe.yield %n : bf16
  }
  return %y : tensor<?x32xbf16>
}

// f32 already.
// CHECK-LABEL: func @same
// CHECK: ^bb0(%[[P:.*]]: f32):
// CHECK-NEXT: moe.yield %[[P]] : f32
func.func @same(%offsets: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x32x64xf32>,
                %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x64xf32>, tensor<4x32x64xf32>)
      outs(%init : tensor<?x32xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x32xf32>
}
