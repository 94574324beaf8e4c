// RUN: moe-opt %s --pass-pipeline='builtin.module(func.func(moe-fuse-combine))' \
// RUN:     --remarks-filter-missed=moe-fuse-combine 2>%t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK < %t.remarks

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
