// RUN: moe-opt %s --moe-plan-to-loops --split-input-file | FileCheck %s

// Chunks are 256 tokens, or as many more as 32 chunks need.
// CHECK-LABEL: func @plan
// CHECK-SAME: %[[IDS:.*]]: memref<?x8xi32>, %[[OFFSETS:.*]]: memref<65xi32>, %[[SLOTS:.*]]: memref<?x8xi32>, %[[SOURCE:.*]]: memref<?xi32>
// CHECK: %[[T:.*]] = memref.dim %[[IDS]], %c0
// CHECK: %[[BLOCKS:.*]] = arith.ceildivui %[[T]], %c8192
// CHECK: %[[SIZE:.*]] = arith.muli %[[BLOCKS]], %c256
// CHECK: %[[BLOCKS:.*]] = arith.ceildivui %[[T]], %c256
// CHECK: %[[MOST:.*]] = arith.minui %[[BLOCKS]], %c32
// CHECK: %[[COUNTS:.*]] = memref.alloc(%[[MOST]]) {alignment = 64 : i64} : memref<?x64xi32>
// Counts of each chunk.
// CHECK: scf.parallel (%[[CHUNK:.*]]) =
// CHECK: arith.cmpi ult
// CHECK: memref.load %[[COUNTS]][%[[CHUNK]], %{{.*}}]
// CHECK: memref.store %{{.*}}, %[[COUNTS]][%[[CHUNK]], %{{.*}}]
// The scan: experts outside, chunks inside.
// CHECK: scf.for %[[E:.*]] = {{.*}} iter_args
// CHECK: memref.store %{{.*}}, %[[OFFSETS]][%[[E]]]
// CHECK: scf.for %[[C:.*]] = {{.*}} iter_args
// CHECK: memref.load %[[COUNTS]][%[[C]], %[[E]]]
// CHECK: memref.store %{{.*}}, %[[COUNTS]][%[[C]], %[[E]]]
// Rows of each chunk.
// CHECK: scf.parallel
// CHECK: memref.store %{{.*}}, %[[SLOTS]]
// CHECK: memref.store %{{.*}}, %[[SOURCE]]
// What no choice has.
// CHECK: scf.for
// CHECK: memref.store %{{.*}}, %[[SOURCE]]
// CHECK-NOT: moe.plan
func.func @plan(%ids: memref<?x8xi32>, %o: memref<65xi32>, %s: memref<?x8xi32>, %r: memref<?xi32>) {
  moe.plan ids(%ids : memref<?x8xi32>) outs(%o, %s, %r : memref<65xi32>, memref<?x8xi32>, memref<?xi32>)
      {moe.lowering_config = #moe.cpu_routing<block_tokens = 256>}
  return
}

// -----

// E may be unknown.
// CHECK-LABEL: func @any_experts
// CHECK: memref.alloc(%{{.*}}, %{{.*}}) {alignment = 64 : i64} : memref<?x?xi32>
func.func @any_experts(%ids: memref<?x?xi32>, %o: memref<?xi32>, %s: memref<?x?xi32>, %r: memref<?xi32>) {
  moe.plan ids(%ids : memref<?x?xi32>) outs(%o, %s, %r : memref<?xi32>, memref<?x?xi32>, memref<?xi32>)
      {moe.lowering_config = #moe.cpu_routing<block_tokens = 256>}
  return
}

// -----

// Without a decision the plan stays.
// CHECK-LABEL: func @undecided
// CHECK: moe.plan
func.func @undecided(%ids: memref<?x8xi32>, %o: memref<65xi32>, %s: memref<?x8xi32>, %r: memref<?xi32>) {
  moe.plan ids(%ids : memref<?x8xi32>) outs(%o, %s, %r : memref<65xi32>, memref<?x8xi32>, memref<?xi32>)
  return
}
