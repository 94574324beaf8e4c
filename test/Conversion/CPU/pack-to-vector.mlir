// Packing of weights, panel by panel: shuffles where k runs last, copies where n does, and no scalar
// code at the ends.

// RUN: moe-opt %s --moe-pack-to-vector=isa=avx512 --canonicalize --cse | FileCheck %s
// RUN: moe-opt %s --moe-pack-to-vector=isa=avx2 --canonicalize --cse | FileCheck %s --check-prefix=AVX2
// RUN: not moe-opt %s --moe-pack-to-vector=isa=mmx 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: unknown isa 'mmx'; use generic, avx2, avx512, avx512bf16 or amx-bf16

// A square of pairs: 16 columns × 32 elements of k, twice for the 32 columns.
// CHECK-LABEL: func.func @along_sum(
// CHECK-SAME: %[[W:.*]]: tensor<?x1024x2048xbf16>, %[[E:.*]]: tensor<?x32x1024x32x2xbf16>)
// CHECK-NOT: linalg.pack
// CHECK: %[[EXPERTS:.*]] = tensor.dim %[[W]], %c0
// CHECK: %[[TASKS:.*]] = arith.muli %[[EXPERTS]], %c32
// CHECK: scf.forall (%[[TASK:.*]]) in (%[[TASKS]]) shared_outs(%[[OUT:.*]] = %[[E]])
// CHECK: %[[EXPERT:.*]] = arith.divui %[[TASK]], %c32
// CHECK: %[[PANEL:.*]] = arith.remui %[[TASK]], %c32
// CHECK: tensor.extract_slice %[[OUT]][%[[EXPERT]], %[[PANEL]], 0, 0, 0] [1, 1, 1024, 32, 2]
// CHECK: scf.for %{{.*}} = %c0 to %c1024 step %c16
// CHECK-NOT: scf.for
// CHECK-COUNT-16: vector.transfer_read %[[W]][%[[EXPERT]], {{.*}} vector<32xbf16>
// CHECK-COUNT-64: vector.shuffle {{.*}} : vector<16xi32>, vector<16xi32>
// CHECK-NOT: vector.shuffle
// CHECK-COUNT-16: vector.transfer_write {{.*}}, %c0] {{.*}} : vector<32xbf16>, tensor<1024x64xbf16>
// CHECK-COUNT-16: vector.transfer_read
// CHECK-COUNT-64: vector.shuffle
// CHECK-COUNT-16: vector.transfer_write {{.*}}, %c32] {{.*}} : vector<32xbf16>, tensor<1024x64xbf16>
// CHECK-NOT: vector.
// CHECK: tensor.parallel_insert_slice

// Eight columns × 16 elements, four times.
// AVX2-LABEL: func.func @along_sum(
// AVX2: scf.for %{{.*}} = %c0 to %c1024 step %c8
// AVX2-COUNT-8: vector.transfer_read {{.*}}, vector<16xbf16>
// AVX2-COUNT-24: vector.shuffle {{.*}} : vector<8xi32>, vector<8xi32>
// AVX2-COUNT-8: vector.transfer_read
// AVX2-COUNT-24: vector.shuffle
// AVX2-COUNT-16: vector.transfer_read
func.func @along_sum(%w: tensor<?x1024x2048xbf16>, %e: tensor<?x32x1024x32x2xbf16>) -> tensor<?x32x1024x32x2xbf16> {
  %p = linalg.pack %w inner_dims_pos = [1, 2] inner_tiles = [32, 2] into %e
      : tensor<?x1024x2048xbf16> -> tensor<?x32x1024x32x2xbf16>
  return %p : tensor<?x32x1024x32x2xbf16>
}

// The last panel has 6 columns, read as such; the last 11 elements of k are read with the 21 before.
// CHECK-LABEL: func.func @ends(
// CHECK: %[[IS_LAST:.*]] = arith.cmpi eq, %{{.*}}, %c2
// CHECK: scf.if %[[IS_LAST]]
// CHECK: scf.for %{{.*}} = %c0 to %c32 step %c16
// CHECK-COUNT-6: vector.transfer_read {{.*}}, vector<32xbf16>
// CHECK-NOT: vector.transfer_read
// CHECK: scf.yield
// CHECK: vector.transfer_read %{{.*}}[%{{.*}}, %c43]{{.*}} vector<32xbf16>
// CHECK: vector.shuffle {{.*}} [21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 43, 44, {{.*}}] : vector<32xi16>, vector<32xi16>
// CHECK-COUNT-5: vector.transfer_read
// CHECK-NOT: vector.transfer_read
// CHECK: } else {
// CHECK-COUNT-64: vector.transfer_read
func.func @ends(%w: tensor<3x70x75xbf16>, %e: tensor<3x3x38x32x2xbf16>) -> tensor<3x3x38x32x2xbf16> {
  %zero = arith.constant 0.0 : bf16
  %p = linalg.pack %w padding_value(%zero : bf16) inner_dims_pos = [1, 2] inner_tiles = [32, 2] into %e
      : tensor<3x70x75xbf16> -> tensor<3x3x38x32x2xbf16>
  return %p : tensor<3x3x38x32x2xbf16>
}

// Two rows of bf16 become one; the other of an odd K is zeros. Of columns in turns, vectors have both.
// CHECK-LABEL: func.func @along_columns(
// CHECK-SAME: %[[W:.*]]: tensor<?x9x128xbf16>
// CHECK: scf.for %[[ROW:.*]] = %c0 to %c4 step %c1
// CHECK: vector.transfer_read %[[W]][{{.*}} vector<64xbf16>
// CHECK: %[[ODD:.*]] = vector.shuffle {{.*}} [1, 3, 5, 7, {{.*}}, 63] : vector<64xi16>, vector<64xi16>
// CHECK: vector.transfer_read %[[W]]
// CHECK: %[[NEXT:.*]] = vector.shuffle
// CHECK: vector.interleave %[[ODD]], %[[NEXT]] : vector<32xi16>
// CHECK: vector.transfer_write %{{.*}}, %{{.*}}[%[[ROW]], %c0] {{.*}} : vector<64xbf16>, tensor<5x64xbf16>
// CHECK: scf.yield
// CHECK: vector.transfer_read
// CHECK-NOT: vector.transfer_read
// CHECK: vector.transfer_write %{{.*}}, %{{.*}}[%c4, %c0]
func.func @along_columns(%w: tensor<?x9x128xbf16>, %e: tensor<?x2x5x32x2xbf16>) -> tensor<?x2x5x32x2xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : bf16
  %experts = tensor.dim %w, %c0 : tensor<?x9x128xbf16>
  %up = tensor.extract_slice %w[0, 0, 1] [%experts, 9, 64] [1, 1, 2] : tensor<?x9x128xbf16> to tensor<?x9x64xbf16>
  %p = linalg.pack %up padding_value(%zero : bf16) outer_dims_perm = [0, 2, 1] inner_dims_pos = [2, 1] inner_tiles = [32, 2] into %e
      : tensor<?x9x64xbf16> -> tensor<?x2x5x32x2xbf16>
  return %p : tensor<?x2x5x32x2xbf16>
}

// A slice may have fewer experts than what it is of: these are packed, and no more.
// CHECK-LABEL: func.func @some_experts(
// CHECK-SAME: %[[W:.*]]: tensor<4x64x16xf32>, %[[V:.*]]: tensor<?x16x64xf32>, %[[N:.*]]: index,
// CHECK: scf.forall (%{{.*}}) in (4)
// CHECK: vector.transfer_read %[[W]]
// CHECK: %[[TASKS:.*]] = arith.muli %[[N]], %c2
// CHECK: scf.forall (%{{.*}}) in (%[[TASKS]])
// CHECK: vector.transfer_read %[[V]]
func.func @some_experts(%w: tensor<4x64x16xf32>, %v: tensor<?x16x64xf32>, %n: index, %e: tensor<2x2x16x32xf32>,
    %f: tensor<?x2x16x32xf32>) -> (tensor<2x2x16x32xf32>, tensor<?x2x16x32xf32>) {
  %s = tensor.extract_slice %w[0, 0, 0] [2, 64, 16] [1, 1, 1] : tensor<4x64x16xf32> to tensor<2x64x16xf32>
  %p = linalg.pack %s inner_dims_pos = [1] inner_tiles = [32] into %e : tensor<2x64x16xf32> -> tensor<2x2x16x32xf32>
  %t = tensor.extract_slice %v[0, 0, 0] [%n, 16, 64] [1, 1, 1] : tensor<?x16x64xf32> to tensor<?x16x64xf32>
  %q = linalg.pack %t outer_dims_perm = [0, 2, 1] inner_dims_pos = [2] inner_tiles = [32] into %f
      : tensor<?x16x64xf32> -> tensor<?x2x16x32xf32>
  return %p, %q : tensor<2x2x16x32xf32>, tensor<?x2x16x32xf32>
}

// f32 along n is copied; f16 along k is transposed in pairs, which then part.
// CHECK-LABEL: func.func @others(
// CHECK: scf.for {{.*}} step %c1
// CHECK-NEXT: affine.apply
// CHECK-NEXT: %[[ROW:.*]] = vector.transfer_read {{.*}} vector<32xf32>
// CHECK: vector.transfer_write %[[ROW]], {{.*}} : vector<32xf32>, tensor<8x32xf32>
// CHECK: scf.forall
// CHECK-COUNT-128: vector.shuffle {{.*}} : vector<16xi32>, vector<16xi32>
// CHECK: vector.shuffle {{.*}} [0, 2, 4, 6, {{.*}}, 62] : vector<32xi16>, vector<32xi16>
// CHECK: vector.transfer_write {{.*}} : vector<32xf16>, tensor<32x32xf16>
// CHECK: vector.shuffle {{.*}} [1, 3, 5, 7, {{.*}}, 63] : vector<32xi16>, vector<32xi16>
func.func @others(%w: tensor<2x8x64xf32>, %e: tensor<2x2x8x32xf32>, %v: tensor<2x64x32xf16>, %f: tensor<2x2x32x32xf16>)
    -> (tensor<2x2x8x32xf32>, tensor<2x2x32x32xf16>) {
  %p = linalg.pack %w outer_dims_perm = [0, 2, 1] inner_dims_pos = [2] inner_tiles = [32] into %e
      : tensor<2x8x64xf32> -> tensor<2x2x8x32xf32>
  %q = linalg.pack %v inner_dims_pos = [1] inner_tiles = [32] into %f : tensor<2x64x32xf16> -> tensor<2x2x32x32xf16>
  return %p, %q : tensor<2x2x8x32xf32>, tensor<2x2x32x32xf16>
}

// Another layout, padding or type, and sizes that are not known.
// CHECK-LABEL: func.func @declined(
// CHECK-COUNT-5: linalg.pack
// CHECK-NOT: vector.
func.func @declined(%w: tensor<4x64x8xf32>, %e: tensor<4x4x8x16xf32>, %f: tensor<4x2x8x32xf32>, %v: tensor<4x?x8xf32>,
    %g: tensor<4x?x8x32xf32>, %i: tensor<4x64x8xi32>, %h: tensor<4x2x8x32xi32>, %m: tensor<64x8xf32>, %n: tensor<2x8x32xf32>)
    -> (tensor<4x4x8x16xf32>, tensor<4x2x8x32xf32>, tensor<4x?x8x32xf32>, tensor<4x2x8x32xi32>, tensor<2x8x32xf32>) {
  %one = arith.constant 1.0 : f32
  %zero = arith.constant 0.0 : f32
  %p = linalg.pack %w inner_dims_pos = [1] inner_tiles = [16] into %e : tensor<4x64x8xf32> -> tensor<4x4x8x16xf32>
  %q = linalg.pack %w padding_value(%one : f32) inner_dims_pos = [1] inner_tiles = [32] into %f
      : tensor<4x64x8xf32> -> tensor<4x2x8x32xf32>
  %r = linalg.pack %v padding_value(%zero : f32) inner_dims_pos = [1] inner_tiles = [32] into %g
      : tensor<4x?x8xf32> -> tensor<4x?x8x32xf32>
  %s = linalg.pack %i inner_dims_pos = [1] inner_tiles = [32] into %h : tensor<4x64x8xi32> -> tensor<4x2x8x32xi32>
  %t = linalg.pack %m inner_dims_pos = [0] inner_tiles = [32] into %n : tensor<64x8xf32> -> tensor<2x8x32xf32>
  return %p, %q, %r, %s, %t
      : tensor<4x4x8x16xf32>, tensor<4x2x8x32xf32>, tensor<4x?x8x32xf32>, tensor<4x2x8x32xi32>, tensor<2x8x32xf32>
}
