// moe.grouped_matmul as loops over upstream dialects; what they compute is checked by running them
// (python/tests/test_grouped_matmul.py).

// RUN: moe-opt %s --moe-decompose --canonicalize | FileCheck %s

// One element at a time: the source says token and choice, the maps what is read. An expert without
// rows costs two loads.
// CHECK-LABEL: func @grouped_matmul
func.func @grouped_matmul(%o: tensor<5xi32>, %s: tensor<?xi32>, %x: tensor<?x8xbf16>,
                          %w: tensor<4x12x8xbf16>, %g: tensor<?x2xf32>, %y: tensor<?x6xbf16>)
    -> tensor<?x6xbf16> {
  // CHECK-NOT: moe.
  // CHECK: scf.for %[[E:.*]] = {{.*}} iter_args(%[[YE:.*]] = %arg5)
  // CHECK: tensor.extract %arg0[%[[E]]]
  // CHECK: tensor.extract %arg0
  // CHECK-NOT: tensor.extract
  // CHECK: scf.for %[[M:.*]] = {{.*}} iter_args(%[[YM:.*]] = %[[YE]])
  // CHECK: %[[SOURCE:.*]] = tensor.extract %arg1[%[[M]]]
  // CHECK: %[[S:.*]] = arith.index_cast %[[SOURCE]]
  // CHECK: %[[T:.*]] = arith.divui %[[S]], %c2
  // CHECK: %[[J:.*]] = arith.remui %[[S]], %c2
  // CHECK: scf.for %[[N:.*]] = {{.*}} iter_args(%[[YN:.*]] = %[[YM]])
  // CHECK: %[[SUM:.*]] = scf.for %[[K:.*]] = {{.*}} iter_args(%[[BEFORE:.*]] = %cst) -> (f32)
  // CHECK: tensor.extract %arg2[%[[T]], %[[K]]]
  // CHECK: arith.extf
  // CHECK: %[[COLUMN:.*]] = affine.apply #{{.*}}(%[[N]])
  // CHECK: tensor.extract %arg3[%[[E]], %[[COLUMN]], %[[K]]]
  // CHECK: arith.extf
  // CHECK: %[[PRODUCT:.*]] = arith.mulf {{.*}} : f32
  // CHECK: arith.addf %[[BEFORE]], %[[PRODUCT]] : f32
  // CHECK: %[[G:.*]] = tensor.extract %arg4[%[[T]], %[[J]]]
  // CHECK: arith.mulf %[[SUM]], %[[G]] : f32
  // CHECK: %[[ROUNDED:.*]] = arith.truncf
  // CHECK: tensor.insert %[[ROUNDED]] into %[[YN]][%[[M]], %[[N]]]
  // CHECK-NOT: moe.
  // CHECK: return
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%s : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n + 6, k] : tensor<?x8xbf16>, tensor<4x12x8xbf16>)
      extras(%g[t, j] : tensor<?x2xf32>) outs(%y : tensor<?x6xbf16>) {
  ^bb0(%p: f32, %ge: f32):
    %z = arith.mulf %p, %ge : f32
    %r = arith.truncf %z : f32 to bf16
    moe.yield %r : bf16
  }
  return %0 : tensor<?x6xbf16>
}

// What a prologue yields is extended, as what is stored is.
// CHECK-LABEL: func @prologue
func.func @prologue(%o: tensor<5xi32>, %s: tensor<?xi32>, %x: tensor<?x8xbf16>, %g: tensor<?x2xbf16>,
                    %w: tensor<4x6x8xf32>, %y: tensor<?x6xf32>) -> tensor<?x6xf32> {
  // CHECK: %[[T:.*]] = arith.divui
  // CHECK: %[[J:.*]] = arith.remui
  // CHECK: scf.for %[[K:[a-z0-9]+]] = {{.*}} -> (f32)
  // CHECK: %[[X:.*]] = tensor.extract %arg2[%[[T]], %[[K]]]
  // CHECK: %[[G:.*]] = tensor.extract %arg3[%[[T]], %[[J]]]
  // CHECK: %[[ROW:.*]] = arith.mulf %[[X]], %[[G]] : bf16
  // CHECK: %[[LHS:.*]] = arith.extf %[[ROW]] : bf16 to f32
  // CHECK: %[[W:.*]] = tensor.extract %arg4
  // CHECK: arith.mulf %[[LHS]], %[[W]] : f32
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%s : tensor<?xi32>) top_k(2)
      products(prologue(%x[t, k], %g[t, j]) * %w[e, n, k]
               : tensor<?x8xbf16>, tensor<?x2xbf16>, tensor<4x6x8xf32>) outs(%y : tensor<?x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%row: bf16, %weight: bf16):
    %weighted = arith.mulf %row, %weight : bf16
    moe.yield %weighted : bf16
  }
  return %0 : tensor<?x6xf32>
}

// Rows of the type that the epilogue yields, then moe.combine.
// CHECK-LABEL: func @grouped_matmul_combine
func.func @grouped_matmul_combine(%o: tensor<5xi32>, %h: tensor<?x8xbf16>, %w: tensor<4x6x8xbf16>,
                                  %s: tensor<?x2xi32>, %g: tensor<?x2xf32>, %b: tensor<?x6xf32>,
                                  %y: tensor<?x6xf32>) -> tensor<?x6xf32> {
  // CHECK-NOT: moe.
  // CHECK: %[[M:.*]] = tensor.dim %arg1, %c0
  // CHECK: %[[ROWS:.*]] = tensor.empty(%[[M]]) : tensor<?x6xbf16>
  // CHECK: %[[FULL:.*]] = scf.for {{.*}} iter_args(%{{.*}} = %[[ROWS]])
  // CHECK: %[[Y:.*]] = scf.for {{.*}} iter_args(%{{.*}} = %arg6)
  // CHECK: math.fma
  // CHECK-NOT: moe.
  // CHECK: return %[[Y]]
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%h[m, k] * %w[e, n, k] : tensor<?x8xbf16>, tensor<4x6x8xbf16>)
      combine(%s : tensor<?x2xi32>, %g : tensor<?x2xf32>) base(%b : tensor<?x6xf32>)
      outs(%y : tensor<?x6xf32>) {
  ^bb0(%p: f32):
    %row = arith.truncf %p : f32 to bf16
    moe.yield %row : bf16
  }
  return %0 : tensor<?x6xf32>
}
