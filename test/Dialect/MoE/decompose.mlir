// Each op becomes loops over upstream dialects; what they compute is checked by running them
// (test/Integration). The pass nests anywhere, and touches nothing else.

// RUN: moe-opt %s --allow-unregistered-dialect --moe-decompose --canonicalize | FileCheck %s
// RUN: moe-opt %s --allow-unregistered-dialect --pass-pipeline='any(moe-decompose)' \
// RUN:     | FileCheck %s --check-prefix=NESTED
// RUN: moe-opt %s --allow-unregistered-dialect --pass-pipeline='builtin.module(func.func(moe-decompose))' \
// RUN:     | FileCheck %s --check-prefix=NESTED
// RUN: moe-opt %s --allow-unregistered-dialect --pass-pipeline='builtin.module(any(moe-decompose))' \
// RUN:     | FileCheck %s --check-prefix=NESTED

// The results are carried from the destinations, so that bufferization finds them in place.
// CHECK-LABEL: func @gate
// NESTED-LABEL: func @gate
func.func @gate(%l: tensor<?x4xf32>, %b: tensor<4xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>) {
  // CHECK-NOT: moe.
  // CHECK: %[[R:.*]]:2 = scf.for {{.*}} iter_args(%{{.*}} = %arg2, %{{.*}} = %arg3) -> (tensor<?x2xf32>, tensor<?x2xi32>)
  // CHECK-NOT: moe.
  // CHECK: return %[[R]]#0, %[[R]]#1
  // NESTED-NOT: moe.
  %0:2 = moe.gate score(softmax) ins(%l : tensor<?x4xf32>) bias(%b : tensor<4xf32>)
      outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  return %0#0, %0#1 : tensor<?x2xf32>, tensor<?x2xi32>
}

// CHECK-LABEL: func @dispatch
// NESTED-LABEL: func @dispatch
func.func @dispatch(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>,
                    %r: tensor<?x8xf32>) -> (tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>) {
  // Counting: the offsets start as zeros.
  // CHECK-NOT: moe.
  // CHECK: %[[ZEROS:.*]] = linalg.fill ins(%{{.*}} : i32) outs(%arg2 : tensor<5xi32>)
  // CHECK: scf.for {{.*}} iter_args(%{{.*}} = %[[ZEROS]])
  // Placing: slots and rows are carried from the destinations.
  // CHECK: scf.for {{.*}} iter_args(%{{.*}} = %{{.*}}, %{{.*}} = %arg3, %{{.*}} = %arg4)
  // CHECK-NOT: moe.
  // CHECK: return
  // NESTED-NOT: moe.
  %0:3 = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
  return %0#0, %0#1, %0#2 : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>
}

// CHECK-LABEL: func @plan
// NESTED-LABEL: func @plan
func.func @plan(%ids: tensor<?x2xi32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?xi32>)
    -> (tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // Rows that no choice gets have no source.
  // CHECK-NOT: moe.
  // CHECK: %[[NONE:.*]] = linalg.fill ins(%c-1_i32 : i32) outs(%arg3 : tensor<?xi32>)
  // CHECK: scf.for {{.*}} iter_args(%{{.*}} = %{{.*}}, %{{.*}} = %arg2, %{{.*}} = %[[NONE]])
  // CHECK-NOT: moe.
  // CHECK: return
  // NESTED-NOT: moe.
  %0:3 = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %0#0, %0#1, %0#2 : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// An expert without rows costs two loads: no slice is taken outside of the branch.
// CHECK-LABEL: func @expert
// NESTED-LABEL: func @expert
func.func @expert(%o: tensor<?xi32>, %x: tensor<?x8xf32>, %w: tensor<?x8xf32>, %y: tensor<?x8xf32>,
                  %dw: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  // CHECK: scf.for %[[E:.*]] = {{.*}} iter_args(%[[YE:.*]] = %arg3, %[[DE:.*]] = %arg4)
  // CHECK-NOT: slice
  // CHECK: tensor.extract %arg0[%[[E]]]
  // CHECK-NOT: slice
  // CHECK: tensor.extract %arg0
  // CHECK-NOT: slice
  // CHECK: %[[NONEMPTY:.*]] = arith.cmpi slt
  // CHECK-NOT: slice
  // CHECK: scf.if %[[NONEMPTY]]
  // CHECK: %[[XE:.*]] = tensor.extract_slice %arg1
  // CHECK: %[[WE:.*]] = tensor.extract_slice %arg2[%[[E]], 0] [1, 8] [1, 1]
  // CHECK: %[[NEG:.*]] = arith.negf %[[XE]]
  // CHECK: tensor.insert_slice %[[NEG]] into %[[YE]]
  // CHECK: tensor.insert_slice %[[WE]] into %[[DE]][%[[E]], 0] [1, 8] [1, 1]
  // CHECK: } else {
  // CHECK-NEXT: scf.yield %[[YE]], %[[DE]]
  // NESTED-NOT: moe.
  %0:2 = moe.expert offsets(%o : tensor<?xi32>) rows(%x : tensor<?x8xf32>) params(%w : tensor<?x8xf32>)
      outs(%y, %dw : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>, %we: tensor<8xf32>):
    %neg = arith.negf %xe : tensor<?x8xf32>
    moe.yield %neg, %we : tensor<?x8xf32>, tensor<8xf32>
  }
  return %0#0, %0#1 : tensor<?x8xf32>, tensor<?x8xf32>
}

// One fused multiply-add a row, in f32, and one rounding at the end.
// CHECK-LABEL: func @combine
// NESTED-LABEL: func @combine
func.func @combine(%r: tensor<?x8xbf16>, %s: tensor<?x2xi32>, %w: tensor<?x2xf32>, %b: tensor<?x8xbf16>,
                   %y: tensor<?x8xbf16>) -> tensor<?x8xbf16> {
  // CHECK: scf.for {{.*}} iter_args(%{{.*}} = %arg4) -> (tensor<?x8xbf16>)
  // CHECK: linalg.fill {{.*}} -> tensor<8xf32>
  // CHECK: math.fma {{.*}} : f32
  // CHECK: arith.addf {{.*}} : f32
  // CHECK-NEXT: arith.truncf {{.*}} : f32 to bf16
  // CHECK-NOT: truncf
  // NESTED-NOT: moe.
  %0 = moe.combine rows(%r : tensor<?x8xbf16>) slots(%s : tensor<?x2xi32>) weights(%w : tensor<?x2xf32>)
      base(%b : tensor<?x8xbf16>) outs(%y : tensor<?x8xbf16>)
  return %0 : tensor<?x8xbf16>
}

// Memrefs are seen as tensors, and the results stored where they belong.
// CHECK-LABEL: func @memref
// NESTED-LABEL: func @memref
func.func @memref(%l: memref<16x4xf32>, %w: memref<16x2xf32>, %i: memref<16x2xi32>) {
  // Logits are only read.
  // CHECK-DAG: bufferization.to_tensor %arg0 restrict :
  // CHECK-DAG: bufferization.to_tensor %arg1 restrict writable :
  // CHECK-DAG: bufferization.to_tensor %arg2 restrict writable :
  // CHECK: %[[R:.*]]:2 = scf.for
  // CHECK-DAG: bufferization.materialize_in_destination %[[R]]#0 in writable %arg1
  // CHECK-DAG: bufferization.materialize_in_destination %[[R]]#1 in writable %arg2
  // CHECK: return
  // NESTED-NOT: moe.
  moe.gate score(softmax) ins(%l : memref<16x4xf32>) outs(%w, %i : memref<16x2xf32>, memref<16x2xi32>)
  return
}

// An op in the body of an expert is decomposed with it.
// CHECK-LABEL: func @nested
// NESTED-LABEL: func @nested
func.func @nested(%o: tensor<5xi32>, %ids: tensor<?x2xi32>, %l: tensor<?x4xf32>) -> tensor<?x2xi32> {
  // CHECK-NOT: moe.
  // NESTED-NOT: moe.
  // CHECK: return
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%l : tensor<?x4xf32>) outs(%ids : tensor<?x2xi32>) {
  ^bb0(%e: index, %le: tensor<?x4xf32>):
    %c0 = arith.constant 0 : index
    %n = tensor.dim %le, %c0 : tensor<?x4xf32>
    %w = tensor.empty(%n) : tensor<?x2xf32>
    %i = tensor.empty(%n) : tensor<?x2xi32>
    %1:2 = moe.gate score(none) ins(%le : tensor<?x4xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
    moe.yield %1#1 : tensor<?x2xi32>
  }
  return %0 : tensor<?x2xi32>
}

// Nothing here is ours: not even what folds is touched.
// NESTED-LABEL: func @foreign
func.func @foreign(%x: tensor<4xf32>) -> index {
  // NESTED-NEXT: %[[A:.*]] = arith.constant 1 : index
  // NESTED-NEXT: %[[B:.*]] = arith.constant 1 : index
  // NESTED-NEXT: %[[S:.*]] = arith.addi %[[A]], %[[B]] : index
  // NESTED-NEXT: %{{.*}} = "host.op"(%arg0) ({
  // NESTED-NEXT: ^bb0(%{{.*}}: i32):
  // NESTED-NEXT:   "host.yield"() : () -> ()
  // NESTED-NEXT: }) {host.attr = #host.thing<"moe">} : (tensor<4xf32>) -> !host.type
  // NESTED-NEXT: return %[[S]]
  %a = arith.constant 1 : index
  %b = arith.constant 1 : index
  %s = arith.addi %a, %b : index
  %h = "host.op"(%x) ({
  ^bb0(%i: i32):
    "host.yield"() : () -> ()
  }) {host.attr = #host.thing<"moe">} : (tensor<4xf32>) -> !host.type
  return %s : index
}
