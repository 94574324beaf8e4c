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
// Regions move along; what is read from above is a scalar.
// CHECK-LABEL: func @grouped_matmul
func.func @grouped_matmul(%scale: f32, %o: tensor<5xi32>, %s: tensor<32xi32>, %x: tensor<16x8xf32>,
                          %w: tensor<4x6x8xi8>, %b: tensor<4x6xf32>, %y: tensor<32x6xf32>)
    -> tensor<32x6xf32> {
  // CHECK-NEXT: moe.grouped_matmul offsets(%arg1 : memref<5xi32>) source(%arg2 : memref<32xi32>) top_k(2)
  // CHECK-SAME: products(prologue(%arg3[t, k]) * decode(%arg4[e, n, k]) : memref<16x8xf32>, memref<4x6x8xi8>)
  // CHECK-SAME: extras(%arg5[e, n] : memref<4x6xf32>) outs(%arg6 : memref<32x6xf32>)
  // CHECK-SAME: attributes {test.note = "kept"} {
  // CHECK-NEXT: ^bb0(%[[P:.*]]: f32, %[[B:.*]]: f32):
  // CHECK-NEXT:   %[[Z:.*]] = arith.addf %[[P]], %[[B]]
  // CHECK-NEXT:   moe.yield %[[Z]]
  // CHECK-NEXT: } prologue {
  // CHECK:        arith.subf %{{.*}}, %arg0
  // CHECK-NEXT:   moe.yield
  // CHECK-NEXT: } decode {
  // CHECK:        arith.mulf %{{.*}}, %arg0
  // CHECK-NEXT:   moe.yield
  // CHECK-NEXT: }
  // CHECK-NEXT: return %arg6
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%s : tensor<32xi32>) top_k(2)
      products(prologue(%x[t, k]) * decode(%w[e, n, k]) : tensor<16x8xf32>, tensor<4x6x8xi8>)
      extras(%b[e, n] : tensor<4x6xf32>) outs(%y : tensor<32x6xf32>) attributes {test.note = "kept"} {
  ^bb0(%p: f32, %be: f32):
    %z = arith.addf %p, %be : f32
    moe.yield %z : f32
  } prologue {
  ^bb0(%row: f32):
    %less = arith.subf %row, %scale : f32
    moe.yield %less : f32
  } decode {
  ^bb0(%n: index, %k: index, %q: i8):
    %v = arith.sitofp %q : i8 to f32
    %scaled = arith.mulf %v, %scale : f32
    moe.yield %scaled : f32
  }
  return %0 : tensor<32x6xf32>
}

// -----
// The old rows are used later: those that nobody owns are part of the new ones, so they are
// copied. The old tokens are used as well, but all of them are overwritten: no copy.
// CHECK-LABEL: func @grouped_matmul_into_what_is_used_later
func.func @grouped_matmul_into_what_is_used_later(
    %o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %s: tensor<16x2xi32>,
    %g: tensor<16x2xf32>, %y: tensor<32x6xf32>, %z: tensor<16x6xf32>)
    -> (tensor<32x6xf32>, tensor<16x6xf32>, tensor<32x6xf32>, tensor<16x6xf32>) {
  // CHECK: %[[Y:.*]] = memref.alloc() {{.*}} : memref<32x6xf32>
  // CHECK: memref.copy %arg5, %[[Y]]
  // CHECK: moe.grouped_matmul {{.*}} outs(%[[Y]] :
  // CHECK-NOT: memref.copy
  // CHECK: %[[Z:.*]] = memref.alloc() {{.*}} : memref<16x6xf32>
  // CHECK-NOT: memref.copy
  // CHECK: moe.grouped_matmul {{.*}} combine(%arg3 : memref<16x2xi32>, %arg4 : memref<16x2xf32>) outs(%[[Z]] :
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<32x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %1 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      combine(%s : tensor<16x2xi32>, %g : tensor<16x2xf32>) outs(%z : tensor<16x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %0, %1, %y, %z : tensor<32x6xf32>, tensor<16x6xf32>, tensor<32x6xf32>, tensor<16x6xf32>
}

// -----
// The destination is read by the op itself, in another order than it is written: a copy.
// CHECK-LABEL: func @grouped_matmul_of_its_destination
func.func @grouped_matmul_of_its_destination(%o: tensor<5xi32>, %w: tensor<4x8x8xf32>, %y: tensor<32x8xf32>)
    -> tensor<32x8xf32> {
  // CHECK: %[[Y:.*]] = memref.alloc() {{.*}} : memref<32x8xf32>
  // CHECK: memref.copy %arg2, %[[Y]]
  // CHECK: moe.grouped_matmul {{.*}} products(%arg2[m, k] * %arg1[e, n, k] : {{.*}} outs(%[[Y]] :
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%y[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x8x8xf32>) outs(%y : tensor<32x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %0 : tensor<32x8xf32>
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
