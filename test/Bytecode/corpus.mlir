// Every op, every attribute, every case of every enumeration, in as few ops as that takes.
// scripts/freeze-bytecode turns this file into the corpus of the current version.

// RUN: moe-opt %s --emit-bytecode | moe-opt | FileCheck %s

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

// CHECK-LABEL: func @grouped_matmul
func.func @grouped_matmul(%o: tensor<5xi32>, %source: tensor<?xi32>, %x: tensor<?x8xbf16>,
                          %w: tensor<4x16x8xbf16>, %q: tensor<4x6x8xi8>, %qs: tensor<4x6xf32>, %b: tensor<4x6xf32>,
                          %s: tensor<?x2xi32>, %k: tensor<?x2xf32>, %y: tensor<?x6xf32>) {
  // CHECK: moe.grouped_matmul offsets(%arg0 : tensor<5xi32>) source(%arg1 : tensor<?xi32>) top_k(2)
  // CHECK-SAME: products(%arg2[t, k] * %arg3[e, n, k] + %arg2[t, k] * %arg3[e, n + 6, k], %arg2[t, k] * decode(%arg4[e, n, k], %arg5[e, n]) :
  // CHECK-SAME: extras(%arg6[e, n], %arg8[t, j] : tensor<4x6xf32>, tensor<?x2xf32>)
  // CHECK-SAME: combine(%arg7 : tensor<?x2xi32>, %arg8 : tensor<?x2xf32>) base(%arg9 : tensor<?x6xf32>) outs(%arg9 : tensor<?x6xf32>)
  // CHECK: moe.yield %{{.*}} : f32
  // CHECK: } decode {
  // CHECK: moe.yield %{{.*}} : f32
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] + %x[t, k] * %w[e, n + 6, k], %x[t, k] * decode(%q[e, n, k], %qs[e, n])
               : tensor<?x8xbf16>, tensor<4x16x8xbf16>, tensor<?x8xbf16>, tensor<4x16x8xbf16>,
                 tensor<?x8xbf16>, tensor<4x6x8xi8>, tensor<4x6xf32>)
      extras(%b[e, n], %k[t, j] : tensor<4x6xf32>, tensor<?x2xf32>)
      combine(%s : tensor<?x2xi32>, %k : tensor<?x2xf32>) base(%y : tensor<?x6xf32>)
      outs(%y : tensor<?x6xf32>) {
  ^bb0(%p: f32, %d: f32, %eb: f32, %ek: f32):
    %sum = arith.addf %p, %d : f32
    moe.yield %sum : f32
  } decode {
  ^bb0(%n: index, %l: index, %stored: i8, %scale: f32):
    %value = arith.sitofp %stored : i8 to f32
    moe.yield %value : f32
  }
  return
}

// CHECK-LABEL: func @route
func.func @route(%c: index, %n: index, %x: tensor<?x16xbf16>, %g: tensor<16x8xf16>, %h: tensor<8x16xf32>,
                 %b: tensor<8xf32>, %map: tensor<8xi32>, %v: tensor<?x2xbf16>, %w: tensor<?x2xf32>,
                 %i: tensor<?x2xi32>, %o: tensor<9xi32>, %r: tensor<?xi32>) {
  // CHECK: moe.route score(softmax) router(%arg2[t, k] * %arg4[e, k] : tensor<?x16xbf16>, tensor<8x16xf32>) outs({{.*}}){{$}}
  %0:5 = moe.route score(softmax) router(%x[t, k] * %h[e, k] : tensor<?x16xbf16>, tensor<8x16xf32>)
      outs(%w, %i, %o, %i, %r : tensor<?x2xf32>, tensor<?x2xi32>, tensor<9xi32>, tensor<?x2xi32>, tensor<?xi32>)
  // CHECK: moe.route score(sigmoid) select_on(logits) groups<count = 4, keep = 3> renormalize<> scale(2.500000e+00)
  // CHECK-SAME: router(%arg2[t, k] * %arg3[k, e] : tensor<?x16xbf16>, tensor<16x8xf16>) extras(%arg5[e] : tensor<8xf32>) bias(%arg5 : tensor<8xf32>)
  // CHECK-SAME: weight_extras(%arg5[e], %arg8[t, j] : tensor<8xf32>, tensor<?x2xf32>) id_map(%arg6 : tensor<8xi32>) capacity(%arg0) order(choice_major) tokens_per_group(%arg1)
  // CHECK: moe.yield %{{.*}}, %{{.*}} : f32, f32
  // CHECK: } weights {
  // CHECK: moe.yield %{{.*}} : bf16
  %1:5 = moe.route score(sigmoid) select_on(logits) groups<count = 4, keep = 3> renormalize<> scale(2.5)
      router(%x[t, k] * %g[k, e] : tensor<?x16xbf16>, tensor<16x8xf16>) extras(%b[e] : tensor<8xf32>)
      bias(%b : tensor<8xf32>) weight_extras(%b[e], %w[t, j] : tensor<8xf32>, tensor<?x2xf32>)
      id_map(%map : tensor<8xi32>) capacity(%c) order(choice_major) tokens_per_group(%n)
      outs(%v, %i, %o, %i, %r : tensor<?x2xbf16>, tensor<?x2xi32>, tensor<9xi32>, tensor<?x2xi32>, tensor<?xi32>)
      logits {
  ^bb0(%sum: f32, %eb: f32):
    %logit = arith.addf %sum, %eb : f32
    moe.yield %logit, %sum : f32, f32
  } weights {
  ^bb0(%weight: f32, %es: f32, %ew: f32):
    %scaled = arith.mulf %weight, %es : f32
    %stored = arith.truncf %scaled : f32 to bf16
    moe.yield %stored : bf16
  }
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

// CHECK-LABEL: func private @lowering_configs
// CHECK-SAME: test.amx = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 2048, lanes = 16, kernel = amx>
// CHECK-SAME: test.bf16 = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 48, block_sum = 2048, lanes = 16, kernel = bf16_dot>
// CHECK-SAME: test.f32 = #moe.cpu_matmul<tile_rows = 3, tile_columns = 4, block_rows = 126, block_columns = 32, block_sum = 512, lanes = 8>
// CHECK-SAME: test.gate = #moe.cpu_routing<block_tokens = 32>
// CHECK-SAME: test.mma = #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>
// CHECK-SAME: test.mma_permuted = #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4, permuted = true>
// CHECK-SAME: test.wgmma = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64, groups = 2, stages = 4>
// CHECK-SAME: test.wgmma_permuted = #moe.gpu_wgmma<tile_rows = 16, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4, swapped = true, permuted = true>
func.func private @lowering_configs() attributes {
  test.amx = #moe.cpu_matmul<tile_rows = 16, tile_columns = 16, block_rows = 64, block_columns = 64, block_sum = 2048, lanes = 16, kernel = amx>,
  test.bf16 = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128, block_columns = 48, block_sum = 2048, lanes = 16, kernel = bf16_dot>,
  test.f32 = #moe.cpu_matmul<tile_rows = 3, tile_columns = 4, block_rows = 126, block_columns = 32, block_sum = 512, lanes = 8>,
  test.gate = #moe.cpu_routing<block_tokens = 32>,
  test.mma = #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>,
  test.mma_permuted = #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4, permuted = true>,
  test.wgmma = #moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64, groups = 2, stages = 4>,
  test.wgmma_permuted = #moe.gpu_wgmma<tile_rows = 16, tile_columns = 128, tile_sum = 64, groups = 2, stages = 4, swapped = true, permuted = true>}

// CHECK-LABEL: func private @tensor_names
// CHECK-SAME: (tensor<?x8xf32> {moe.name = "x", moe.param = "p.{expert}.weight"}) -> (tensor<?x8xf32> {moe.name = "y"})
func.func private @tensor_names(tensor<?x8xf32> {moe.name = "x", moe.param = "p.{expert}.weight"})
    -> (tensor<?x8xf32> {moe.name = "y"})
