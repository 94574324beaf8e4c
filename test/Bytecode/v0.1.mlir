// What release 0.1 wrote is read by every later one. Written by scripts/freeze-bytecode; never
// changed.

// RUN: moe-opt %S/v0.1.mlirbc | FileCheck %s

// CHECK-LABEL: func @gate
func.func @gate(%l: tensor<?x8xf32>, %b: tensor<8xf32>, %m: tensor<?x8xf32>, %w: tensor<?x2xf32>,
                %i: tensor<?x2xi32>) {
  // CHECK: moe.gate score(softmax) ins(%arg0 : tensor<?x8xf32>) outs(%arg3, %arg4 : tensor<?x2xf32>, tensor<?x2xi32>){{$}}
  %0:2 = moe.gate score(softmax)
      ins(%l : tensor<?x8xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  // CHECK: moe.gate score(softmax) scope(selected) renormalize<> ins
  %1:2 = moe.gate score(softmax) scope(selected) renormalize<>
      ins(%l : tensor<?x8xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  // CHECK: moe.gate score(sigmoid) select_on(logits) groups<count = 4, keep = 3> renormalize<eps = 1.250000e-01 : f32> scale(2.500000e+00) ins
  %2:2 = moe.gate score(sigmoid) select_on(logits) groups<count = 4, keep = 3>
      renormalize<eps = 0.125 : f32> scale(2.5)
      ins(%l : tensor<?x8xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  // CHECK: moe.gate score(sqrt_softplus) groups<count = 2, keep = 1, score = top2_sum, mask = zero> renormalize<eps = 2.500000e-01 : f32, mode = clamp> ins
  %3:2 = moe.gate score(sqrt_softplus) groups<count = 2, keep = 1, score = top2_sum, mask = zero>
      renormalize<eps = 0.25 : f32, mode = clamp>
      ins(%l : tensor<?x8xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  // CHECK: moe.gate score(none) ins(%arg0 : tensor<?x8xf32>) bias(%arg1 : tensor<8xf32>) mix(%arg2 : tensor<?x8xf32>) outs
  %4:2 = moe.gate score(none) ins(%l : tensor<?x8xf32>) bias(%b : tensor<8xf32>)
      mix(%m : tensor<?x8xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  return
}

// CHECK-LABEL: func @dispatch
func.func @dispatch(%c: index, %n: index, %ids: tensor<?x2xi32>, %p: tensor<?x2xf32>, %x: tensor<?x8xf32>,
                    %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?x8xf32>, %rp: tensor<?xf32>) {
  // CHECK: moe.dispatch in_bounds ids(%arg2 : tensor<?x2xi32>) tokens(%arg4 : tensor<?x8xf32>) choices(%arg3 : tensor<?x2xf32>) outs
  %0:4 = moe.dispatch in_bounds ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xf32>)
      choices(%p : tensor<?x2xf32>)
      outs(%o, %s, %r, %rp : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>, tensor<?xf32>)
  // CHECK: moe.dispatch ids(%arg2 : tensor<?x2xi32>) capacity(%arg0) outs
  %1:2 = moe.dispatch ids(%ids : tensor<?x2xi32>) capacity(%c) order(token_major)
      outs(%o, %s : tensor<5xi32>, tensor<?x2xi32>)
  // CHECK: moe.dispatch ids(%arg2 : tensor<?x2xi32>) capacity(%arg0) order(choice_major) priority(%arg3 : tensor<?x2xf32>) tokens_per_group(%arg1) outs
  %2:2 = moe.dispatch ids(%ids : tensor<?x2xi32>) capacity(%c) order(choice_major)
      priority(%p : tensor<?x2xf32>) tokens_per_group(%n)
      outs(%o, %s : tensor<5xi32>, tensor<?x2xi32>)
  return
}

// CHECK-LABEL: func @plan
func.func @plan(%c: index, %n: index, %ids: tensor<?x2xi32>, %p: tensor<?x2xf32>, %o: tensor<5xi32>,
                %s: tensor<?x2xi32>, %source: tensor<?xi32>) {
  // CHECK: moe.plan ids(%arg2 : tensor<?x2xi32>) outs
  %0:3 = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o, %s, %source : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  // CHECK: moe.plan ids(%arg2 : tensor<?x2xi32>) capacity(%arg0) order(choice_major) priority(%arg3 : tensor<?x2xf32>) tokens_per_group(%arg1) outs
  %1:3 = moe.plan ids(%ids : tensor<?x2xi32>) capacity(%c) order(choice_major)
      priority(%p : tensor<?x2xf32>) tokens_per_group(%n)
      outs(%o, %s, %source : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return
}

// CHECK-LABEL: func @expert_and_combine
func.func @expert_and_combine(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %s: tensor<?x2xi32>,
                              %k: tensor<?x2xf32>, %y: tensor<?x8xf32>) {
  // CHECK: moe.expert offsets(%arg0 : tensor<5xi32>) rows(%arg1 : tensor<?x8xf32>) params(%arg2 : tensor<4x8xf32>) outs(%arg1, %arg2 : tensor<?x8xf32>, tensor<4x8xf32>) {
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %[[X:.*]]: tensor<?x8xf32>, %[[W:.*]]: tensor<8xf32>):
  // CHECK-NEXT: moe.yield %[[X]], %[[W]] : tensor<?x8xf32>, tensor<8xf32>
  %0:2 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>) params(%w : tensor<4x8xf32>)
      outs(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>, %we: tensor<8xf32>):
    moe.yield %xe, %we : tensor<?x8xf32>, tensor<8xf32>
  }
  // CHECK: moe.combine rows(%{{[a-z0-9_]+}} : tensor<?x8xf32>) slots(%arg3 : tensor<?x2xi32>) weights(%arg4 : tensor<?x2xf32>) base(%arg1 : tensor<?x8xf32>) outs(%arg5 : tensor<?x8xf32>)
  %1 = moe.combine rows(%0#0 : tensor<?x8xf32>) slots(%s : tensor<?x2xi32>)
      weights(%k : tensor<?x2xf32>) base(%x : tensor<?x8xf32>) outs(%y : tensor<?x8xf32>)
  return
}

// The attributes by themselves.
// CHECK-LABEL: func private @attributes
// CHECK-SAME: test.order = #moe<capacity_order choice_major>
// CHECK-SAME: test.score = #moe<score none>
func.func private @attributes() attributes {
  test.score = #moe<score none>, test.order = #moe<capacity_order choice_major>}

// CHECK-LABEL: func private @tensor_names
// CHECK-SAME: (tensor<?x8xf32> {moe.name = "x", moe.param = "p.{expert}.weight"}) -> (tensor<?x8xf32> {moe.name = "y"})
func.func private @tensor_names(tensor<?x8xf32> {moe.name = "x", moe.param = "p.{expert}.weight"})
    -> (tensor<?x8xf32> {moe.name = "y"})
