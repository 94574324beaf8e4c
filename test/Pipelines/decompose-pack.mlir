// RUN: moe-opt %s --moe-decompose-pack --canonicalize | FileCheck %s

// CHECK-DAG: #[[PANEL:.*]] = affine_map<()[s0, s1] -> (s0 * 32 + s1)>
// CHECK-DAG: #[[PAIR:.*]] = affine_map<()[s0, s1] -> (s0 * 2 + s1)>

// Both dimensions are padded.
// CHECK-LABEL: func.func @padded(
// CHECK-SAME: %[[W:.*]]: tensor<?x70x9xbf16>, %[[E:.*]]: tensor<?x3x5x32x2xbf16>)
// CHECK: linalg.generic {{.*}} outs(%[[E]] :
// CHECK: %[[N:.*]] = affine.apply #[[PANEL]]()
// CHECK: %[[IN:.*]] = arith.cmpi ult, %[[N]], %c70
// CHECK: %[[K:.*]] = affine.apply #[[PAIR]]()
// CHECK: %[[IK:.*]] = arith.cmpi ult, %[[K]], %c9
// CHECK: %[[INSIDE:.*]] = arith.andi %[[IN]], %[[IK]]
// CHECK: scf.if %[[INSIDE]]
// CHECK: tensor.extract %[[W]][%{{.*}}, %[[N]], %[[K]]]
// CHECK: linalg.yield
func.func @padded(%w: tensor<?x70x9xbf16>, %e: tensor<?x3x5x32x2xbf16>) -> tensor<?x3x5x32x2xbf16> {
  %zero = arith.constant 0.0 : bf16
  %p = linalg.pack %w padding_value(%zero : bf16) inner_dims_pos = [1, 2] inner_tiles = [32, 2] into %e
      : tensor<?x70x9xbf16> -> tensor<?x3x5x32x2xbf16>
  return %p : tensor<?x3x5x32x2xbf16>
}

// Nothing is padded; the outer dimensions are in another order.
// CHECK-LABEL: func.func @whole(
// CHECK-SAME: %[[W:.*]]: tensor<4x8x64xf32>
// CHECK: linalg.generic
// CHECK-DAG: %[[EXPERT:.*]] = linalg.index 0
// CHECK-DAG: %[[OUTER:.*]] = linalg.index 1
// CHECK-DAG: %[[K:.*]] = linalg.index 2
// CHECK-DAG: %[[INNER:.*]] = linalg.index 3
// CHECK: %[[N:.*]] = affine.apply #[[PANEL]]()[%[[OUTER]], %[[INNER]]]
// CHECK-NEXT: %[[V:.*]] = tensor.extract %[[W]][%[[EXPERT]], %[[K]], %[[N]]]
// CHECK-NEXT: linalg.yield %[[V]]
func.func @whole(%w: tensor<4x8x64xf32>, %e: tensor<4x2x8x32xf32>) -> tensor<4x2x8x32xf32> {
  %p = linalg.pack %w outer_dims_perm = [0, 2, 1] inner_dims_pos = [2] inner_tiles = [32] into %e
      : tensor<4x8x64xf32> -> tensor<4x2x8x32xf32>
  return %p : tensor<4x2x8x32xf32>
}

// Sizes and tiles that are not known.
// CHECK-LABEL: func.func @dynamic(
// CHECK-SAME: %[[W:.*]]: tensor<?xf32>, %[[E:.*]]: tensor<?x?xf32>, %[[TILE:.*]]: index
// CHECK: %[[SIZE:.*]] = tensor.dim %[[W]], %c0
// CHECK: affine.apply #{{.*}}()[%[[TILE]], %{{.*}}, %{{.*}}]
// CHECK: arith.cmpi ult, %{{.*}}, %[[SIZE]]
func.func @dynamic(%w: tensor<?xf32>, %e: tensor<?x?xf32>, %tile: index) -> tensor<?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %p = linalg.pack %w padding_value(%zero : f32) inner_dims_pos = [0] inner_tiles = [%tile] into %e
      : tensor<?xf32> -> tensor<?x?xf32>
  return %p : tensor<?x?xf32>
}
