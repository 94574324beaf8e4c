// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-instrument{statistics=tokens,choices,contribution,ids})' \
// RUN:     --remarks-filter-missed=moe-instrument 2>%t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK < %t.remarks

// Nothing is made that nobody asked for.
// RUN: moe-opt %s > %t.plain.mlir
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-instrument)' | diff %t.plain.mlir -
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-instrument{statistics=ids})' | FileCheck %s --check-prefix=TRACE

// RUN: not moe-opt %s --pass-pipeline='builtin.module(moe-instrument{statistics=tokens,load})' 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: error: moe-instrument has no statistic 'load'; there are tokens, choices, contribution and ids

// What is counted keeps nothing from being fused; norms need rows that are stored.
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-instrument{statistics=tokens,choices,ids},moe-fuse)' \
// RUN:     --remarks-filter-missed=moe-fuse-combine 2>%t.counts.remarks | FileCheck %s --check-prefix=FUSED
// RUN: count 0 < %t.counts.remarks
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-instrument{statistics=contribution},moe-fuse)' \
// RUN:     --remarks-filter-missed=moe-fuse-combine 2>&1 | FileCheck %s --check-prefix=STORED

// CHECK-LABEL: func.func @layer(
// CHECK-SAME: -> (tensor<?x8xf32>, tensor<4xi64> {moe.name = "stats0.tokens"},
// CHECK-SAME: tensor<3xi64> {moe.name = "stats0.choices"},
// CHECK-SAME: tensor<4xf64> {moe.name = "stats0.contribution"}, tensor<?x2xi32> {moe.name = "stats0.ids"})
// CHECK: %[[W:.*]], %[[IDS:.*]] = moe.gate
// CHECK: %[[O:.*]], %[[S:.*]], %{{.*}} = moe.dispatch
// CHECK: %[[Y:.*]] = moe.combine rows(%[[ROWS:[^ ]*]]

// Rows: the difference of neighbours among the offsets.
// CHECK: %[[TOKENS:.*]] = linalg.generic
// CHECK: %[[E:.*]] = linalg.index 0
// CHECK: %[[NEXT:.*]] = arith.addi %[[E]], %{{.*}}
// CHECK: %[[BEGIN:.*]] = tensor.extract %[[O]][%[[E]]]
// CHECK: %[[END:.*]] = tensor.extract %[[O]][%[[NEXT]]]
// CHECK: arith.subi %[[END]], %[[BEGIN]]

// Choices: routed by the offsets, nowhere by the ids, dropped are the others.
// CHECK: %[[NOWHERE:.*]] = scf.for
// CHECK: tensor.extract %[[IDS]]
// CHECK: arith.cmpi uge
// CHECK: %[[CHOICES:.*]] = tensor.from_elements %{{.*}}, %{{.*}}, %[[NOWHERE]]

// Norms: only rows that slots name are read.
// CHECK: scf.for %[[T:[^ ]*]] =
// CHECK: scf.for %[[J:[^ ]*]] =
// CHECK: %[[SLOT:.*]] = tensor.extract %[[S]][%[[T]], %[[J]]]
// CHECK: %[[HAS:.*]] = arith.cmpi sge, %[[SLOT]]
// CHECK: scf.if %[[HAS]]
// CHECK: tensor.extract %[[W]][%[[T]], %[[J]]]
// CHECK: tensor.extract %[[ROWS]]
// CHECK: %[[NORMS:.*]] = linalg.generic
// CHECK: math.sqrt
// CHECK: return %[[Y]], %[[TOKENS]], %[[CHOICES]], %[[NORMS]], %[[IDS]]

// TRACE-LABEL: func.func @layer(
// TRACE-SAME: -> (tensor<?x8xf32>, tensor<?x2xi32> {moe.name = "stats0.ids"})
// TRACE-NOT: scf.for
// TRACE: return

// FUSED-LABEL: func.func @layer(
// FUSED: %{{.*}}, %[[IDS:.*]], %[[O:.*]], %[[S:.*]], %{{.*}} = moe.route
// FUSED: moe.grouped_matmul
// FUSED-SAME: combine(%[[S]]
// FUSED-NOT: moe.combine
// FUSED: return
// STORED: remark: [Missed] rows are stored | Category:moe-fuse-combine | Function=layer
// STORED-SAME: something else reads the rows
// STORED-LABEL: func.func @layer(
// STORED: moe.route
// STORED: moe.combine

#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>

func.func @layer(%x: tensor<?x8xf32>, %router: tensor<4x8xf32>, %w: tensor<4x8x8xf32>)
    -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : tensor<?x8xf32>, tensor<4x8xf32>) outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?x8xf32>
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xf32>)
      outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
  %ys = moe.expert offsets(%offsets : tensor<5xi32>) rows(%rows : tensor<?x8xf32>)
      params(%w : tensor<4x8x8xf32>) outs(%re : tensor<?x8xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x8xf32>, %m: tensor<8x8xf32>):
    %n = tensor.dim %xe, %c0 : tensor<?x8xf32>
    %e = tensor.empty(%n) : tensor<?x8xf32>
    %z = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
    %r = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %m : tensor<?x8xf32>, tensor<8x8xf32>) outs(%z : tensor<?x8xf32>) -> tensor<?x8xf32>
    moe.yield %r : tensor<?x8xf32>
  }
  %ye = tensor.empty(%T) : tensor<?x8xf32>
  %y = moe.combine rows(%ys : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%ye : tensor<?x8xf32>)
  return %y : tensor<?x8xf32>
}

// Two layers, counted from 0; the second's rows are added nowhere. A size that is hidden stays so.
// REMARK: remark: [Missed] no contribution norms | Category:moe-instrument | Function=two
// REMARK-SAME: 0 combines at the top level read the slots
// CHECK-LABEL: func.func @two(
// CHECK-SAME: tensor<4xf64> {moe.name = "stats0.contribution"}
// CHECK-SAME: tensor<?xi64> {moe.name = "stats1.tokens"}, tensor<3xi64> {moe.name = "stats1.choices"}, tensor<?x1xi32> {moe.name = "stats1.ids"})
func.func @two(%ids: tensor<?x2xi32>, %rows: tensor<?x8xbf16>, %weights: tensor<?x2xbf16>,
    %o: tensor<5xi32>, %s: tensor<?x2xi32>, %src: tensor<?xi32>, %y: tensor<?x8xbf16>,
    %ids1: tensor<?x1xi32>, %o1: tensor<?xi32>, %s1: tensor<?x1xi32>)
    -> (tensor<?x8xbf16>, tensor<?xi32>) {
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o, %s, %src : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %sum = moe.combine rows(%rows : tensor<?x8xbf16>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xbf16>) outs(%y : tensor<?x8xbf16>)
  %offsets1, %slots1 = moe.dispatch ids(%ids1 : tensor<?x1xi32>)
      outs(%o1, %s1 : tensor<?xi32>, tensor<?x1xi32>)
  return %sum, %offsets1 : tensor<?x8xbf16>, tensor<?xi32>
}

// REMARK: Function=called
// REMARK-SAME: the function is called by others
// REMARK-SAME: inline it first
// CHECK-LABEL: func.func private @called(
// CHECK-SAME: -> tensor<5xi32> {
func.func private @called(%ids: tensor<?x2xi32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>) -> tensor<5xi32> {
  %offsets, %slots = moe.dispatch ids(%ids : tensor<?x2xi32>)
      outs(%o, %s : tensor<5xi32>, tensor<?x2xi32>)
  return %offsets : tensor<5xi32>
}
func.func @caller(%ids: tensor<?x2xi32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>) -> tensor<5xi32> {
  %offsets = func.call @called(%ids, %o, %s) : (tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>) -> tensor<5xi32>
  return %offsets : tensor<5xi32>
}

// REMARK: Function=blocks
// REMARK-SAME: 2 blocks in the function
// REMARK-SAME: write its control flow with scf
// CHECK-LABEL: func.func @blocks(
// CHECK-SAME: -> tensor<5xi32> {
func.func @blocks(%ids: tensor<?x2xi32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>) -> tensor<5xi32> {
  %offsets, %slots = moe.dispatch ids(%ids : tensor<?x2xi32>)
      outs(%o, %s : tensor<5xi32>, tensor<?x2xi32>)
  cf.br ^bb1
^bb1:
  return %offsets : tensor<5xi32>
}

// REMARK: Function=in_loop
// REMARK-SAME: it is inside a loop or branch
// REMARK-SAME: make it a function of its own
// CHECK-LABEL: func.func @in_loop(
// CHECK-SAME: -> tensor<5xi32> {
func.func @in_loop(%n: index, %ids: tensor<?x2xi32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>) -> tensor<5xi32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%a = %o) -> (tensor<5xi32>) {
    %offsets, %slots = moe.dispatch ids(%ids : tensor<?x2xi32>)
        outs(%a, %s : tensor<5xi32>, tensor<?x2xi32>)
    scf.yield %offsets : tensor<5xi32>
  }
  return %r : tensor<5xi32>
}

// REMARK: Function=buffers
// REMARK-SAME: it is on memrefs
// REMARK-SAME: run this pass before bufferization
func.func @buffers(%ids: memref<?x2xi32>, %o: memref<5xi32>, %s: memref<?x2xi32>) {
  moe.dispatch ids(%ids : memref<?x2xi32>) outs(%o, %s : memref<5xi32>, memref<?x2xi32>)
  return
}

// REMARK: Function=gate_alone
// REMARK-SAME: nothing is dispatched to experts
// CHECK-LABEL: func.func @gate_alone(
// CHECK-SAME: -> tensor<?x2xf32> {
func.func @gate_alone(%logits: tensor<?x4xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>) -> tensor<?x2xf32> {
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  return %weights : tensor<?x2xf32>
}

// Two sums of the same rows: which weights are meant?
// REMARK: Function=two_sums
// REMARK-SAME: 2 combines at the top level read the slots
func.func @two_sums(%ids: tensor<?x2xi32>, %rows: tensor<?x8xf32>, %v: tensor<?x2xf32>, %w: tensor<?x2xf32>,
    %o: tensor<5xi32>, %s: tensor<?x2xi32>, %y: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %offsets, %slots = moe.dispatch ids(%ids : tensor<?x2xi32>)
      outs(%o, %s : tensor<5xi32>, tensor<?x2xi32>)
  %a = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%v : tensor<?x2xf32>) outs(%y : tensor<?x8xf32>)
  %b = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%w : tensor<?x2xf32>) outs(%y : tensor<?x8xf32>)
  return %a, %b : tensor<?x8xf32>, tensor<?x8xf32>
}

// After fusion there is nothing left to instrument.
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-fuse,moe-instrument{statistics=tokens})' \
// RUN:     --remarks-filter-missed=moe-instrument 2>&1 | FileCheck %s --check-prefix=LATE
// LATE: remark: [Missed] no statistics | Category:moe-instrument | Function=layer
// LATE-SAME: the routing is fused already
// LATE-SAME: run this pass before moe-fuse
// LATE-LABEL: func.func @layer(
// LATE-SAME: -> tensor<?x8xf32> {

// A function without moe ops, and one without a body, are none of its business.
// CHECK-LABEL: func.func @other(
func.func @other(%x: f32) -> f32 {
  return %x : f32
}
func.func private @extern(tensor<4xf32>) -> tensor<4xf32>
