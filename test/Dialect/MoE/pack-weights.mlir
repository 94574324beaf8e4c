// Weights that a function takes become packed ones, and a function beside it makes these.

// RUN: moe-opt %s --split-input-file --moe-pack-weights | FileCheck %s
// Twice is once.
// RUN: moe-opt %s --split-input-file --moe-pack-weights --moe-pack-weights | FileCheck %s
// Both functions lower, as one names the other.
// RUN: moe-opt %s --split-input-file --moe-pack-weights --moe-general-lowering \
// RUN:     | FileCheck %s --check-prefix=LOWERED
// RUN: moe-opt %s --split-input-file --moe-pack-weights --moe-cpu-lowering \
// RUN:     | FileCheck %s --check-prefix=LOWERED
// LOWERED-LABEL: llvm.func @stored(
// LOWERED-LABEL: llvm.func @stored_pack(
// LOWERED-NOT: linalg.pack

// N is no multiple of 32, and K odd. Attributes of arguments stay; the tensor of a checkpoint has
// another name when it is packed. The number of experts is that of the layer in one function, and
// any in the other.
// CHECK-LABEL: func.func @stored(
// CHECK-SAME: %[[BF16:[^:]*]]: tensor<4x3x5x32x2xbf16> {moe.name = "up", moe.param = "m.experts.up.packed"},
// CHECK-SAME: %[[F32:[^:]*]]: tensor<?x3x9x32xf32>,
// CHECK-SAME: %[[F16:[^:]*]]: tensor<4x3x9x32xf16> {host.kept}, %{{.*}}: tensor<?x70xf32> {moe.name = "init"})
// CHECK-SAME: attributes {moe.pack = @stored_pack, moe.packed = array<i32: 2, 3, 4>}
// CHECK: products(%{{.*}}[m, k] * %[[BF16]][e, n floordiv 32, k floordiv 2, n mod 32, k mod 2],
// CHECK-SAME: * %[[F32]][e, n floordiv 32, k, n mod 32],
// CHECK-SAME: * %[[F16]][e, n floordiv 32, k, n mod 32] :

// CHECK-LABEL: func.func @stored_pack(
// CHECK-SAME: %[[BF16:[^:]*]]: tensor<?x70x9xbf16> {moe.name = "up", moe.param = "m.experts.{expert}.up"},
// CHECK-SAME: %[[F32:[^:]*]]: tensor<?x9x70xf32>, %[[F16:[^:]*]]: tensor<?x70x9xf16> {host.kept})
// CHECK-SAME: -> (tensor<?x3x5x32x2xbf16> {moe.name = "up_packed"}, tensor<?x3x9x32xf32>, tensor<?x3x9x32xf16> {host.kept})
// CHECK: %[[E:.*]] = tensor.dim %[[BF16]], %{{.*}}
// CHECK: %[[EMPTY:.*]] = tensor.empty(%[[E]]) : tensor<?x3x5x32x2xbf16>
// CHECK: %[[P0:.*]] = linalg.pack %[[BF16]] padding_value(%{{.*}} : bf16) inner_dims_pos = [1, 2] inner_tiles = [32, 2]
// CHECK-SAME: into %[[EMPTY]]
// CHECK: %[[P1:.*]] = linalg.pack %[[F32]] padding_value(%{{.*}} : f32) outer_dims_perm = [0, 2, 1] inner_dims_pos = [2] inner_tiles = [32]
// CHECK: %[[P2:.*]] = linalg.pack %[[F16]] padding_value(%{{.*}} : f16) inner_dims_pos = [1] inner_tiles = [32]
// CHECK: return %[[P0]], %[[P1]], %[[P2]]
func.func @stored(%o: tensor<5xi32>, %x: tensor<?x9xbf16>,
    %a: tensor<4x70x9xbf16> {moe.name = "up", moe.param = "m.experts.{expert}.up"},
    %b: tensor<?x9x70xf32>, %c: tensor<4x70x9xf16> {host.kept},
    %init: tensor<?x70xf32> {moe.name = "init"}) -> tensor<?x70xf32> {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %a[e, n, k], %x[m, k] * %b[e, k, n], %x[m, k] * %c[e, n, k]
               : tensor<?x9xbf16>, tensor<4x70x9xbf16>, tensor<?x9xbf16>, tensor<?x9x70xf32>,
                 tensor<?x9xbf16>, tensor<4x70x9xf16>) outs(%init : tensor<?x70xf32>) {
  ^bb0(%p: f32, %q: f32, %r: f32):
    %s = arith.addf %p, %q : f32
    %t = arith.addf %s, %r : f32
    moe.yield %t : f32
  }
  return %y : tensor<?x70xf32>
}

// -----

// Gate and up in turns, and one after the other: two packed tensors each, the one with the first
// columns first. The number of experts is read of them as well.
// CHECK-LABEL: func.func @pairs(
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x8xbf16>,
// CHECK-SAME: %[[T0:[^:]*]]: tensor<?x1x4x32x2xbf16> {moe.name = "t_0", moe.param = "t.packed_0"}, %[[T1:[^:]*]]: tensor<?x1x4x32x2xbf16> {moe.name = "t_1", moe.param = "t.packed_1"},
// CHECK-SAME: %[[H0:[^:]*]]: tensor<4x1x4x32x2xbf16>, %[[H1:[^:]*]]: tensor<4x1x4x32x2xbf16>,
// CHECK-SAME: moe.packed = array<i32: 1, 2, 3, 4>
// CHECK: tensor.dim %[[T0]], %c0
// CHECK: products(%[[X]][m, k] * %[[T1]][{{[^]]*}}], %[[X]][m, k] * %[[T0]][{{[^]]*}}], %[[X]][m, k] * %[[H0]][{{[^]]*}}], %[[X]][m, k] * %[[H1]][
// CHECK: products(%[[X]][m, k] * %[[T0]][

// CHECK-LABEL: func.func @pairs_pack(
// CHECK-SAME: %[[T:[^:]*]]: tensor<?x8x48xbf16> {moe.name = "t", moe.param = "t"}, %[[H:[^:]*]]: tensor<?x48x8xbf16>)
// CHECK-SAME: -> (tensor<?x1x4x32x2xbf16> {moe.name = "t_0_packed"}, tensor<?x1x4x32x2xbf16> {moe.name = "t_1_packed"}, tensor<?x1x4x32x2xbf16>, tensor<?x1x4x32x2xbf16>)
// CHECK: %[[EVEN:.*]] = tensor.extract_slice %[[T]][0, 0, 0] [%{{.*}}, 8, 24] [1, 1, 2]
// CHECK: linalg.pack %[[EVEN]] padding_value(%{{.*}} : bf16) outer_dims_perm = [0, 2, 1] inner_dims_pos = [2, 1] inner_tiles = [32, 2]
// CHECK: %[[ODD:.*]] = tensor.extract_slice %[[T]][0, 0, 1] [%{{.*}}, 8, 24] [1, 1, 2]
// CHECK: linalg.pack %[[ODD]]
// CHECK: tensor.extract_slice %[[H]][0, 0, 0] [%{{.*}}, 24, 8] [1, 1, 1]
// CHECK: tensor.extract_slice %[[H]][0, 24, 0] [%{{.*}}, 24, 8] [1, 1, 1]
func.func @pairs(%x: tensor<?x8xbf16>, %t: tensor<?x8x48xbf16> {moe.name = "t", moe.param = "t"},
    %h: tensor<4x48x8xbf16>, %o: tensor<?xi32>, %init: tensor<?x24xf32>) -> (tensor<?x24xf32>, tensor<?x24xf32>, index) {
  %c0 = arith.constant 0 : index
  %experts = tensor.dim %t, %c0 : tensor<?x8x48xbf16>
  %y = moe.grouped_matmul offsets(%o : tensor<?xi32>)
      products(%x[m, k] * %t[e, k, 2 * n + 1], %x[m, k] * %t[e, k, 2 * n],
               %x[m, k] * %h[e, n, k], %x[m, k] * %h[e, n + 24, k]
               : tensor<?x8xbf16>, tensor<?x8x48xbf16>, tensor<?x8xbf16>, tensor<?x8x48xbf16>,
                 tensor<?x8xbf16>, tensor<4x48x8xbf16>, tensor<?x8xbf16>, tensor<4x48x8xbf16>)
      outs(%init : tensor<?x24xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32, %d: f32):
    %e = arith.subf %a, %b : f32
    %f = arith.subf %c, %d : f32
    %g = arith.subf %e, %f : f32
    moe.yield %g : f32
  }
  %z = moe.grouped_matmul offsets(%o : tensor<?xi32>)
      products(%x[m, k] * %t[e, k, 2 * n] : tensor<?x8xbf16>, tensor<?x8x48xbf16>)
      outs(%init : tensor<?x24xf32>) {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %y, %z, %experts : tensor<?x24xf32>, tensor<?x24xf32>, index
}

// -----

// Nothing is padded: no padding value.
// CHECK-LABEL: func.func @whole(
// CHECK-SAME: moe.pack = @whole_pack, moe.packed
// CHECK: func.func @whole_pack(
// CHECK: linalg.pack %{{.*}} inner_dims_pos = [1, 2] inner_tiles = [32, 2] into %{{.*}} : tensor<?x64x8xbf16> -> tensor<?x2x4x32x2xbf16>
func.func @whole(%o: tensor<5xi32>, %x: tensor<?x8xbf16>, %w: tensor<4x64x8xbf16>,
    %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xbf16>, tensor<4x64x8xbf16>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x64xf32>
}
