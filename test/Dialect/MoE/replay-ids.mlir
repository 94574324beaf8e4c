// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-replay-ids)' \
// RUN:     --remarks-filter-missed=moe-replay-ids 2>%t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK < %t.remarks

// The gate goes; its weights are read at the ids that are given, -inf where a softmax runs over the selected.

// CHECK-LABEL: func.func @selected(
// CHECK-SAME: %[[LOGITS:[^ ]*]]: tensor<?x4xf32>,
// CHECK-SAME: %[[IDS:[^ ]*]]: tensor<?x2xi32> {moe.name = "replay_ids0"})
// CHECK-NOT: moe.gate
// CHECK: %[[W:.*]] = scf.for %[[T:[^ ]*]] =
// CHECK: %[[ID:.*]] = tensor.extract %[[IDS]][%[[T]], %{{.*}}]
// CHECK: %[[IS:.*]] = arith.cmpi ult, %[[ID]]
// CHECK: scf.if %[[IS]] -> (f32)
// CHECK: tensor.extract %[[LOGITS]][%[[T]],
// CHECK: } else {
// CHECK-NEXT: %[[NONE:.*]] = arith.constant 0xFF800000 : f32
// CHECK-NEXT: scf.yield %[[NONE]]
// CHECK: moe.dispatch ids(%[[IDS]]
// CHECK: return %[[W]], %[[IDS]],
func.func @selected(%logits: tensor<?x4xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>,
    %o: tensor<5xi32>, %s: tensor<?x2xi32>) -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>) {
  %weights, %ids = moe.gate score(softmax) scope(selected) ins(%logits : tensor<?x4xf32>)
      outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  %offsets, %slots = moe.dispatch ids(%ids : tensor<?x2xi32>)
      outs(%o, %s : tensor<5xi32>, tensor<?x2xi32>)
  return %weights, %ids, %offsets : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>
}

// Elsewhere 0. The bias, which only selects, is not needed.
// CHECK-LABEL: func.func @biased(
// CHECK-SAME: %[[BIAS:[^ ]*]]: tensor<4xf32>, %[[IDS:[^ ]*]]: tensor<?x2xi32> {moe.name = "replay_ids0"})
// CHECK-NOT: %[[BIAS]]
// CHECK: } else {
// CHECK-NEXT: %[[NONE:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT: scf.yield %[[NONE]]
// CHECK-NOT: %[[BIAS]]
// CHECK: moe.plan ids(%[[IDS]]
func.func @biased(%logits: tensor<?x4xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>,
    %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<?xi32>, %b: tensor<4xf32>)
    -> (tensor<?x2xf32>, tensor<5xi32>) {
  %weights, %ids = moe.gate score(sigmoid) renormalize<> scale(2.5)
      ins(%logits : tensor<?x4xf32>) bias(%b : tensor<4xf32>)
      outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %offsets : tensor<?x2xf32>, tensor<5xi32>
}

// Two dispatches of one gate have one argument; another layer has its own.
// CHECK-LABEL: func.func @shared(
// CHECK-SAME: %[[IDS:[^ ]*]]: tensor<?x2xi32> {moe.name = "replay_ids0"}, %[[OTHER:[^ ]*]]: tensor<?x1xi32> {moe.name = "replay_ids2"})
// CHECK: moe.dispatch ids(%[[IDS]]
// CHECK: moe.dispatch ids(%[[IDS]]
// CHECK: moe.dispatch ids(%[[OTHER]]
func.func @shared(%logits: tensor<?x4xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>,
    %w1: tensor<?x1xf32>, %i1: tensor<?x1xi32>,
    %o: tensor<5xi32>, %s: tensor<?x2xi32>, %s1: tensor<?x1xi32>) -> (tensor<5xi32>, tensor<5xi32>, tensor<5xi32>) {
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  %a, %as = moe.dispatch ids(%ids : tensor<?x2xi32>) outs(%o, %s : tensor<5xi32>, tensor<?x2xi32>)
  %b, %bs = moe.dispatch ids(%ids : tensor<?x2xi32>) outs(%o, %s : tensor<5xi32>, tensor<?x2xi32>)
  %weights1, %ids1 = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%w1, %i1 : tensor<?x1xf32>, tensor<?x1xi32>)
  %c, %cs = moe.dispatch ids(%ids1 : tensor<?x1xi32>) outs(%o, %s1 : tensor<5xi32>, tensor<?x1xi32>)
  return %a, %b, %c : tensor<5xi32>, tensor<5xi32>, tensor<5xi32>
}

// Ids of a table: replaced wherever they are read; the weights are whatever the function makes of them.
// REMARK: remark: [Missed] the weights are not those of the replayed ids | Category:moe-replay-ids | Function=table
// REMARK-SAME: the ids are not those of one gate
// CHECK-LABEL: func.func @table(
// CHECK-SAME: %[[IDS:[^ ]*]]: tensor<?x1xi32> {moe.name = "replay_ids0"})
// CHECK: moe.dispatch ids(%[[IDS]]
// CHECK: return %{{.*}}, %[[IDS]]
func.func @table(%words: tensor<?x1xi32>, %o: tensor<5xi32>, %s: tensor<?x1xi32>)
    -> (tensor<5xi32>, tensor<?x1xi32>) {
  %ids = arith.addi %words, %words : tensor<?x1xi32>
  %offsets, %slots = moe.dispatch ids(%ids : tensor<?x1xi32>)
      outs(%o, %s : tensor<5xi32>, tensor<?x1xi32>)
  return %offsets, %ids : tensor<5xi32>, tensor<?x1xi32>
}

// REMARK: remark: [Missed] ids are not replayed | Category:moe-replay-ids | Function=argument
// REMARK-SAME: they are an argument already
// REMARK-SAME: pass the recorded ids for it
// CHECK-LABEL: func.func @argument(
// CHECK-NOT: replay_ids
// CHECK: return
func.func @argument(%ids: tensor<?x1xi32>, %o: tensor<5xi32>, %s: tensor<?x1xi32>) -> tensor<5xi32> {
  %offsets, %slots = moe.dispatch ids(%ids : tensor<?x1xi32>)
      outs(%o, %s : tensor<5xi32>, tensor<?x1xi32>)
  return %offsets : tensor<5xi32>
}

// The other reasons are those of moe-instrument; its test has them all.
// REMARK: remark: [Missed] ids are not replayed | Category:moe-replay-ids | Function=in_branch
// REMARK-SAME: it is inside a loop or branch
// CHECK-LABEL: func.func @in_branch(
// CHECK-NOT: replay_ids
// CHECK: return
func.func @in_branch(%c: i1, %ids: tensor<?x1xi32>, %o: tensor<5xi32>, %s: tensor<?x1xi32>) -> tensor<5xi32> {
  %r = scf.if %c -> (tensor<5xi32>) {
    %offsets, %slots = moe.dispatch ids(%ids : tensor<?x1xi32>)
        outs(%o, %s : tensor<5xi32>, tensor<?x1xi32>)
    scf.yield %offsets : tensor<5xi32>
  } else {
    scf.yield %o : tensor<5xi32>
  }
  return %r : tensor<5xi32>
}
