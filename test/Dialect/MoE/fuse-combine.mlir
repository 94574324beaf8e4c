// RUN: moe-opt %s --pass-pipeline='builtin.module(func.func(moe-fuse-combine))' \
// RUN:     --remarks-filter-missed=moe-fuse-combine 2>%t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK < %t.remarks

#th = affine_map<(t, h) -> (t, h)>

// The row rounds to the type that it was stored in; the base moves along.

// CHECK-LABEL: func.func @base(
// CHECK: %[[O:.*]], %[[S:.*]], %[[SOURCE:.*]] = moe.plan
// CHECK: %[[Y:.*]] = moe.grouped_matmul offsets(%[[O]] : tensor<5xi32>) source(%[[SOURCE]] : tensor<?xi32>) top_k(2)
// CHECK-SAME: products(%{{.*}}[t, k] * %{{.*}}[e, n, k] : tensor<?x8xbf16>, tensor<4x8x8xbf16>)
// CHECK-SAME: combine(%[[S]] : tensor<?x2xi32>, %arg3 : tensor<?x2xf32>) base(%arg4 : tensor<?x8xf32>)
// CHECK-SAME: outs(%arg9 : tensor<?x8xf32>) {
// CHECK-NEXT: ^bb0(%[[P:.*]]: f32):
// CHECK-NEXT: %[[R:.*]] = arith.truncf %[[P]] : f32 to bf16
// CHECK-NEXT: moe.yield %[[R]] : bf16
// CHECK-NOT: moe.combine
// CHECK: return %[[Y]]
func.func @base(%ids: tensor<?x2xi32>, %x: tensor<?x8xbf16>, %w: tensor<4x8x8xbf16>,
    %weights: tensor<?x2xf32>, %base: tensor<?x8xf32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>,
    %r: tensor<?x8xbf16>, %src: tensor<?xi32>, %out: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o, %s, %src : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %rows = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>)
      top_k(2) products(%x[t, k] * %w[e, n, k] : tensor<?x8xbf16>, tensor<4x8x8xbf16>)
      outs(%r : tensor<?x8xbf16>) {
  ^bb0(%p: f32):
    %b = arith.truncf %p : f32 to bf16
    moe.yield %b : bf16
  }
  %y = moe.combine rows(%rows : tensor<?x8xbf16>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) base(%base : tensor<?x8xf32>)
      outs(%out : tensor<?x8xf32>)
  return %y : tensor<?x8xf32>
}

// REMARK: remark: [Missed] rows are stored | Category:moe-fuse-combine | Function=read_twice
// REMARK-SAME: something else reads the rows
// CHECK-LABEL: func.func @read_twice(
// CHECK: moe.combine
func.func @read_twice(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %w: tensor<4x8x8xf32>,
    %weights: tensor<?x2xf32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?x8xf32>,
    %src: tensor<?xi32>, %out: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o, %s, %src : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %rows = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>)
      top_k(2) products(%x[t, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %y = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xf32>)
  return %y, %rows : tensor<?x8xf32>, tensor<?x8xf32>
}

// REMARK: Function=other_slots
// REMARK-SAME: the slots are not from the dispatch or plan
// REMARK-SAME: use the offsets and slots of one op
// CHECK-LABEL: func.func @other_slots(
// CHECK: moe.combine
func.func @other_slots(%x: tensor<?x8xf32>, %w: tensor<4x8x8xf32>, %weights: tensor<?x2xf32>,
    %offsets: tensor<5xi32>, %slots: tensor<?x2xi32>, %r: tensor<?x8xf32>,
    %out: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %rows = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %y = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xf32>)
  return %y : tensor<?x8xf32>
}

// REMARK: Function=two_results
// REMARK-SAME: the grouped matmul stores other rows as well
// CHECK-LABEL: func.func @two_results(
// CHECK: moe.combine
func.func @two_results(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %w: tensor<4x8x8xf32>,
    %weights: tensor<?x2xf32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?x8xf32>,
    %src: tensor<?xi32>, %out: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o, %s, %src : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %rows:2 = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>)
      top_k(2) products(%x[t, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r, %r : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%p: f32):
    %n = arith.negf %p : f32
    moe.yield %p, %n : f32, f32
  }
  %y = moe.combine rows(%rows#0 : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xf32>)
  return %y, %rows#1 : tensor<?x8xf32>, tensor<?x8xf32>
}

// A residual that is added to the f32 result is its base; the sum rounds to bf16 once, as it did.

// REMARK-NOT: Function=residual
// CHECK-LABEL: func.func @residual(
// CHECK: %[[O:.*]], %[[S:.*]], %{{.*}} = moe.plan
// CHECK: %[[Y:.*]] = moe.grouped_matmul offsets(%[[O]] :
// CHECK-SAME: combine(%[[S]] : tensor<?x2xi32>, %arg2 : tensor<?x2xf32>) base(%arg4 : tensor<?x8xbf16>)
// CHECK-SAME: outs(%{{.*}} : tensor<?x8xbf16>)
// CHECK-NOT: arith.addf
// CHECK: return %[[Y]] : tensor<?x8xbf16>
func.func @residual(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %weights: tensor<?x2xf32>,
    %w: tensor<4x8x8xf32>, %residual: tensor<?x8xbf16>) -> tensor<?x8xbf16> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %o = tensor.empty() : tensor<5xi32>
  %s = tensor.empty(%T) : tensor<?x2xi32>
  %src = tensor.empty(%M) : tensor<?xi32>
  %r = tensor.empty(%M) : tensor<?x8xf32>
  %out = tensor.empty(%T) : tensor<?x8xf32>
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o, %s, %src : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %rows = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>)
      top_k(2) products(%x[t, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %y = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xf32>)
  %wide = arith.extf %residual : tensor<?x8xbf16> to tensor<?x8xf32>
  %sum = arith.addf %wide, %y : tensor<?x8xf32>
  %z = arith.truncf %sum : tensor<?x8xf32> to tensor<?x8xbf16>
  return %z : tensor<?x8xbf16>
}

// A shared expert that is computed after the combine, added in a linalg.generic, and a second summand,
// which stays behind: sums are not reordered. The rows are of no grouped matmul.

// CHECK-LABEL: func.func @shared(
// CHECK: %[[SHARED:.*]] = math.tanh %arg4 : tensor<?x8xf32>
// CHECK: %[[Y:.*]] = moe.combine rows(%arg0 : {{.*}} base(%[[SHARED]] : tensor<?x8xf32>)
// CHECK-NOT: linalg.generic
// CHECK: arith.addf %[[Y]], %arg3 : tensor<?x8xf32>
func.func @shared(%rows: tensor<?x8xf32>, %slots: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
    %x: tensor<?x8xf32>, %hidden: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %out = tensor.empty(%T) : tensor<?x8xf32>
  %y = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xf32>)
  %shared = math.tanh %hidden : tensor<?x8xf32>
  %sum = linalg.generic {indexing_maps = [#th, #th, #th], iterator_types = ["parallel", "parallel"]}
      ins(%y, %shared : tensor<?x8xf32>, tensor<?x8xf32>) outs(%out : tensor<?x8xf32>) {
  ^bb0(%a: f32, %b: f32, %init: f32):
    %s = arith.addf %a, %b : f32
    linalg.yield %s : f32
  } -> tensor<?x8xf32>
  %z = arith.addf %sum, %x : tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// The sum rounded before: with a base it would not.

// REMARK: remark: [Missed] tokens are read again to be added to | Category:moe-fuse-combine | Function=rounded_before
// REMARK-SAME: the sum was rounded to the stored type before
// REMARK-SAME: add to an f32 result and truncate the sum, or pass it as the base of the moe.combine
// CHECK-LABEL: func.func @rounded_before(
// CHECK: moe.combine {{.*}} weights(%arg2 : tensor<?x2xf32>) outs
// CHECK: arith.addf
func.func @rounded_before(%rows: tensor<?x8xbf16>, %slots: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
    %x: tensor<?x8xbf16>) -> tensor<?x8xbf16> {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x8xbf16>
  %out = tensor.empty(%T) : tensor<?x8xbf16>
  %y = moe.combine rows(%rows : tensor<?x8xbf16>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xbf16>)
  %z = arith.addf %y, %x : tensor<?x8xbf16>
  return %z : tensor<?x8xbf16>
}

// A row for all tokens is no base, a difference is no sum, and a result that somebody else reads stays.

// CHECK-LABEL: func.func @no_base(
// CHECK-NOT: base(
// CHECK: return
func.func @no_base(%rows: tensor<?x8xf32>, %slots: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
    %x: tensor<?x8xf32>, %row: tensor<8xf32>)
    -> (tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>) {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %out = tensor.empty(%T) : tensor<?x8xf32>
  %a = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xf32>)
  %wide = linalg.broadcast ins(%row : tensor<8xf32>) outs(%out : tensor<?x8xf32>) dimensions = [0]
  %plus_row = arith.addf %a, %wide : tensor<?x8xf32>
  %b = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xf32>)
  %minus = arith.subf %b, %x : tensor<?x8xf32>
  %c = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xf32>)
  %plus = arith.addf %c, %x : tensor<?x8xf32>
  return %plus_row, %minus, %plus, %c : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>
}
