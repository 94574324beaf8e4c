// RUN: moe-opt %s --pass-pipeline='builtin.module(func.func(moe-fuse-dispatch))' \
// RUN:     --remarks-filter-missed=moe-fuse-dispatch 2>%t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK < %t.remarks
// Twice is once.
// RUN: moe-opt %s --pass-pipeline='builtin.module(func.func(moe-fuse-dispatch,moe-fuse-dispatch))' | FileCheck %s

// Tokens, a payload of choices, and a residual; all that dispatch says of capacity is plan's.

// CHECK-LABEL: func.func @all_spared(
// CHECK-SAME: %[[IDS:[^:]*]]: tensor<?x2xi32>, %[[X:[^:]*]]: tensor<?x8xf32>, %[[C:[^:]*]]: tensor<?x2xf32>, %[[W:[^:]*]]: tensor<4x8x8xf32>
// CHECK: %[[EMPTY:.*]] = tensor.empty(%{{.*}}) : tensor<?xi32>
// CHECK: %[[O:.*]], %[[S:.*]], %[[SOURCE:.*]] = moe.plan ids(%[[IDS]] : tensor<?x2xi32>) capacity(%{{.*}}) order(choice_major) tokens_per_group(%{{.*}}) outs(%{{.*}}, %{{.*}}, %[[EMPTY]] : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
// CHECK-NOT: moe.dispatch
// CHECK: moe.grouped_matmul offsets(%[[O]] : tensor<5xi32>) source(%[[SOURCE]] : tensor<?xi32>) top_k(2)
// CHECK-SAME: products(%[[X]][t, k] * %[[W]][e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
// CHECK-SAME: extras(%[[C]][t, j], %[[X]][t, n] : tensor<?x2xf32>, tensor<?x8xf32>)
// CHECK: return %{{.*}}, %[[S]]
func.func @all_spared(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %c: tensor<?x2xf32>,
    %w: tensor<4x8x8xf32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?x8xf32>,
    %rc: tensor<?xf32>, %cap: index, %group: index) -> (tensor<?x8xf32>, tensor<?x2xi32>) {
  %c0 = arith.constant 0 : index
  %offsets, %slots, %rows, %row_c = moe.dispatch ids(%ids : tensor<?x2xi32>)
      tokens(%x : tensor<?x8xf32>) choices(%c : tensor<?x2xf32>)
      capacity(%cap) order(choice_major) tokens_per_group(%group)
      outs(%o, %s, %r, %rc : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>, tensor<?xf32>)
  %M = tensor.dim %rows, %c0 : tensor<?x8xf32>
  %empty = tensor.empty(%M) : tensor<?x8xf32>
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%rows[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      extras(%row_c[m], %rows[m, n] : tensor<?xf32>, tensor<?x8xf32>)
      outs(%empty : tensor<?x8xf32>) {
  ^bb0(%p: f32, %scale: f32, %residual: f32):
    %scaled = arith.mulf %p, %scale : f32
    %sum = arith.addf %scaled, %residual : f32
    moe.yield %sum : f32
  }
  return %y, %slots : tensor<?x8xf32>, tensor<?x2xi32>
}

// What a prologue reads is gathered as well.

// CHECK-LABEL: func.func @prologue(
// CHECK-NOT: moe.dispatch
// CHECK: products(prologue(%arg1[t, k], %arg2[t, j]) * %arg3[e, n, k] : tensor<?x8xf32>, tensor<?x2xf32>, tensor<4x8x8xf32>)
// CHECK: arith.mulf
func.func @prologue(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %c: tensor<?x2xf32>,
    %w: tensor<4x8x8xf32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?x8xf32>,
    %rc: tensor<?xf32>) -> tensor<?x8xf32> {
  %offsets, %slots, %rows, %row_c = moe.dispatch ids(%ids : tensor<?x2xi32>)
      tokens(%x : tensor<?x8xf32>) choices(%c : tensor<?x2xf32>)
      outs(%o, %s, %r, %rc : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>, tensor<?xf32>)
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(prologue(%rows[m, k], %row_c[m]) * %w[e, n, k]
               : tensor<?x8xf32>, tensor<?xf32>, tensor<4x8x8xf32>)
      outs(%r : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%a: f32, %b: f32):
    %ab = arith.mulf %a, %b : f32
    moe.yield %ab : f32
  }
  return %y : tensor<?x8xf32>
}

// A row for each choice is no lhs that can be gathered.

// CHECK-LABEL: func.func @rows_of_choices(
// CHECK: moe.dispatch
// CHECK: products(%{{.*}}[m, k] *
func.func @rows_of_choices(%ids: tensor<?x2xi32>, %c: tensor<?x2x8xf32>, %w: tensor<4x8x8xf32>,
    %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>)
      choices(%c : tensor<?x2x8xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%rows[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x8xf32>
}

// A moe.expert reads the payload of the choices: that stays dispatched, the tokens are spared.

// CHECK-LABEL: func.func @tokens_spared(
// CHECK: %[[O:.*]], %{{.*}}, %[[SOURCE:.*]] = moe.plan
// CHECK: %{{.*}}, %{{.*}}, %[[RC:.*]] = moe.dispatch ids(%{{.*}}) choices(%{{.*}} : tensor<?x2xf32>)
// CHECK: moe.expert offsets(%[[O]] : tensor<5xi32>) rows(%[[RC]] :
// CHECK: moe.grouped_matmul offsets(%[[O]] : tensor<5xi32>) source(%[[SOURCE]] : tensor<?xi32>) top_k(2) products(%{{.*}}[t, k]
func.func @tokens_spared(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %c: tensor<?x2xf32>,
    %w: tensor<4x8x8xf32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?x8xf32>,
    %rc: tensor<?xf32>) -> (tensor<?x8xf32>, tensor<?xf32>) {
  %offsets, %slots, %rows, %row_c = moe.dispatch ids(%ids : tensor<?x2xi32>)
      tokens(%x : tensor<?x8xf32>) choices(%c : tensor<?x2xf32>)
      outs(%o, %s, %r, %rc : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>, tensor<?xf32>)
  %e = moe.expert offsets(%offsets : tensor<5xi32>) rows(%row_c : tensor<?xf32>)
      outs(%rc : tensor<?xf32>) {
  ^bb0(%expert: index, %row: tensor<?xf32>):
    %t = math.exp %row : tensor<?xf32>
    moe.yield %t : tensor<?xf32>
  }
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%rows[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y, %e : tensor<?x8xf32>, tensor<?xf32>
}

// The rows are copied anyway, as something else reads them.

// REMARK: remark: [Missed] rows of tokens are copied | Category:moe-fuse-dispatch | Function=rows_returned
// REMARK-SAME: 'func.return' reads rows of tokens
// CHECK-LABEL: func.func @rows_returned(
// CHECK: moe.dispatch
// CHECK-NOT: moe.plan
func.func @rows_returned(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %w: tensor<4x8x8xf32>,
    %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?x8xf32>)
    -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%rows[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y, %rows : tensor<?x8xf32>, tensor<?x8xf32>
}

// With other offsets, rows that are no choice's may be read.

// REMARK: Function=other_offsets
// REMARK-SAME: 'moe.grouped_matmul' reads rows of tokens
// CHECK-LABEL: func.func @other_offsets(
// CHECK: moe.dispatch
// CHECK-NOT: moe.plan
func.func @other_offsets(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %w: tensor<4x8x8xf32>,
    %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%rows[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x8xf32>
}

// REMARK: Function=unknown_k
// REMARK-SAME: the number of choices a token is unknown
// REMARK-SAME: give ids a static second dimension
// CHECK-LABEL: func.func @unknown_k(
// CHECK: moe.dispatch
// CHECK-NOT: moe.plan
func.func @unknown_k(%ids: tensor<?x?xi32>, %x: tensor<?x8xf32>, %w: tensor<4x8x8xf32>,
    %o: tensor<5xi32>, %s: tensor<?x?xi32>, %r: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x?xi32>) tokens(%x : tensor<?x8xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<?x?xi32>, tensor<?x8xf32>)
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%rows[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x8xf32>
}

// No grouped matmul, no remark.

// REMARK-NOT: Function=nothing_to_fuse
// CHECK-LABEL: func.func @nothing_to_fuse(
// CHECK: moe.dispatch
// CHECK-NOT: moe.plan
func.func @nothing_to_fuse(%ids: tensor<?x2xi32>, %x: tensor<?x8xf32>, %o: tensor<5xi32>,
    %s: tensor<?x2xi32>, %r: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
  return %rows : tensor<?x8xf32>
}
