// Bodies that cannot be cut: they stay, in a layer that is fused around them. The routing is one
// moe.route, of whose ids the rows are copied for the body; the remark says what to change.

// RUN: moe-opt %s --moe-fuse --remarks-filter-missed='moe-.*' 2>%t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK --implicit-check-not=remark < %t.remarks
// Twice is once.
// RUN: moe-opt %s --moe-fuse --moe-fuse | FileCheck %s
// RUN: moe-opt %s --moe-fuse --moe-general-lowering | FileCheck %s --check-prefix=LLVM
// LLVM: llvm.func @adds_in_bf16
// LLVM-NOT: moe.

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>

// REMARK: remark: [Missed] stays a moe.expert | Category:moe-expert-to-grouped-matmul | Function=adds_in_bf16
// REMARK-SAME: 'linalg.matmul' adds in bf16, and a grouped matmul adds in f32
// REMARK-SAME: give the matmul an f32 destination and truncate its result
// CHECK-LABEL: func.func @adds_in_bf16(
// CHECK-NOT: linalg.matmul
// CHECK: %[[W:.*]], %[[IDS:.*]], %[[O:.*]], %[[S:.*]], %{{.*}} = moe.route score(softmax)
// CHECK-SAME: router(%arg0[t, k] * %arg1[e, k] :
// CHECK: moe.yield
// CHECK: %{{.*}}, %{{.*}}, %[[ROWS:.*]] = moe.dispatch ids(%[[IDS]] : tensor<?x2xi32>)
// CHECK: %[[R:.*]] = moe.expert offsets(%[[O]] : tensor<4xi32>) rows(%[[ROWS]] :
// CHECK: linalg.matmul
// CHECK: %[[Y:.*]] = moe.combine rows(%[[R]] : tensor<?x6xbf16>) slots(%[[S]] : tensor<?x2xi32>)
// CHECK-SAME: weights(%[[W]] :
// CHECK: return %[[Y]]
func.func @adds_in_bf16(%x: tensor<?x6xbf16>, %router: tensor<3x6xbf16>, %w: tensor<3x6x6xbf16>)
    -> tensor<?x6xbf16> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zf = arith.constant 0.0 : f32
  %half = arith.constant 0.5 : f32
  %T = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %M = arith.muli %T, %c2 : index
  %l_e = tensor.empty(%T) : tensor<?x3xf32>
  %l_z = linalg.fill ins(%zf : f32) outs(%l_e : tensor<?x3xf32>) -> tensor<?x3xf32>
  %halves = tensor.splat %half[%T] : tensor<?x3xf32>
  %w_e = tensor.empty(%T) : tensor<?x2xf32>
  %i_e = tensor.empty(%T) : tensor<?x2xi32>
  %o_e = tensor.empty() : tensor<4xi32>
  %r_e = tensor.empty(%M) : tensor<?x6xbf16>
  %y_e = tensor.empty(%T) : tensor<?x6xbf16>
  %sums = linalg.matmul indexing_maps = [#mk, #nk, #mn]
      ins(%x, %router : tensor<?x6xbf16>, tensor<3x6xbf16>)
      outs(%l_z : tensor<?x3xf32>) -> tensor<?x3xf32>
  %logits = arith.mulf %sums, %halves : tensor<?x3xf32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x3xf32>)
      outs(%w_e, %i_e : tensor<?x2xf32>, tensor<?x2xi32>)
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x6xbf16>)
      outs(%o_e, %i_e, %r_e : tensor<4xi32>, tensor<?x2xi32>, tensor<?x6xbf16>)
  %results = moe.expert offsets(%offsets : tensor<4xi32>) rows(%rows : tensor<?x6xbf16>)
      params(%w : tensor<3x6x6xbf16>) outs(%r_e : tensor<?x6xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %we: tensor<6x6xbf16>):
    %n = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %zero = arith.constant 0.0 : bf16
    %e = tensor.empty(%n) : tensor<?x6xbf16>
    %z = linalg.fill ins(%zero : bf16) outs(%e : tensor<?x6xbf16>) -> tensor<?x6xbf16>
    %g = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %we : tensor<?x6xbf16>, tensor<6x6xbf16>)
        outs(%z : tensor<?x6xbf16>) -> tensor<?x6xbf16>
    moe.yield %g : tensor<?x6xbf16>
  }
  %y = moe.combine rows(%results : tensor<?x6xbf16>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%y_e : tensor<?x6xbf16>)
  return %y : tensor<?x6xbf16>
}

// The sums of what each expert computes are a result beside the rows; capacity goes along.

// REMARK: remark: [Missed] stays a moe.expert | Category:moe-expert-to-grouped-matmul | Function=sums_of_experts
// REMARK-SAME: 'moe.expert' has a per-expert result, E×…
// REMARK-SAME: compute it in a moe.expert of its own
// CHECK-LABEL: func.func @sums_of_experts(
// CHECK: %[[W:.*]], %[[IDS:.*]], %[[O:.*]], %[[S:.*]], %{{.*}} = moe.route score(sigmoid)
// CHECK-SAME: capacity(%arg3) order(choice_major)
// CHECK: moe.dispatch ids(%[[IDS]] : tensor<?x2xi32>) {{.*}} capacity(%arg3) order(choice_major)
// CHECK: moe.expert offsets(%[[O]] : tensor<4xi32>)
// CHECK: moe.combine {{.*}} slots(%[[S]] : tensor<?x2xi32>) weights(%[[W]] :
func.func @sums_of_experts(%x: tensor<?x6xf32>, %router: tensor<3x6xf32>, %w: tensor<3x6x6xf32>,
    %capacity: index, %s_e: tensor<3x6xf32>) -> (tensor<?x6xf32>, tensor<3x6xf32>) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x6xf32>
  %M = arith.muli %T, %c2 : index
  %l_e = tensor.empty(%T) : tensor<?x3xf32>
  %l_z = linalg.fill ins(%zero : f32) outs(%l_e : tensor<?x3xf32>) -> tensor<?x3xf32>
  %w_e = tensor.empty(%T) : tensor<?x2xf32>
  %i_e = tensor.empty(%T) : tensor<?x2xi32>
  %o_e = tensor.empty() : tensor<4xi32>
  %r_e = tensor.empty(%M) : tensor<?x6xf32>
  %y_e = tensor.empty(%T) : tensor<?x6xf32>
  %logits = linalg.matmul indexing_maps = [#mk, #nk, #mn]
      ins(%x, %router : tensor<?x6xf32>, tensor<3x6xf32>)
      outs(%l_z : tensor<?x3xf32>) -> tensor<?x3xf32>
  %weights, %ids = moe.gate score(sigmoid) ins(%logits : tensor<?x3xf32>)
      outs(%w_e, %i_e : tensor<?x2xf32>, tensor<?x2xi32>)
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x6xf32>)
      capacity(%capacity) order(choice_major)
      outs(%o_e, %i_e, %r_e : tensor<4xi32>, tensor<?x2xi32>, tensor<?x6xf32>)
  %results, %sums = moe.expert offsets(%offsets : tensor<4xi32>) rows(%rows : tensor<?x6xf32>)
      params(%w : tensor<3x6x6xf32>) outs(%r_e, %s_e : tensor<?x6xf32>, tensor<3x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %we: tensor<6x6xf32>):
    %n = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %e = tensor.empty(%n) : tensor<?x6xf32>
    %z = linalg.fill ins(%zero : f32) outs(%e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %g = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %we : tensor<?x6xf32>, tensor<6x6xf32>)
        outs(%z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %se = tensor.empty() : tensor<6xf32>
    %sz = linalg.fill ins(%zero : f32) outs(%se : tensor<6xf32>) -> tensor<6xf32>
    %sum = linalg.reduce { arith.addf } ins(%g : tensor<?x6xf32>) outs(%sz : tensor<6xf32>)
        dimensions = [0]
    moe.yield %g, %sum : tensor<?x6xf32>, tensor<6xf32>
  }
  %y = moe.combine rows(%results : tensor<?x6xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%y_e : tensor<?x6xf32>)
  return %y, %sums : tensor<?x6xf32>, tensor<3x6xf32>
}
