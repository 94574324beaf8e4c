// RUN: moe-opt %s --moe-contraction-to-grouped-matmul | FileCheck %s
// RUN: moe-opt %s --moe-contraction-to-grouped-matmul=cut-rows | FileCheck %s --check-prefix=CUT

#rows = affine_map<(m, n, k) -> (m, k)>
#weights = affine_map<(m, n, k) -> (n, k)>
#transposed = affine_map<(m, n, k) -> (k, n)>
#out = affine_map<(m, n, k) -> (m, n)>

// One group of all rows.
// Or a group for each thread of a large machine, of 120 rows or a multiple.
// CUT-LABEL: func @router
// CUT: %[[T:.*]] = tensor.dim
// CUT: %[[BLOCKS:.*]] = arith.ceildivui %[[T]], %c1920
// CUT: %[[SIZE:.*]] = arith.muli %[[BLOCKS]], %c120
// CUT: %[[END:.*]] = arith.muli %[[SIZE]], %c1{{(_[0-9]+)?}} :
// CUT: arith.minui %[[END]], %[[T]]
// CUT: moe.grouped_matmul offsets(%{{.*}} : tensor<17xi32>)

// CHECK-LABEL: func @router
// CHECK: %[[OFFSETS:.*]] = tensor.from_elements %{{.*}}, %{{.*}} : tensor<2xi32>
// CHECK: moe.grouped_matmul offsets(%[[OFFSETS]] : tensor<2xi32>) products(%{{.*}}[m, k] * %{{.*}}[n, k] : tensor<?x64xbf16>, tensor<8x64xbf16>) outs(
// CHECK-NEXT: ^bb0(%[[P:.*]]: f32):
// CHECK-NEXT: moe.yield %[[P]] : f32
func.func @router(%x: tensor<?x64xbf16>, %w: tensor<8x64xbf16>, %init: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %fill = linalg.fill ins(%zero : f32) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  %y = linalg.matmul indexing_maps = [#rows, #weights, #out]
      ins(%x, %w : tensor<?x64xbf16>, tensor<8x64xbf16>) outs(%fill : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// Zeros may be a splat.
// CHECK-LABEL: func @splat
// CHECK-NOT: extras
// CHECK: return
func.func @splat(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %n: index) -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %z = tensor.splat %zero[%n] : tensor<?x8xf32>
  %y = linalg.matmul indexing_maps = [#rows, #weights, #out]
      ins(%x, %w : tensor<?x64xf32>, tensor<8x64xf32>) outs(%z : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// What the output held is added.
// CHECK-LABEL: func @accumulates
// CHECK: extras(%{{.*}}[m, n] : tensor<?x8xf32>)
// CHECK: arith.addf
func.func @accumulates(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %init: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = linalg.matmul indexing_maps = [#rows, #weights, #out]
      ins(%x, %w : tensor<?x64xf32>, tensor<8x64xf32>) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// One reads what another computes.
// CHECK-LABEL: func @chain
// CHECK: %[[H:.*]] = moe.grouped_matmul {{.*}} products(%{{.*}}[m, k] * %{{.*}}[n, k] : tensor<?x64xf32>, tensor<8x64xf32>)
// CHECK: %[[ROWS:.*]] = tensor.dim %[[H]], %{{.*}} : tensor<?x8xf32>
// CHECK: arith.index_cast %[[ROWS]]
// CHECK: moe.grouped_matmul {{.*}} products(%[[H]][m, k] * %{{.*}}[n, k] : tensor<?x8xf32>, tensor<16x8xf32>)
// CHECK-NOT: linalg.matmul
// CHECK: return
func.func @chain(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %v: tensor<16x8xf32>,
                 %init: tensor<?x8xf32>, %out: tensor<?x16xf32>) -> tensor<?x16xf32> {
  %h = linalg.matmul indexing_maps = [#rows, #weights, #out]
      ins(%x, %w : tensor<?x64xf32>, tensor<8x64xf32>) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  %y = linalg.matmul indexing_maps = [#rows, #weights, #out]
      ins(%h, %v : tensor<?x8xf32>, tensor<16x8xf32>) outs(%out : tensor<?x16xf32>) -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// k is not the last index of the weights; sums in bf16 round at each step.
// CHECK-LABEL: func @declined
// CHECK-NOT: moe.grouped_matmul
func.func @declined(%x: tensor<?x64xf32>, %w: tensor<64x8xf32>, %init: tensor<?x8xf32>,
                    %b: tensor<?x64xbf16>, %v: tensor<8x64xbf16>, %init16: tensor<?x8xbf16>)
    -> (tensor<?x8xf32>, tensor<?x8xbf16>) {
  %y = linalg.matmul indexing_maps = [#rows, #transposed, #out]
      ins(%x, %w : tensor<?x64xf32>, tensor<64x8xf32>) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  %z = linalg.matmul indexing_maps = [#rows, #weights, #out]
      ins(%b, %v : tensor<?x64xbf16>, tensor<8x64xbf16>) outs(%init16 : tensor<?x8xbf16>) -> tensor<?x8xbf16>
  return %y, %z : tensor<?x8xf32>, tensor<?x8xbf16>
}

// More columns than a router has: one group.
// CHECK-LABEL: func @shared_expert
// CUT-LABEL: func @shared_expert
// CUT: moe.grouped_matmul offsets(%{{.*}} : tensor<2xi32>)
func.func @shared_expert(%x: tensor<?x64xf32>, %w: tensor<513x64xf32>, %init: tensor<?x513xf32>) -> tensor<?x513xf32> {
  %y = linalg.matmul indexing_maps = [#rows, #weights, #out]
      ins(%x, %w : tensor<?x64xf32>, tensor<513x64xf32>) outs(%init : tensor<?x513xf32>) -> tensor<?x513xf32>
  return %y : tensor<?x513xf32>
}
