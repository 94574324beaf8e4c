// What keeps a body, or a matmul in it, as it is: the remark says what, why, and what to change.

// RUN: moe-opt %s --pass-pipeline='builtin.module(func.func(moe-expert-to-grouped-matmul))' \
// RUN:     --remarks-filter-missed=moe-expert-to-grouped-matmul 2>%t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK < %t.remarks

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>

// REMARK: remark: [Missed] stays a moe.expert | Category:moe-expert-to-grouped-matmul | Function=adds_in_bf16
// REMARK-SAME: 'linalg.matmul' adds in bf16, and a grouped matmul adds in f32
// REMARK-SAME: give the matmul an f32 destination and truncate its result
// CHECK-LABEL: func.func @adds_in_bf16(
// CHECK: moe.expert
// CHECK-NOT: moe.grouped_matmul
func.func @adds_in_bf16(%o: tensor<4xi32>, %x: tensor<?x6xbf16>, %w: tensor<3x6x6xbf16>)
    -> tensor<?x6xbf16> {
  %y = moe.expert offsets(%o : tensor<4xi32>) rows(%x : tensor<?x6xbf16>)
      params(%w : tensor<3x6x6xbf16>) outs(%x : tensor<?x6xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %we: tensor<6x6xbf16>):
    %c0 = arith.constant 0 : index
    %zero = arith.constant 0.0 : bf16
    %n = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %e = tensor.empty(%n) : tensor<?x6xbf16>
    %z = linalg.fill ins(%zero : bf16) outs(%e : tensor<?x6xbf16>) -> tensor<?x6xbf16>
    %r = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %we : tensor<?x6xbf16>, tensor<6x6xbf16>)
        outs(%z : tensor<?x6xbf16>) -> tensor<?x6xbf16>
    moe.yield %r : tensor<?x6xbf16>
  }
  return %y : tensor<?x6xbf16>
}

// REMARK: Function=unknown_width
// REMARK-SAME: 'linalg.matmul' has a result of unknown width
// REMARK-SAME: give its type a static number of columns
// CHECK-LABEL: func.func @unknown_width(
// CHECK-NOT: moe.grouped_matmul
func.func @unknown_width(%o: tensor<4xi32>, %x: tensor<?x?xf32>, %w: tensor<3x?x?xf32>)
    -> tensor<?x?xf32> {
  %y = moe.expert offsets(%o : tensor<4xi32>) rows(%x : tensor<?x?xf32>)
      params(%w : tensor<3x?x?xf32>) outs(%x : tensor<?x?xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x?xf32>, %we: tensor<?x?xf32>):
    %zero = arith.constant 0.0 : f32
    %z = linalg.fill ins(%zero : f32) outs(%xe : tensor<?x?xf32>) -> tensor<?x?xf32>
    %r = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %we : tensor<?x?xf32>, tensor<?x?xf32>)
        outs(%z : tensor<?x?xf32>) -> tensor<?x?xf32>
    moe.yield %r : tensor<?x?xf32>
  }
  return %y : tensor<?x?xf32>
}

// REMARK: Function=computed_weight
// REMARK-SAME: 'linalg.matmul' multiplies with a weight that the body computes
// REMARK-SAME: pass the weight as a parameter of the moe.expert
// CHECK-LABEL: func.func @computed_weight(
// CHECK-NOT: moe.grouped_matmul
func.func @computed_weight(%o: tensor<4xi32>, %x: tensor<?x6xf32>, %w: tensor<3x6x6xf32>)
    -> tensor<?x6xf32> {
  %y = moe.expert offsets(%o : tensor<4xi32>) rows(%x : tensor<?x6xf32>)
      params(%w : tensor<3x6x6xf32>) outs(%x : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %we: tensor<6x6xf32>):
    %zero = arith.constant 0.0 : f32
    %z = linalg.fill ins(%zero : f32) outs(%xe : tensor<?x6xf32>) -> tensor<?x6xf32>
    %twice = arith.addf %we, %we : tensor<6x6xf32>
    %r = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %twice : tensor<?x6xf32>, tensor<6x6xf32>)
        outs(%z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %r : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// REMARK: Function=no_matmul
// REMARK-SAME: 'moe.expert' has no matmul of rows and weights in its body
// CHECK-LABEL: func.func @no_matmul(
// CHECK-NOT: moe.grouped_matmul
func.func @no_matmul(%o: tensor<4xi32>, %x: tensor<?x6xf32>) -> tensor<?x6xf32> {
  %y = moe.expert offsets(%o : tensor<4xi32>) rows(%x : tensor<?x6xf32>)
      outs(%x : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>):
    %r = arith.addf %xe, %xe : tensor<?x6xf32>
    moe.yield %r : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// REMARK: Function=per_expert_result
// REMARK-SAME: 'moe.expert' has a per-expert result, E×…
// REMARK-SAME: compute it in a moe.expert of its own
// CHECK-LABEL: func.func @per_expert_result(
// CHECK-NOT: moe.grouped_matmul
func.func @per_expert_result(%o: tensor<4xi32>, %x: tensor<?x6xf32>, %w: tensor<3x6x6xf32>)
    -> (tensor<?x6xf32>, tensor<3x6x6xf32>) {
  %y, %g = moe.expert offsets(%o : tensor<4xi32>) rows(%x : tensor<?x6xf32>)
      params(%w : tensor<3x6x6xf32>) outs(%x, %w : tensor<?x6xf32>, tensor<3x6x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %we: tensor<6x6xf32>):
    %zero = arith.constant 0.0 : f32
    %z = linalg.fill ins(%zero : f32) outs(%xe : tensor<?x6xf32>) -> tensor<?x6xf32>
    %r = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %we : tensor<?x6xf32>, tensor<6x6xf32>)
        outs(%z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %r, %we : tensor<?x6xf32>, tensor<6x6xf32>
  }
  return %y, %g : tensor<?x6xf32>, tensor<3x6x6xf32>
}

// A matmul over the rows: a weight gradient as rows, here of known size.

// REMARK: Function=mixes_rows
// REMARK-SAME: 'linalg.matmul'
// CHECK-LABEL: func.func @mixes_rows(
// CHECK-NOT: moe.grouped_matmul
func.func @mixes_rows(%o: tensor<4xi32>, %x: tensor<?x6xf32>, %w: tensor<6x6xf32>)
    -> tensor<?x6xf32> {
  %y = moe.expert offsets(%o : tensor<4xi32>) rows(%x : tensor<?x6xf32>)
      outs(%x : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>):
    %zero = arith.constant 0.0 : f32
    %e = tensor.empty() : tensor<6x6xf32>
    %z = linalg.fill ins(%zero : f32) outs(%e : tensor<6x6xf32>) -> tensor<6x6xf32>
    %gram = linalg.matmul
        indexing_maps = [affine_map<(m, n, k) -> (k, m)>, affine_map<(m, n, k) -> (k, n)>, #mn]
        ins(%xe, %xe : tensor<?x6xf32>, tensor<?x6xf32>)
        outs(%z : tensor<6x6xf32>) -> tensor<6x6xf32>
    %rz = linalg.fill ins(%zero : f32) outs(%xe : tensor<?x6xf32>) -> tensor<?x6xf32>
    %r = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %gram : tensor<?x6xf32>, tensor<6x6xf32>)
        outs(%rz : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %r : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// REMARK: Function=first_row
// REMARK-SAME: reads other rows than its own
// CHECK-LABEL: func.func @first_row(
// CHECK: moe.expert
// CHECK: moe.grouped_matmul
func.func @first_row(%o: tensor<4xi32>, %x: tensor<?x6xf32>, %w: tensor<3x6x6xf32>)
    -> tensor<?x6xf32> {
  %y = moe.expert offsets(%o : tensor<4xi32>) rows(%x : tensor<?x6xf32>)
      params(%w : tensor<3x6x6xf32>) outs(%x : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %we: tensor<6x6xf32>):
    %zero = arith.constant 0.0 : f32
    %first = tensor.extract_slice %xe[0, 0] [1, 6] [1, 1] : tensor<?x6xf32> to tensor<6xf32>
    %all = linalg.broadcast ins(%first : tensor<6xf32>) outs(%xe : tensor<?x6xf32>) dimensions = [0]
    %sum = arith.addf %all, %xe : tensor<?x6xf32>
    %z = linalg.fill ins(%zero : f32) outs(%xe : tensor<?x6xf32>) -> tensor<?x6xf32>
    %r = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%sum, %we : tensor<?x6xf32>, tensor<6x6xf32>)
        outs(%z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %r : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// REMARK: Function=no_rows
// REMARK-SAME: 'moe.expert' has no rows
// CHECK-LABEL: func.func @no_rows(
// CHECK-NOT: moe.grouped_matmul
func.func @no_rows(%o: tensor<4xi32>, %w: tensor<3x6xf32>) -> tensor<3x6xf32> {
  %y = moe.expert offsets(%o : tensor<4xi32>) params(%w : tensor<3x6xf32>)
      outs(%w : tensor<3x6xf32>) {
  ^bb0(%expert: index, %we: tensor<6xf32>):
    moe.yield %we : tensor<6xf32>
  }
  return %y : tensor<3x6xf32>
}

// The table of rows is read by rows of the expert, which is no row of the layer.

// REMARK: Function=table_of_rows
// REMARK-SAME: reads a table by the number of a row within its expert
// REMARK-SAME: pass what differs by row as a row operand
// CHECK-LABEL: func.func @table_of_rows(
// CHECK: %[[R:.*]] = moe.grouped_matmul
// CHECK: moe.expert offsets(%arg0 : tensor<4xi32>) rows(%[[R]] :
func.func @table_of_rows(%o: tensor<4xi32>, %x: tensor<?x6xf32>, %w: tensor<3x6x6xf32>,
    %table: tensor<3x?x6xf32>) -> tensor<?x6xf32> {
  %y = moe.expert offsets(%o : tensor<4xi32>) rows(%x : tensor<?x6xf32>)
      params(%w, %table : tensor<3x6x6xf32>, tensor<3x?x6xf32>) outs(%x : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %we: tensor<6x6xf32>, %te: tensor<?x6xf32>):
    %zero = arith.constant 0.0 : f32
    %z = linalg.fill ins(%zero : f32) outs(%xe : tensor<?x6xf32>) -> tensor<?x6xf32>
    %r = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %we : tensor<?x6xf32>, tensor<6x6xf32>)
        outs(%z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %s = arith.addf %r, %te : tensor<?x6xf32>
    moe.yield %s : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// A norm of the rows before the first matmul is work of its own; each token's could be done once.

// REMARK: keeps a part as a moe.expert
// REMARK-SAME: Function=norm_before
// REMARK-SAME: 'linalg.reduce' reduces a row
// REMARK-SAME: what follows from the token alone can be computed before the moe.dispatch
// CHECK-LABEL: func.func @norm_before(
// CHECK: %[[N:.*]] = moe.expert offsets(%arg0 : tensor<4xi32>) rows(%arg1 :
// CHECK: moe.grouped_matmul {{.*}} products(%[[N]][m, k] * %arg2[e, n, k] :
func.func @norm_before(%o: tensor<4xi32>, %x: tensor<?x6xf32>, %w: tensor<3x6x6xf32>)
    -> tensor<?x6xf32> {
  %y = moe.expert offsets(%o : tensor<4xi32>) rows(%x : tensor<?x6xf32>)
      params(%w : tensor<3x6x6xf32>) outs(%x : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %we: tensor<6x6xf32>):
    %c0 = arith.constant 0 : index
    %zero = arith.constant 0.0 : f32
    %n = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %s = tensor.splat %zero[%n] : tensor<?xf32>
    %z = tensor.splat %zero[%n] : tensor<?x6xf32>
    %sums = linalg.reduce { arith.addf } ins(%xe : tensor<?x6xf32>) outs(%s : tensor<?xf32>) dimensions = [1]
    %wide = linalg.broadcast ins(%sums : tensor<?xf32>) outs(%z : tensor<?x6xf32>) dimensions = [1]
    %share = arith.divf %xe, %wide : tensor<?x6xf32>
    %r = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%share, %we : tensor<?x6xf32>, tensor<6x6xf32>) outs(%z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %r : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}
