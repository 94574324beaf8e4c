// Gate, dispatch and combine bufferize as they are, in place on their destinations. A copy is
// made only where the old value of a destination is needed afterwards.

// RUN: moe-opt %s --one-shot-bufferize="bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map" \
// RUN:     --split-input-file --verify-diagnostics | FileCheck %s

// CHECK-LABEL: func @gate
func.func @gate(%l: tensor<16x4xf32>, %b: tensor<4xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>)
    -> (tensor<16x2xf32>, tensor<16x2xi32>) {
  // CHECK-NEXT: moe.gate score(sigmoid) renormalize<> ins(%arg0 : memref<16x4xf32>) bias(%arg1 : memref<4xf32>)
  // CHECK-SAME: outs(%arg2, %arg3 : memref<16x2xf32>, memref<16x2xi32>) {test.note = "kept"}
  // CHECK-NEXT: return %arg2, %arg3
  %0:2 = moe.gate score(sigmoid) renormalize<> ins(%l : tensor<16x4xf32>) bias(%b : tensor<4xf32>)
      outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>) {test.note = "kept"}
  return %0#0, %0#1 : tensor<16x2xf32>, tensor<16x2xi32>
}

// -----
// CHECK-LABEL: func @plan
func.func @plan(%ids: tensor<16x2xi32>, %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>)
    -> (tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>) {
  // CHECK-NEXT: moe.plan ids(%arg0 : memref<16x2xi32>)
  // CHECK-SAME: outs(%arg1, %arg2, %arg3 : memref<5xi32>, memref<16x2xi32>, memref<32xi32>)
  // CHECK-NEXT: return %arg1, %arg2, %arg3
  %0:3 = moe.plan ids(%ids : tensor<16x2xi32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>)
  return %0#0, %0#1, %0#2 : tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>
}

// -----
// CHECK-LABEL: func @dispatch
func.func @dispatch(%c: index, %ids: tensor<16x2xi32>, %x: tensor<16x8xf32>, %o: tensor<5xi32>,
                    %s: tensor<16x2xi32>, %r: tensor<32x8xf32>)
    -> (tensor<5xi32>, tensor<16x2xi32>, tensor<32x8xf32>) {
  // CHECK-NEXT: moe.dispatch ids(%arg1 : memref<16x2xi32>) tokens(%arg2 : memref<16x8xf32>) capacity(%arg0) order(choice_major)
  // CHECK-SAME: outs(%arg3, %arg4, %arg5 : memref<5xi32>, memref<16x2xi32>, memref<32x8xf32>)
  // CHECK-NEXT: return %arg3, %arg4, %arg5
  %0:3 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<16x8xf32>) capacity(%c) order(choice_major)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32x8xf32>)
  return %0#0, %0#1, %0#2 : tensor<5xi32>, tensor<16x2xi32>, tensor<32x8xf32>
}

// -----
// The old row value is used later: its tail is part of the new one, so it is copied. The old
// slots are used as well, but all of them are overwritten: no copy.
// CHECK-LABEL: func @dispatch_into_what_is_used_later
func.func @dispatch_into_what_is_used_later(%ids: tensor<16x2xi32>, %x: tensor<16x8xf32>, %o: tensor<5xi32>,
                                            %s: tensor<16x2xi32>, %r: tensor<32x8xf32>)
    -> (tensor<16x2xi32>, tensor<32x8xf32>, tensor<16x2xi32>, tensor<32x8xf32>) {
  // CHECK-DAG: %[[R:.*]] = memref.alloc() {{.*}} : memref<32x8xf32>
  // CHECK-DAG: %[[S:.*]] = memref.alloc() {{.*}} : memref<16x2xi32>
  // CHECK-NOT: memref.copy %arg3
  // CHECK: memref.copy %arg4, %[[R]]
  // CHECK-NOT: memref.copy
  // CHECK: moe.dispatch {{.*}} outs(%arg2, %[[S]], %[[R]] :
  %0:3 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<16x8xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<16x2xi32>, tensor<32x8xf32>)
  return %0#1, %0#2, %s, %r : tensor<16x2xi32>, tensor<32x8xf32>, tensor<16x2xi32>, tensor<32x8xf32>
}

// -----
// CHECK-LABEL: func @combine
func.func @combine(%r: tensor<32x8xf32>, %s: tensor<16x2xi32>, %w: tensor<16x2xf32>, %b: tensor<16x8xf32>,
                   %y: tensor<16x8xf32>) -> tensor<16x8xf32> {
  // CHECK-NEXT: moe.combine rows(%arg0 : memref<32x8xf32>) slots(%arg1 : memref<16x2xi32>) weights(%arg2 : memref<16x2xf32>)
  // CHECK-SAME: base(%arg3 : memref<16x8xf32>) outs(%arg4 : memref<16x8xf32>)
  // CHECK-NEXT: return %arg4
  %0 = moe.combine rows(%r : tensor<32x8xf32>) slots(%s : tensor<16x2xi32>) weights(%w : tensor<16x2xf32>)
      base(%b : tensor<16x8xf32>) outs(%y : tensor<16x8xf32>)
  return %0 : tensor<16x8xf32>
}

// -----
func.func @expert(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %y: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+2 {{works on tensors only; run moe-decompose before bufferization}}
  // expected-error @+1 {{failed to bufferize op}}
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>) outs(%y : tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>):
    moe.yield %xe : tensor<?x8xf32>
  }
  return %0 : tensor<?x8xf32>
}
