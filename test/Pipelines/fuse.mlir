// A whole layer: plan and two grouped matmuls are left of dispatch, experts and combine. Foreign
// functions are as they were.

// RUN: moe-opt %s --allow-unregistered-dialect --moe-fuse | FileCheck %s
// RUN: moe-opt %s --allow-unregistered-dialect --pass-pipeline='any(moe-fuse)' | FileCheck %s
// Twice is once.
// RUN: moe-opt %s --allow-unregistered-dialect --moe-fuse --moe-fuse | FileCheck %s

// What is fused, in whole or in part, lowers.
// RUN: moe-opt %s --allow-unregistered-dialect --moe-fuse --moe-general-lowering \
// RUN:     | FileCheck %s --check-prefix=LLVM
// LLVM: llvm.func @layer
// LLVM-NOT: moe.
// LLVM: llvm.func @half_fused
// LLVM-NOT: moe.

// CHECK-LABEL: func.func @foreign(
// CHECK-NEXT: %[[A:.*]] = arith.constant 1 : index
// CHECK-NEXT: %[[B:.*]] = arith.constant 1 : index
// CHECK-NEXT: "host.op"(%[[A]], %[[B]])
func.func @foreign() {
  %a = arith.constant 1 : index
  %b = arith.constant 1 : index
  "host.op"(%a, %b) : (index, index) -> ()
  return
}

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>

// CHECK-LABEL: func.func @layer(
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x8xbf16>, %[[LOGITS:[^:]*]]: tensor<?x4xf32>, %[[GATE:[^:]*]]: tensor<4x16x8xbf16>, %[[UP:[^:]*]]: tensor<4x16x8xbf16>, %[[DOWN:[^:]*]]: tensor<4x8x16xbf16>, %[[SHARED:[^:]*]]: tensor<?x8xbf16>)
// CHECK: %[[W:.*]], %[[IDS:.*]] = moe.gate
// CHECK: %[[O:.*]], %[[S:.*]], %[[SOURCE:.*]] = moe.plan ids(%[[IDS]] : tensor<?x2xi32>)
// CHECK-NOT: moe.dispatch
// CHECK: %[[H:.*]] = moe.grouped_matmul offsets(%[[O]] : tensor<5xi32>) source(%[[SOURCE]] : tensor<?xi32>) top_k(2)
// CHECK-SAME: products(%[[X]][t, k] * %[[GATE]][e, n, k], %[[X]][t, k] * %[[UP]][e, n, k] :
// CHECK: moe.yield %{{.*}} : bf16
// CHECK-NOT: moe.expert
// CHECK: %[[Y:.*]] = moe.grouped_matmul offsets(%[[O]] : tensor<5xi32>)
// CHECK-SAME: products(%[[H]][m, k] * %[[DOWN]][e, n, k] : tensor<?x16xbf16>, tensor<4x8x16xbf16>)
// CHECK-SAME: combine(%[[S]] : tensor<?x2xi32>, %[[W]] : tensor<?x2xf32>) base(%[[SHARED]] : tensor<?x8xbf16>)
// CHECK: arith.truncf
// CHECK-NEXT: moe.yield
// CHECK-NOT: moe.combine
// CHECK: return %[[Y]]
func.func @layer(%x: tensor<?x8xbf16>, %logits: tensor<?x4xf32>, %gate: tensor<4x16x8xbf16>,
    %up: tensor<4x16x8xbf16>, %down: tensor<4x8x16xbf16>, %shared: tensor<?x8xbf16>)
    -> tensor<?x8xbf16> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xbf16>
  %M = arith.muli %T, %c2 : index
  %w_e = tensor.empty(%T) : tensor<?x2xf32>
  %i_e = tensor.empty(%T) : tensor<?x2xi32>
  %o_e = tensor.empty() : tensor<5xi32>
  %r_e = tensor.empty(%M) : tensor<?x8xbf16>
  %y_e = tensor.empty(%T) : tensor<?x8xbf16>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%w_e, %i_e : tensor<?x2xf32>, tensor<?x2xi32>)
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xbf16>)
      outs(%o_e, %i_e, %r_e : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xbf16>)
  %results = moe.expert offsets(%offsets : tensor<5xi32>) rows(%rows : tensor<?x8xbf16>)
      params(%gate, %up, %down : tensor<4x16x8xbf16>, tensor<4x16x8xbf16>, tensor<4x8x16xbf16>)
      outs(%r_e : tensor<?x8xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x8xbf16>, %ge: tensor<16x8xbf16>, %ue: tensor<16x8xbf16>,
       %de: tensor<8x16xbf16>):
    %n = tensor.dim %xe, %c0 : tensor<?x8xbf16>
    %h_e = tensor.empty(%n) : tensor<?x16xf32>
    %h_z = linalg.fill ins(%zero : f32) outs(%h_e : tensor<?x16xf32>) -> tensor<?x16xf32>
    %g = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %ge : tensor<?x8xbf16>, tensor<16x8xbf16>)
        outs(%h_z : tensor<?x16xf32>) -> tensor<?x16xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %ue : tensor<?x8xbf16>, tensor<16x8xbf16>)
        outs(%h_z : tensor<?x16xf32>) -> tensor<?x16xf32>
    %minus = arith.negf %g : tensor<?x16xf32>
    %exp = math.exp %minus : tensor<?x16xf32>
    %one = arith.constant 1.0 : f32
    %ones = linalg.fill ins(%one : f32) outs(%h_e : tensor<?x16xf32>) -> tensor<?x16xf32>
    %sum = arith.addf %ones, %exp : tensor<?x16xf32>
    %silu = arith.divf %g, %sum : tensor<?x16xf32>
    %p = arith.mulf %silu, %u : tensor<?x16xf32>
    %pb = arith.truncf %p : tensor<?x16xf32> to tensor<?x16xbf16>
    %d_e = tensor.empty(%n) : tensor<?x8xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x8xf32>) -> tensor<?x8xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%pb, %de : tensor<?x16xbf16>, tensor<8x16xbf16>)
        outs(%d_z : tensor<?x8xf32>) -> tensor<?x8xf32>
    %db = arith.truncf %d : tensor<?x8xf32> to tensor<?x8xbf16>
    moe.yield %db : tensor<?x8xbf16>
  }
  %y = moe.combine rows(%results : tensor<?x8xbf16>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) base(%shared : tensor<?x8xbf16>)
      outs(%y_e : tensor<?x8xbf16>)
  return %y : tensor<?x8xbf16>
}

// A sum over each row before the matmul stays a moe.expert on dispatched rows; the matmul behind it
// still adds into the tokens.

// CHECK-LABEL: func.func @half_fused(
// CHECK: %[[O:.*]], %[[S:.*]], %[[ROWS:.*]], %[[RW:.*]] = moe.dispatch
// CHECK: %[[SCALED:.*]] = moe.expert offsets(%[[O]] : tensor<5xi32>) rows(%[[ROWS]], %[[RW]] :
// CHECK: moe.grouped_matmul {{.*}} products(%[[SCALED]][m, k] *
// CHECK-SAME: combine(%[[S]] : tensor<?x2xi32>,
func.func @half_fused(%x: tensor<?x8xf32>, %ids: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
    %up: tensor<4x8x8xf32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %w_e = tensor.empty(%T) : tensor<?x2xf32>
  %i_e = tensor.empty(%T) : tensor<?x2xi32>
  %o_e = tensor.empty() : tensor<5xi32>
  %r_e = tensor.empty(%M) : tensor<?x8xf32>
  %rw_e = tensor.empty(%M) : tensor<?xf32>
  %y_e = tensor.empty(%T) : tensor<?x8xf32>
  %offsets, %slots, %rows, %row_w = moe.dispatch ids(%ids : tensor<?x2xi32>)
      tokens(%x : tensor<?x8xf32>) choices(%weights : tensor<?x2xf32>)
      outs(%o_e, %i_e, %r_e, %rw_e
           : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>, tensor<?xf32>)
  %results = moe.expert offsets(%offsets : tensor<5xi32>)
      rows(%rows, %row_w : tensor<?x8xf32>, tensor<?xf32>)
      params(%up : tensor<4x8x8xf32>) outs(%r_e : tensor<?x8xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x8xf32>, %we: tensor<?xf32>, %ue: tensor<8x8xf32>):
    %n = tensor.dim %xe, %c0 : tensor<?x8xf32>
    %e = tensor.empty(%n) : tensor<?x8xf32>
    %sums = linalg.reduce { arith.addf } ins(%xe : tensor<?x8xf32>) outs(%we : tensor<?xf32>) dimensions = [1]
    %wide = linalg.broadcast ins(%sums : tensor<?xf32>) outs(%e : tensor<?x8xf32>) dimensions = [1]
    %scaled = arith.mulf %xe, %wide : tensor<?x8xf32>
    %z = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%scaled, %ue : tensor<?x8xf32>, tensor<8x8xf32>)
        outs(%z : tensor<?x8xf32>) -> tensor<?x8xf32>
    moe.yield %u : tensor<?x8xf32>
  }
  %ones = linalg.fill ins(%one : f32) outs(%w_e : tensor<?x2xf32>) -> tensor<?x2xf32>
  %y = moe.combine rows(%results : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%ones : tensor<?x2xf32>) outs(%y_e : tensor<?x8xf32>)
  return %y : tensor<?x8xf32>
}
