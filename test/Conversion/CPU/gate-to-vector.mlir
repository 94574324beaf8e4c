// RUN: moe-opt %s --moe-gate-to-vector --split-input-file | FileCheck %s

// OLMoE's gate: four vectors of experts, eight of their numbers.
// CHECK-LABEL: func @olmoe
// CHECK-SAME: %[[LOGITS:.*]]: memref<?x64xf32>, %[[WEIGHTS:.*]]: memref<?x8xf32>, %[[IDS:.*]]: memref<?x8xi32>
// CHECK: scf.parallel
// CHECK: %[[SCORES:.*]] = memref.alloca() {alignment = 64 : i64} : memref<64xf32>
// CHECK: scf.for %[[T:.*]] =
// CHECK-COUNT-4: vector.load %[[LOGITS]][%[[T]], %{{.*}}] : memref<?x64xf32>, vector<16xf32>
// The largest logit is in every lane after four steps.
// CHECK-COUNT-4: vector.shuffle {{.*}} : vector<16xf32>, vector<16xf32>
// One recipe of exp for each vector; sums by the fixed tree.
// CHECK-COUNT-4: arith.subf {{.*}} : vector<16xf32>
// CHECK: vector.shuffle {{.*}} [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]
// CHECK: vector.shuffle {{.*}} [4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11]
// CHECK-COUNT-4: vector.store {{.*}}, %[[SCORES]]
// A round: seven maxima of vectors and three of lanes; the taken number goes.
// CHECK: %[[CHOSEN:.*]]:9 = scf.for %[[J:.*]] = {{.*}} iter_args
// CHECK-COUNT-10: arith.maxsi {{.*}} : vector<8xi64>
// CHECK-NOT: arith.maxsi
// CHECK: memref.store %{{.*}}, %[[IDS]][%[[T]], %[[J]]]
// CHECK-COUNT-8: arith.cmpi eq, {{.*}} : vector<8xi64>
// CHECK: memref.load %[[SCORES]]
// CHECK: arith.select {{.*}} : vector<16xi1>, vector<16xf32>
// CHECK: scf.yield
// CHECK: vector.maskedstore %[[WEIGHTS]][%[[T]], %{{.*}}]
// CHECK-NOT: moe.gate
func.func @olmoe(%logits: memref<?x64xf32>, %weights: memref<?x8xf32>, %ids: memref<?x8xi32>) {
  moe.gate score(softmax) ins(%logits : memref<?x64xf32>) outs(%weights, %ids : memref<?x8xf32>, memref<?x8xi32>)
      {moe.lowering_config = #moe.cpu_routing<block_tokens = 32>}
  return
}

// -----

// Logits that are also the keys need no row on the stack; those that are strided are
// copied to one. Weights of a strided buffer are stored one by one.
// CHECK-LABEL: func @strided
// CHECK: memref.alloca() {{.*}} : memref<20xf32>
// CHECK-NOT: memref.alloca
// CHECK: scf.for
// CHECK: scf.for
// CHECK: memref.load
// CHECK: memref.store
// CHECK: vector.load
// CHECK: vector.maskedload
// CHECK: scf.for
// CHECK-COUNT-2: vector.extract {{.*}} : f32 from vector<16xf32>
func.func @strided(%logits: memref<?x20xf32, strided<[40, 2]>>, %weights: memref<?x2xf32, strided<[4, 2]>>,
                   %ids: memref<?x2xi32>) {
  moe.gate score(none) ins(%logits : memref<?x20xf32, strided<[40, 2]>>)
      outs(%weights, %ids : memref<?x2xf32, strided<[4, 2]>>, memref<?x2xi32>)
      {moe.lowering_config = #moe.cpu_routing<block_tokens = 32>}
  return
}

// -----

// Without a decision the gate stays.
// CHECK-LABEL: func @undecided
// CHECK: moe.gate
func.func @undecided(%logits: memref<?x64xf32>, %weights: memref<?x8xf32>, %ids: memref<?x8xi32>) {
  moe.gate score(softmax) ins(%logits : memref<?x64xf32>) outs(%weights, %ids : memref<?x8xf32>, memref<?x8xi32>)
  return
}
