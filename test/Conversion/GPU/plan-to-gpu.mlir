// RUN: moe-opt %s --moe-lower-to-gpu --canonicalize --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-lower-to-gpu --split-input-file --remarks-filter-missed='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=MISSED

// A block for 8192 choices, at most 64; what several blocks count is shared in memory of its own.

// CHECK: func.func @many
// CHECK:      %[[TOKENS:.*]] = memref.dim %arg0, %c0
// CHECK:      %[[CHOICES:.*]] = arith.muli %[[TOKENS]], %c8
// CHECK:      memref.alloc() : memref<64x64xi32>
// CHECK:      %[[FULL:.*]] = arith.divui %{{.*}}, %c8192
// CHECK:      %[[ONE:.*]] = arith.maxsi %[[FULL]], %c1
// CHECK:      %[[BLOCKS:.*]] = arith.minsi %[[ONE]], %c64
// CHECK:      %[[SEVERAL:.*]] = arith.cmpi ugt, %[[BLOCKS]], %c1
// CHECK:      scf.if %[[SEVERAL]]
// CHECK:        gpu.launch_func @moe_kernels::@many_plan_count blocks in (%[[BLOCKS]],
// CHECK:      gpu.launch_func @moe_kernels::@many_plan blocks in (%[[BLOCKS]],
// CHECK-NOT:  moe.plan
func.func @many(%ids: memref<?x8xi32>, %o: memref<65xi32>, %s: memref<?x8xi32>, %r: memref<?xi32>) {
  moe.plan ids(%ids : memref<?x8xi32>) outs(%o, %s, %r : memref<65xi32>, memref<?x8xi32>, memref<?xi32>)
  return
}

// -----

// Few tokens need one block and no other kernel.

// CHECK: func.func @few
// CHECK-NOT: memref.alloc
// CHECK: gpu.launch_func @moe_kernels::@few_plan blocks in (%c1, %c1, %c1)
// CHECK-NOT: gpu.launch_func
func.func @few(%ids: memref<16x8xi32>, %o: memref<65xi32>, %s: memref<16x8xi32>, %r: memref<128xi32>) {
  moe.plan ids(%ids : memref<16x8xi32>) outs(%o, %s, %r : memref<65xi32>, memref<16x8xi32>, memref<128xi32>)
  return
}

// -----

// With a capacity, a block for each group of tokens marks what is kept.

// CHECK: func.func @capped
// CHECK: %[[SIZE:.*]] = arith.minsi %arg5, %c16
// CHECK: arith.maxsi %[[SIZE]], %c1
// CHECK: gpu.launch_func @moe_kernels::@capped_plan_mark
// CHECK: gpu.launch_func @moe_kernels::@capped_plan blocks
func.func @capped(%ids: memref<16x8xi32>, %o: memref<65xi32>, %s: memref<16x8xi32>, %r: memref<128xi32>, %c: index, %g: index) {
  moe.plan ids(%ids : memref<16x8xi32>) capacity(%c) order(choice_major) tokens_per_group(%g)
      outs(%o, %s, %r : memref<65xi32>, memref<16x8xi32>, memref<128xi32>)
  return
}

// -----

// MISSED: a kernel takes E and k as constants; make offsets and the rows of ids static
// CHECK: func.func @dynamic
// CHECK: moe.plan
// CHECK-NOT: gpu.module
func.func @dynamic(%ids: memref<?x8xi32>, %o: memref<?xi32>, %s: memref<?x8xi32>, %r: memref<?xi32>) {
  moe.plan ids(%ids : memref<?x8xi32>) outs(%o, %s, %r : memref<?xi32>, memref<?x8xi32>, memref<?xi32>)
  return
}

// -----

// MISSED: counts of 3000 experts do not fit into 49152 bytes of shared memory; at most 2047 do
// CHECK: func.func @experts
// CHECK: moe.plan
func.func @experts(%ids: memref<?x8xi32>, %o: memref<3001xi32>, %s: memref<?x8xi32>, %r: memref<?xi32>) {
  moe.plan ids(%ids : memref<?x8xi32>) outs(%o, %s, %r : memref<3001xi32>, memref<?x8xi32>, memref<?xi32>)
  return
}
