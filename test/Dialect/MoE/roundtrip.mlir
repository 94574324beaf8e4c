// Every op with every attribute and optional operand, through text, the generic form and
// bytecode.

// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --emit-bytecode | moe-opt | FileCheck %s

//===----------------------------------------------------------------------===//
// moe.gate
//===----------------------------------------------------------------------===//

// What is not written stays unwritten: defaults do not print.
// CHECK-LABEL: func @gate_defaults
func.func @gate_defaults(%l: tensor<?x64xf32>, %w: tensor<?x8xf32>, %i: tensor<?x8xi32>)
    -> (tensor<?x8xf32>, tensor<?x8xi32>) {
  // CHECK: %[[W:.*]], %[[I:.*]] = moe.gate score(softmax) ins(%arg0 : tensor<?x64xf32>) outs(%arg1, %arg2 : tensor<?x8xf32>, tensor<?x8xi32>){{$}}
  %0:2 = moe.gate score(softmax) select_on(scores) scope(all) scale(1.0)
      ins(%l : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  // CHECK: return %[[W]], %[[I]]
  return %0#0, %0#1 : tensor<?x8xf32>, tensor<?x8xi32>
}

// CHECK-LABEL: func @gate_scores
func.func @gate_scores(%l: tensor<?x64xf32>, %w: tensor<?x8xf32>, %i: tensor<?x8xi32>) {
  // CHECK: moe.gate score(softmax) scope(selected) ins
  %0:2 = moe.gate score(softmax) scope(selected)
      ins(%l : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  // CHECK: moe.gate score(sigmoid) select_on(logits) ins
  %1:2 = moe.gate score(sigmoid) select_on(logits)
      ins(%l : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  // CHECK: moe.gate score(sqrt_softplus) ins
  %2:2 = moe.gate score(sqrt_softplus)
      ins(%l : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  // CHECK: moe.gate score(none) scale(-2.500000e+00) ins
  %3:2 = moe.gate score(none) scale(-2.5)
      ins(%l : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  return
}

// CHECK-LABEL: func @gate_groups
func.func @gate_groups(%l: tensor<?x64xf32>, %w: tensor<?x8xf32>, %i: tensor<?x8xi32>) {
  // CHECK: moe.gate score(sigmoid) groups<count = 8, keep = 4> ins
  %0:2 = moe.gate score(sigmoid) groups<count = 8, keep = 4, score = max, mask = neg_inf>
      ins(%l : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  // CHECK: moe.gate score(sigmoid) groups<count = 8, keep = 4, score = top2_sum, mask = zero> ins
  %1:2 = moe.gate score(sigmoid) groups<count = 8, keep = 4, score = top2_sum, mask = zero>
      ins(%l : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  return
}

// CHECK-LABEL: func @gate_renormalize
func.func @gate_renormalize(%l: tensor<?x64xf32>, %w: tensor<?x8xf32>, %i: tensor<?x8xi32>) {
  // CHECK: moe.gate score(softmax) renormalize<> ins
  %0:2 = moe.gate score(softmax) renormalize<>
      ins(%l : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  // CHECK: moe.gate score(softmax) renormalize<eps = 1.250000e-01 : f32, mode = clamp> ins
  %1:2 = moe.gate score(softmax) renormalize<eps = 0.125 : f32, mode = clamp>
      ins(%l : tensor<?x64xf32>) outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
  return
}

// All at once, with sizes known and unknown.
// CHECK-LABEL: func @gate_everything
func.func @gate_everything(%l: tensor<16x?xf32>, %b: tensor<?xf32>, %m: tensor<16x?xf32>,
                           %w: tensor<16x?xf32>, %i: tensor<16x?xi32>) {
  // CHECK: moe.gate score(sigmoid) select_on(logits) groups<count = 2, keep = 1>
  // CHECK-SAME: renormalize<mode = clamp> scale(2.500000e+00)
  // CHECK-SAME: ins(%arg0 : tensor<16x?xf32>) bias(%arg1 : tensor<?xf32>) mix(%arg2 : tensor<16x?xf32>)
  // CHECK-SAME: outs(%arg3, %arg4 : tensor<16x?xf32>, tensor<16x?xi32>) {test.note = "kept"}
  %0:2 = moe.gate score(sigmoid) select_on(logits) groups<count = 2, keep = 1>
      renormalize<mode = clamp> scale(2.5)
      ins(%l : tensor<16x?xf32>) bias(%b : tensor<?xf32>) mix(%m : tensor<16x?xf32>)
      outs(%w, %i : tensor<16x?xf32>, tensor<16x?xi32>) {test.note = "kept"}
  return
}

// On memrefs there is no result, and any layout and memory space goes.
// CHECK-LABEL: func @gate_memref
func.func @gate_memref(%l: memref<16x64xf32, strided<[128, 1], offset: ?>>, %b: memref<64xf32>,
                       %w: memref<16x8xf32>, %i: memref<16x8xi32, 1>) {
  // CHECK-NEXT: moe.gate score(softmax) ins(%arg0 : memref<16x64xf32, strided<[128, 1], offset: ?>>)
  // CHECK-SAME: bias(%arg1 : memref<64xf32>) outs(%arg2, %arg3 : memref<16x8xf32>, memref<16x8xi32, 1>)
  moe.gate score(softmax) ins(%l : memref<16x64xf32, strided<[128, 1], offset: ?>>)
      bias(%b : memref<64xf32>) outs(%w, %i : memref<16x8xf32>, memref<16x8xi32, 1>)
  return
}

//===----------------------------------------------------------------------===//
// moe.dispatch
//===----------------------------------------------------------------------===//

// A plan alone: no payload.
// CHECK-LABEL: func @dispatch_plan
func.func @dispatch_plan(%ids: tensor<?x2xi32>, %o: tensor<5xi32>, %s: tensor<?x2xi32>) {
  // CHECK: %{{.*}}, %{{.*}} = moe.dispatch ids(%arg0 : tensor<?x2xi32>) outs(%arg1, %arg2 : tensor<5xi32>, tensor<?x2xi32>){{$}}
  %0:2 = moe.dispatch ids(%ids : tensor<?x2xi32>)
      outs(%o, %s : tensor<5xi32>, tensor<?x2xi32>)
  return
}

// Payloads of any element type, rank and number: tokens first, choices after them.
// CHECK-LABEL: func @dispatch_payloads
func.func @dispatch_payloads(%ids: tensor<?x2xi32>, %x: tensor<?x8xbf16>, %pos: tensor<?xi64>,
                             %grad: tensor<?x2x3x?xf16>, %o: tensor<?xi32>, %s: tensor<?x2xi32>,
                             %rx: tensor<?x8xbf16>, %rp: tensor<?xi64>, %rg: tensor<?x3x?xf16>) {
  // CHECK: moe.dispatch in_bounds ids(%arg0 : tensor<?x2xi32>)
  // CHECK-SAME: tokens(%arg1, %arg2 : tensor<?x8xbf16>, tensor<?xi64>)
  // CHECK-SAME: choices(%arg3 : tensor<?x2x3x?xf16>)
  // CHECK-SAME: outs(%arg4, %arg5, %arg6, %arg7, %arg8 : tensor<?xi32>, tensor<?x2xi32>, tensor<?x8xbf16>, tensor<?xi64>, tensor<?x3x?xf16>)
  %0:5 = moe.dispatch in_bounds ids(%ids : tensor<?x2xi32>)
      tokens(%x, %pos : tensor<?x8xbf16>, tensor<?xi64>)
      choices(%grad : tensor<?x2x3x?xf16>)
      outs(%o, %s, %rx, %rp, %rg : tensor<?xi32>, tensor<?x2xi32>, tensor<?x8xbf16>,
           tensor<?xi64>, tensor<?x3x?xf16>)
  return
}

// CHECK-LABEL: func @dispatch_capacity
func.func @dispatch_capacity(%c: index, %n: index, %ids: tensor<16x2xi32>, %p: tensor<16x2xf32>,
                             %o: tensor<5xi32>, %s: tensor<16x2xi32>) {
  // CHECK: moe.dispatch ids(%arg2 : tensor<16x2xi32>) capacity(%arg0) outs
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) capacity(%c) order(token_major)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  // CHECK: moe.dispatch ids(%arg2 : tensor<16x2xi32>) capacity(%arg0) order(choice_major)
  // CHECK-SAME: priority(%arg3 : tensor<16x2xf32>) tokens_per_group(%arg1) outs
  %1:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) capacity(%c) order(choice_major)
      priority(%p : tensor<16x2xf32>) tokens_per_group(%n)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return
}

// CHECK-LABEL: func @dispatch_memref
func.func @dispatch_memref(%ids: memref<?x2xi32>, %x: memref<?x8xf32, strided<[?, 1], offset: ?>>,
                           %c: index, %o: memref<5xi32>, %s: memref<?x2xi32>,
                           %r: memref<?x8xf32>) {
  // CHECK-NEXT: moe.dispatch ids(%arg0 : memref<?x2xi32>) tokens(%arg1 : memref<?x8xf32, strided<[?, 1], offset: ?>>)
  // CHECK-SAME: capacity(%arg2) outs(%arg3, %arg4, %arg5 : memref<5xi32>, memref<?x2xi32>, memref<?x8xf32>)
  moe.dispatch ids(%ids : memref<?x2xi32>)
      tokens(%x : memref<?x8xf32, strided<[?, 1], offset: ?>>) capacity(%c)
      outs(%o, %s, %r : memref<5xi32>, memref<?x2xi32>, memref<?x8xf32>)
  return
}

//===----------------------------------------------------------------------===//
// moe.expert, moe.yield
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func @expert
func.func @expert(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %init: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK: %[[Y:.*]] = moe.expert offsets(%arg0 : tensor<5xi32>) rows(%arg1 : tensor<?x8xf32>) outs(%arg2 : tensor<?x8xf32>) {
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %[[R:.*]]: tensor<?x8xf32>):
  // CHECK-NEXT: moe.yield %[[R]] : tensor<?x8xf32>
  // CHECK-NEXT: }
  %y = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>)
      outs(%init : tensor<?x8xf32>) {
  ^bb0(%e: index, %rows: tensor<?x8xf32>):
    moe.yield %rows : tensor<?x8xf32>
  }
  // CHECK: return %[[Y]]
  return %y : tensor<?x8xf32>
}

// Row values, per-expert values and results of both kinds, and a value from above.
// CHECK-LABEL: func @expert_all_kinds
func.func @expert_all_kinds(%shared: tensor<8xf32>, %o: tensor<?xi32>, %x: tensor<24x8xf32>,
                            %g: tensor<24xf32>, %w: tensor<?x8xf32>, %b: tensor<?xf32>,
                            %y: tensor<24x8xf32>, %dw: tensor<?x8xf32>, %db: tensor<?xf32>) {
  // CHECK: moe.expert offsets(%arg1 : tensor<?xi32>)
  // CHECK-SAME: rows(%arg2, %arg3 : tensor<24x8xf32>, tensor<24xf32>)
  // CHECK-SAME: params(%arg4, %arg5 : tensor<?x8xf32>, tensor<?xf32>)
  // CHECK-SAME: outs(%arg6, %arg7, %arg8 : tensor<24x8xf32>, tensor<?x8xf32>, tensor<?xf32>)
  // CHECK-SAME: attributes {test.note = "kept"} {
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %[[X:.*]]: tensor<?x8xf32>, %{{.*}}: tensor<?xf32>, %{{.*}}: tensor<8xf32>, %[[B:.*]]: tensor<f32>):
  // CHECK-NEXT: moe.yield %[[X]], %arg0, %[[B]] : tensor<?x8xf32>, tensor<8xf32>, tensor<f32>
  %0:3 = moe.expert offsets(%o : tensor<?xi32>) rows(%x, %g : tensor<24x8xf32>, tensor<24xf32>)
      params(%w, %b : tensor<?x8xf32>, tensor<?xf32>)
      outs(%y, %dw, %db : tensor<24x8xf32>, tensor<?x8xf32>, tensor<?xf32>)
      attributes {test.note = "kept"} {
  ^bb0(%e: index, %xe: tensor<?x8xf32>, %ge: tensor<?xf32>, %we: tensor<8xf32>, %be: tensor<f32>):
    moe.yield %xe, %shared, %be : tensor<?x8xf32>, tensor<8xf32>, tensor<f32>
  }
  return
}

// No row value: the body runs all the same for each expert that has rows.
// CHECK-LABEL: func @expert_without_rows
func.func @expert_without_rows(%o: tensor<5xi32>, %init: tensor<4xi32>) {
  // CHECK: moe.expert offsets(%arg0 : tensor<5xi32>) outs(%arg1 : tensor<4xi32>) {
  // CHECK-NEXT: ^bb0(%{{.*}}: index):
  %0 = moe.expert offsets(%o : tensor<5xi32>) outs(%init : tensor<4xi32>) {
  ^bb0(%e: index):
    %e32 = arith.index_cast %e : index to i32
    %slice = tensor.from_elements %e32 : tensor<i32>
    moe.yield %slice : tensor<i32>
  }
  return
}

// A terminator without operands is not written.
// CHECK-LABEL: func @expert_without_results
func.func @expert_without_results(%o: tensor<5xi32>) {
  // CHECK-NEXT: moe.expert offsets(%arg0 : tensor<5xi32>) outs() {
  // CHECK-NEXT: ^bb0(%{{.*}}: index):
  // CHECK-NEXT: }
  moe.expert offsets(%o : tensor<5xi32>) outs() {
  ^bb0(%e: index):
    moe.yield
  }
  return
}

//===----------------------------------------------------------------------===//
// moe.combine
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func @combine
func.func @combine(%r: tensor<?x8xbf16>, %s: tensor<?x2xi32>, %w: tensor<?x2xf32>,
                   %b: tensor<?x8xf16>, %y: tensor<?x8xbf16>, %z: tensor<?x8xf32>) {
  // CHECK-NEXT: %{{.*}} = moe.combine rows(%arg0 : tensor<?x8xbf16>) slots(%arg1 : tensor<?x2xi32>) weights(%arg2 : tensor<?x2xf32>) outs(%arg4 : tensor<?x8xbf16>){{$}}
  %0 = moe.combine rows(%r : tensor<?x8xbf16>) slots(%s : tensor<?x2xi32>)
      weights(%w : tensor<?x2xf32>) outs(%y : tensor<?x8xbf16>)
  // CHECK-NEXT: moe.combine {{.*}} base(%arg3 : tensor<?x8xf16>) outs(%arg5 : tensor<?x8xf32>) {test.note = "kept"}
  %1 = moe.combine rows(%r : tensor<?x8xbf16>) slots(%s : tensor<?x2xi32>)
      weights(%w : tensor<?x2xf32>) base(%b : tensor<?x8xf16>)
      outs(%z : tensor<?x8xf32>) {test.note = "kept"}
  return
}

// CHECK-LABEL: func @combine_memref
func.func @combine_memref(%r: memref<?x8xf32>, %s: memref<?x2xi32>, %w: memref<?x2xbf16>,
                          %b: memref<?x8xf32, 3>, %y: memref<?x8xf32, strided<[?, ?], offset: ?>>) {
  // CHECK-NEXT: moe.combine rows(%arg0 : memref<?x8xf32>) slots(%arg1 : memref<?x2xi32>) weights(%arg2 : memref<?x2xbf16>)
  // CHECK-SAME: base(%arg3 : memref<?x8xf32, 3>) outs(%arg4 : memref<?x8xf32, strided<[?, ?], offset: ?>>)
  moe.combine rows(%r : memref<?x8xf32>) slots(%s : memref<?x2xi32>)
      weights(%w : memref<?x2xbf16>) base(%b : memref<?x8xf32, 3>)
      outs(%y : memref<?x8xf32, strided<[?, ?], offset: ?>>)
  return
}

//===----------------------------------------------------------------------===//
// Names of tensors
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func @tensor_names
// CHECK-SAME: %arg0: tensor<?x8xf32> {moe.name = "x"}
// CHECK-SAME: %arg1: tensor<4x8xf32> {moe.name = "router", moe.param = "gate.weight"}
// CHECK-SAME: -> (tensor<?x8xf32> {moe.name = "y"})
func.func @tensor_names(%x: tensor<?x8xf32> {moe.name = "x"},
                        %r: tensor<4x8xf32> {moe.name = "router", moe.param = "gate.weight"})
    -> (tensor<?x8xf32> {moe.name = "y"}) {
  return %x : tensor<?x8xf32>
}

//===----------------------------------------------------------------------===//
// moe.plan
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func @plan
func.func @plan(%c: index, %n: index, %ids: tensor<?x2xi32>, %p: tensor<?x2xf32>,
                %o: tensor<?xi32>, %s: tensor<?x2xi32>, %r: tensor<?xi32>) {
  // CHECK: %{{.*}}, %{{.*}}, %{{.*}} = moe.plan ids(%arg2 : tensor<?x2xi32>) outs(%arg4, %arg5, %arg6 : tensor<?xi32>, tensor<?x2xi32>, tensor<?xi32>){{$}}
  %0:3 = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o, %s, %r : tensor<?xi32>, tensor<?x2xi32>, tensor<?xi32>)
  // CHECK: moe.plan ids(%arg2 : tensor<?x2xi32>) capacity(%arg0) order(choice_major)
  // CHECK-SAME: priority(%arg3 : tensor<?x2xf32>) tokens_per_group(%arg1) outs
  %1:3 = moe.plan ids(%ids : tensor<?x2xi32>) capacity(%c) order(choice_major)
      priority(%p : tensor<?x2xf32>) tokens_per_group(%n)
      outs(%o, %s, %r : tensor<?xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return
}

// CHECK-LABEL: func @plan_memref
func.func @plan_memref(%ids: memref<?x2xi32>, %o: memref<5xi32>, %s: memref<?x2xi32>,
                       %r: memref<?xi32>) {
  // CHECK-NEXT: moe.plan ids(%arg0 : memref<?x2xi32>) outs(%arg1, %arg2, %arg3 : memref<5xi32>, memref<?x2xi32>, memref<?xi32>)
  moe.plan ids(%ids : memref<?x2xi32>)
      outs(%o, %s, %r : memref<5xi32>, memref<?x2xi32>, memref<?xi32>)
  return
}
