// RUN: moe-opt %s --moe-lower-to-gpu --canonicalize --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-lower-to-gpu --split-input-file --remarks-filter-missed='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=MISSED

// Logits have memory of their own; few tokens take another tile than many. Extras, scalars from above and
// T are parameters.

// CHECK: func.func @route(%[[X:.*]]: memref<?x64xbf16>,
// CHECK:     %[[TOKENS:.*]] = memref.dim %[[X]], %c0
// CHECK:     memref.alloc(%[[TOKENS]]) : memref<?x10xf32>
// CHECK:     %[[FEW:.*]] = arith.cmpi ule, %[[TOKENS]], %c16
// CHECK:     scf.if %[[FEW]]
// A warp has an expert of 4 tokens, a block 4 experts.
// CHECK:       %[[TILES:.*]] = arith.divui %{{.*}}, %c4
// CHECK:       arith.muli %[[TILES]], %c3
// CHECK:       gpu.launch_func @moe_kernels::@route_route_few_logits {{.*}} threads in (%c128
// CHECK:     else
// A warp has 4 experts of 8 tokens, a block 16 experts of 16 tokens.
// CHECK:       arith.divui %{{.*}}, %c16
// CHECK:       gpu.launch_func @moe_kernels::@route_route_logits {{.*}} threads in (%c256
// CHECK-SAME:    %{{.*}} : f32, %{{.*}} : i32)
// A warp a token.
// CHECK:     arith.divui %{{.*}}, %c4
// CHECK:     gpu.launch_func @moe_kernels::@route_route_select {{.*}} threads in (%c128
// CHECK:     gpu.launch_func @moe_kernels::@route_plan_count
// CHECK:     gpu.launch_func @moe_kernels::@route_plan blocks
// CHECK-NOT: moe.route

// CHECK: llvm.func @route_route_few_logits
// 8 products a piece for each of 4 tokens.
// CHECK: scf.for
// CHECK-COUNT-32: math.fma
// CHECK-NOT: math.fma
// Four sums and 32 lanes: 2 + 1 exchanges halve them, three more add the rest.
// CHECK-COUNT-6: nvvm.shfl.sync  bfly
// CHECK-NOT: nvvm.shfl.sync
// CHECK: arith.mulf
// The recipe of exp, not the device's.
// CHECK-NOT: math.exp
// CHECK: llvm.func @route_route_logits
// CHECK-COUNT-31: nvvm.shfl.sync  bfly
// CHECK: llvm.func @route_route_select
// CHECK: nvvm.redux.sync  max
// CHECK: nvvm.redux.sync  min
func.func @route(%x: memref<?x64xbf16>, %r: memref<10x64xbf16>, %b: memref<10xf32>, %c: f32, %w: memref<?x2xf32>, %i: memref<?x2xi32>, %o: memref<11xi32>, %s: memref<?x2xi32>, %q: memref<?xi32>) {
  moe.route score(softmax) router(%x[t, k] * %r[e, k] : memref<?x64xbf16>, memref<10x64xbf16>)
      extras(%b[e] : memref<10xf32>)
      outs(%w, %i, %o, %s, %q : memref<?x2xf32>, memref<?x2xi32>, memref<11xi32>, memref<?x2xi32>, memref<?xi32>)
      logits {
  ^bb0(%sum: f32, %bias: f32):
    %scaled = arith.mulf %sum, %c : f32
    %exp = math.exp %scaled : f32
    %logit = arith.addf %exp, %bias : f32
    moe.yield %logit : f32
  }
  return
}

// -----

// Static sizes leave one tile and one block.

// CHECK: func.func @static
// CHECK: memref.alloc() : memref<1x16xf32>
// CHECK: gpu.launch_func @moe_kernels::@static_route_logits blocks in (%c4, %c1, %c1) threads in (%c128
// CHECK: gpu.launch_func @moe_kernels::@static_route_select blocks in (%c1, %c1, %c1)
// CHECK: gpu.launch_func @moe_kernels::@static_plan blocks in (%c1, %c1, %c1)
// CHECK-NOT: gpu.launch_func
func.func @static(%x: memref<1x64xbf16>, %r: memref<16x64xbf16>, %w: memref<1x2xf32>, %i: memref<1x2xi32>, %o: memref<17xi32>, %s: memref<1x2xi32>, %q: memref<2xi32>) {
  moe.route score(softmax) router(%x[t, k] * %r[e, k] : memref<1x64xbf16>, memref<16x64xbf16>)
      outs(%w, %i, %o, %s, %q : memref<1x2xf32>, memref<1x2xi32>, memref<17xi32>, memref<1x2xi32>, memref<2xi32>)
  return
}

// -----

// MISSED: a warp selects from at most 1024 experts, not 2000
// CHECK: func.func @experts
// CHECK: moe.gate
func.func @experts(%l: memref<?x2000xf32>, %w: memref<?x2xf32>, %i: memref<?x2xi32>) {
  moe.gate score(softmax) ins(%l : memref<?x2000xf32>) outs(%w, %i : memref<?x2xf32>, memref<?x2xi32>)
  return
}

// -----

// MISSED: a warp selects at most 32 experts, a lane each, not 40
func.func @choices(%l: memref<?x64xf32>, %w: memref<?x40xf32>, %i: memref<?x40xi32>) {
  moe.gate score(softmax) ins(%l : memref<?x64xf32>) outs(%w, %i : memref<?x40xf32>, memref<?x40xi32>)
  return
}

// -----

// MISSED: a warp ranks at most 32 groups, a lane each, not 64
func.func @groups(%l: memref<?x64xf32>, %w: memref<?x2xf32>, %i: memref<?x2xi32>) {
  moe.gate score(softmax) groups<count = 64, keep = 2, score = max>
      ins(%l : memref<?x64xf32>) outs(%w, %i : memref<?x2xf32>, memref<?x2xi32>)
  return
}

// -----

// MISSED: a kernel takes E and k as constants; make the rows of logits and ids static
func.func @dynamic(%l: memref<?x8xf32>, %w: memref<?x?xf32>, %i: memref<?x?xi32>) {
  moe.gate score(softmax) ins(%l : memref<?x8xf32>) outs(%w, %i : memref<?x?xf32>, memref<?x?xi32>)
  return
}

// -----

// MISSED: 'math.cbrt' in the region 'logits' has no code for GPUs; use ops of arith and math that it has, on types of at most 32 bits
// CHECK: func.func @function
// CHECK: moe.route
// CHECK-NOT: gpu.module
func.func @function(%x: memref<1x64xbf16>, %r: memref<16x64xbf16>, %w: memref<1x2xf32>, %i: memref<1x2xi32>, %o: memref<17xi32>, %s: memref<1x2xi32>, %q: memref<2xi32>) {
  moe.route score(softmax) router(%x[t, k] * %r[e, k] : memref<1x64xbf16>, memref<16x64xbf16>)
      outs(%w, %i, %o, %s, %q : memref<1x2xf32>, memref<1x2xi32>, memref<17xi32>, memref<1x2xi32>, memref<2xi32>)
      logits {
  ^bb0(%sum: f32):
    %logit = math.cbrt %sum : f32
    moe.yield %logit : f32
  }
  return
}

// -----

// MISSED: a kernel takes E and K, the length of a sum, as constants; make the router static
func.func @length(%x: memref<1x?xbf16>, %r: memref<16x?xbf16>, %w: memref<1x2xf32>, %i: memref<1x2xi32>, %o: memref<17xi32>, %s: memref<1x2xi32>, %q: memref<2xi32>) {
  moe.route score(softmax) router(%x[t, k] * %r[e, k] : memref<1x?xbf16>, memref<16x?xbf16>)
      outs(%w, %i, %o, %s, %q : memref<1x2xf32>, memref<1x2xi32>, memref<17xi32>, memref<1x2xi32>, memref<2xi32>)
  return
}
