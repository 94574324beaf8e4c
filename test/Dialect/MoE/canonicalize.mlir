// Each pattern of MoECanonicalization.cpp fires, and stays away where it must.

// RUN: moe-opt %s --canonicalize --split-input-file | FileCheck %s

//===----------------------------------------------------------------------===//
// Static shapes from operands
//===----------------------------------------------------------------------===//

// T comes from logits, k of the weights from ids.
// CHECK-LABEL: func @sharpen_gate
func.func @sharpen_gate(%l: tensor<16x64xf32>, %w: tensor<?x?xf32>, %i: tensor<?x8xi32>)
    -> (tensor<?x?xf32>, tensor<?x8xi32>) {
  // CHECK-DAG: %[[W:.*]] = tensor.cast %arg1 : tensor<?x?xf32> to tensor<16x8xf32>
  // CHECK-DAG: %[[I:.*]] = tensor.cast %arg2 : tensor<?x8xi32> to tensor<16x8xi32>
  // CHECK: %[[WEIGHTS:.*]], %[[IDS:.*]] = moe.gate {{.*}} outs(%[[W]], %[[I]] : tensor<16x8xf32>, tensor<16x8xi32>)
  // CHECK-DAG: tensor.cast %[[WEIGHTS]] : tensor<16x8xf32> to tensor<?x?xf32>
  // CHECK-DAG: tensor.cast %[[IDS]] : tensor<16x8xi32> to tensor<?x8xi32>
  %0:2 = moe.gate score(softmax) ins(%l : tensor<16x64xf32>)
      outs(%w, %i : tensor<?x?xf32>, tensor<?x8xi32>)
  return %0#0, %0#1 : tensor<?x?xf32>, tensor<?x8xi32>
}

// -----
// Slots have the shape of ids, rows the inner sizes of their payload, and all the same M.
// CHECK-LABEL: func @sharpen_dispatch
func.func @sharpen_dispatch(%ids: tensor<16x2xi32>, %x: tensor<16x8xf32>, %g: tensor<16x2x3xf32>,
                            %o: tensor<5xi32>, %s: tensor<?x?xi32>, %rx: tensor<32x?xf32>,
                            %rg: tensor<?x?xf32>) -> (tensor<?x?xi32>, tensor<32x?xf32>, tensor<?x?xf32>) {
  // CHECK: moe.dispatch {{.*}} : tensor<5xi32>, tensor<16x2xi32>, tensor<32x8xf32>, tensor<32x3xf32>)
  %0:4 = moe.dispatch ids(%ids : tensor<16x2xi32>) tokens(%x : tensor<16x8xf32>)
      choices(%g : tensor<16x2x3xf32>)
      outs(%o, %s, %rx, %rg : tensor<5xi32>, tensor<?x?xi32>, tensor<32x?xf32>, tensor<?x?xf32>)
  return %0#1, %0#2, %0#3 : tensor<?x?xi32>, tensor<32x?xf32>, tensor<?x?xf32>
}

// -----
// M comes from row values, E from offsets, inner sizes from what is yielded.
// CHECK-LABEL: func @sharpen_expert
func.func @sharpen_expert(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x3xf32>,
                          %y: tensor<?x?xf32>, %dw: tensor<?x?xf32>) -> (tensor<?x?xf32>, tensor<?x?xf32>) {
  // CHECK: moe.expert {{.*}} : tensor<32x8xf32>, tensor<4x3xf32>) {
  %0:2 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<32x8xf32>)
      params(%w : tensor<4x3xf32>) outs(%y, %dw : tensor<?x?xf32>, tensor<?x?xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>, %we: tensor<3xf32>):
    moe.yield %xe, %we : tensor<?x8xf32>, tensor<3xf32>
  }
  return %0#0, %0#1 : tensor<?x?xf32>, tensor<?x?xf32>
}

// -----
// CHECK-LABEL: func @sharpen_combine
func.func @sharpen_combine(%r: tensor<?x8xf32>, %s: tensor<16x2xi32>, %w: tensor<16x2xf32>,
                           %y: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // CHECK: moe.combine {{.*}} outs(%{{.*}} : tensor<16x8xf32>)
  %0 = moe.combine rows(%r : tensor<?x8xf32>) slots(%s : tensor<16x2xi32>)
      weights(%w : tensor<16x2xf32>) outs(%y : tensor<?x?xf32>)
  return %0 : tensor<?x?xf32>
}

// -----
// M comes from source or from rows that are read, N from another destination; with combine, T comes
// from slots and N from the base.
// CHECK-LABEL: func @sharpen_grouped_matmul
func.func @sharpen_grouped_matmul(%o: tensor<5xi32>, %s: tensor<32xi32>, %x: tensor<?x8xf32>,
                                  %h: tensor<32x8xf32>, %w: tensor<4x6x8xf32>, %sl: tensor<16x2xi32>,
                                  %g: tensor<16x2xf32>, %b: tensor<?x6xf32>, %y: tensor<?x?xf32>,
                                  %z: tensor<?x6xf32>)
    -> (tensor<?x?xf32>, tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x?xf32>) {
  // CHECK: moe.grouped_matmul {{.*}} : tensor<32x6xf32>, tensor<32x6xf32>) {
  %0:2 = moe.grouped_matmul offsets(%o : tensor<5xi32>) source(%s : tensor<32xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x6x8xf32>)
      outs(%y, %z : tensor<?x?xf32>, tensor<?x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p, %p : f32, f32
  }
  // CHECK: moe.grouped_matmul {{.*}} outs(%{{.*}} : tensor<32x6xf32>) {
  %1 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%h[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>) outs(%z : tensor<?x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  // CHECK: moe.grouped_matmul {{.*}} outs(%{{.*}} : tensor<16x6xf32>) {
  %2 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%h[m, k] * %w[e, n, k] : tensor<32x8xf32>, tensor<4x6x8xf32>)
      combine(%sl : tensor<16x2xi32>, %g : tensor<16x2xf32>) base(%b : tensor<?x6xf32>)
      outs(%y : tensor<?x?xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %0#0, %0#1, %1, %2 : tensor<?x?xf32>, tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x?xf32>
}

// -----
// Casts of operands and destinations go into the op; a cast to more static sizes stays.
// CHECK-LABEL: func @casts_into_grouped_matmul
func.func @casts_into_grouped_matmul(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x6x8xf32>,
                                     %v: tensor<?x6x8xf32>, %y: tensor<32x6xf32>) -> tensor<?x6xf32> {
  // CHECK-NEXT: %[[V:.*]] = tensor.cast %arg3 : tensor<?x6x8xf32> to tensor<4x6x8xf32>
  // CHECK-NEXT: %[[Y:.*]] = moe.grouped_matmul offsets(%arg0 : tensor<5xi32>)
  // CHECK-SAME: products(%arg1[m, k] * %arg2[e, n, k] + %arg1[m, k] * %[[V]][e, n, k] :
  // CHECK-SAME: outs(%arg4 : tensor<32x6xf32>) {
  // CHECK: %[[CAST:.*]] = tensor.cast %[[Y]] : tensor<32x6xf32> to tensor<?x6xf32>
  // CHECK-NEXT: return %[[CAST]]
  %o1 = tensor.cast %o : tensor<5xi32> to tensor<?xi32>
  %x1 = tensor.cast %x : tensor<32x8xf32> to tensor<?x?xf32>
  %w1 = tensor.cast %w : tensor<4x6x8xf32> to tensor<?x6x8xf32>
  %v1 = tensor.cast %v : tensor<?x6x8xf32> to tensor<4x6x8xf32>
  %y1 = tensor.cast %y : tensor<32x6xf32> to tensor<?x6xf32>
  %0 = moe.grouped_matmul offsets(%o1 : tensor<?xi32>)
      products(%x1[m, k] * %w1[e, n, k] + %x1[m, k] * %v1[e, n, k]
               : tensor<?x?xf32>, tensor<?x6x8xf32>, tensor<?x?xf32>, tensor<4x6x8xf32>)
      outs(%y1 : tensor<?x6xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %0 : tensor<?x6xf32>
}

// -----
// Weights say nothing about a destination: they may be stacked, or longer than needed.
// CHECK-LABEL: func @nothing_to_sharpen_in_grouped_matmul
// CHECK-NOT: cast
func.func @nothing_to_sharpen_in_grouped_matmul(%o: tensor<5xi32>, %x: tensor<?x8xf32>,
                                                %w: tensor<4x6x8xf32>, %y: tensor<?x?xf32>)
    -> tensor<?x?xf32> {
  %0 = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x6x8xf32>) outs(%y : tensor<?x?xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %0 : tensor<?x?xf32>
}

// -----
// Nothing is known, or the destination knows it already, or it is a buffer.
// CHECK-LABEL: func @nothing_to_sharpen
// CHECK-NOT: cast
func.func @nothing_to_sharpen(%l: tensor<?x?xf32>, %w: tensor<16x8xf32>, %i: tensor<16x8xi32>,
                              %r: memref<?x8xf32>, %s: memref<16x2xi32>, %k: memref<16x2xf32>,
                              %y: memref<?x?xf32>) -> tensor<16x8xf32> {
  %0:2 = moe.gate score(softmax) ins(%l : tensor<?x?xf32>)
      outs(%w, %i : tensor<16x8xf32>, tensor<16x8xi32>)
  moe.combine rows(%r : memref<?x8xf32>) slots(%s : memref<16x2xi32>)
      weights(%k : memref<16x2xf32>) outs(%y : memref<?x?xf32>)
  return %0#0 : tensor<16x8xf32>
}

// -----
// The arguments of the body take the sizes of their operands; what is yielded passes them on
// to the destination. The number of rows of one expert stays unknown.
// CHECK-LABEL: func @sharpen_body
func.func @sharpen_body(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x3x8xf32>,
                        %y: tensor<?x?xf32>, %dw: tensor<4x?x?xf32>) -> (tensor<?x?xf32>, tensor<4x?x?xf32>) {
  // CHECK: moe.expert {{.*}} : tensor<32x8xf32>, tensor<4x3x8xf32>) {
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %[[X:.*]]: tensor<?x8xf32>, %[[W:.*]]: tensor<3x8xf32>):
  // CHECK-NEXT: moe.yield %[[X]], %[[W]] : tensor<?x8xf32>, tensor<3x8xf32>
  %0:2 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<32x8xf32>)
      params(%w : tensor<4x3x8xf32>) outs(%y, %dw : tensor<?x?xf32>, tensor<4x?x?xf32>) {
  ^bb0(%e: index, %xe: tensor<?x?xf32>, %we: tensor<?x?xf32>):
    moe.yield %xe, %we : tensor<?x?xf32>, tensor<?x?xf32>
  }
  return %0#0, %0#1 : tensor<?x?xf32>, tensor<4x?x?xf32>
}

// -----
// Rows must stay dynamic, so this cast stays; a cast to more is no loss and stays, too.
// CHECK-LABEL: func @keep_casts_in_yield
func.func @keep_casts_in_yield(%o: tensor<5xi32>, %x: tensor<?x?xf32>, %six: tensor<6x8xf32>,
                               %y: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  // CHECK: %[[A:.*]] = tensor.cast %{{.*}} : tensor<6x8xf32> to tensor<?x8xf32>
  // CHECK: %[[B:.*]] = tensor.cast %{{.*}} : tensor<?x?xf32> to tensor<?x8xf32>
  // CHECK: moe.yield %[[A]], %[[B]]
  %0:2 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x?xf32>)
      outs(%y, %y : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x?xf32>):
    %a = tensor.cast %six : tensor<6x8xf32> to tensor<?x8xf32>
    %b = tensor.cast %xe : tensor<?x?xf32> to tensor<?x8xf32>
    moe.yield %a, %b : tensor<?x8xf32>, tensor<?x8xf32>
  }
  return %0#0, %0#1 : tensor<?x8xf32>, tensor<?x8xf32>
}

// -----
// tensor.cast in front of an op: the tensor dialect's own pattern for destination style.
// CHECK-LABEL: func @casts_of_operands
func.func @casts_of_operands(%o: tensor<5xi32>, %x: tensor<32x8xf32>, %w: tensor<4x8xf32>,
                             %y: tensor<32x8xf32>) -> tensor<?x?xf32> {
  %od = tensor.cast %o : tensor<5xi32> to tensor<?xi32>
  %xd = tensor.cast %x : tensor<32x8xf32> to tensor<?x?xf32>
  %wd = tensor.cast %w : tensor<4x8xf32> to tensor<?x?xf32>
  %yd = tensor.cast %y : tensor<32x8xf32> to tensor<?x?xf32>
  // CHECK: %[[Y:.*]] = moe.expert offsets(%arg0 : tensor<5xi32>) rows(%arg1 : tensor<32x8xf32>)
  // CHECK-SAME: params(%arg2 : tensor<4x8xf32>) outs(%arg3 : tensor<32x8xf32>) {
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %[[XE:.*]]: tensor<?x8xf32>, %[[WE:.*]]: tensor<8xf32>):
  // CHECK-NEXT: linalg.generic {{.*}} ins(%[[WE]] : tensor<8xf32>) outs(%[[XE]] : tensor<?x8xf32>)
  // CHECK: %[[CAST:.*]] = tensor.cast %[[Y]] : tensor<32x8xf32> to tensor<?x?xf32>
  // CHECK: return %[[CAST]]
  %0 = moe.expert offsets(%od : tensor<?xi32>) rows(%xd : tensor<?x?xf32>)
      params(%wd : tensor<?x?xf32>) outs(%yd : tensor<?x?xf32>) {
  ^bb0(%e: index, %xe: tensor<?x?xf32>, %we: tensor<?xf32>):
    %sum = linalg.generic {
        indexing_maps = [affine_map<(m, n) -> (n)>, affine_map<(m, n) -> (m, n)>],
        iterator_types = ["parallel", "parallel"]}
        ins(%we : tensor<?xf32>) outs(%xe : tensor<?x?xf32>) {
    ^bb0(%a: f32, %b: f32):
      %s = arith.addf %a, %b : f32
      linalg.yield %s : f32
    } -> tensor<?x?xf32>
    moe.yield %sum : tensor<?x?xf32>
  }
  return %0 : tensor<?x?xf32>
}

//===----------------------------------------------------------------------===//
// Attributes and operands without effect
//===----------------------------------------------------------------------===//

// -----
// CHECK-LABEL: func @groups
func.func @groups(%l: tensor<?x8xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>)
    -> (tensor<?x2xf32>, tensor<?x2xf32>) {
  // All kept: no limit.
  // CHECK: moe.gate score(sigmoid) ins
  %0:2 = moe.gate score(sigmoid) groups<count = 4, keep = 4>
      ins(%l : tensor<?x8xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  // CHECK: moe.gate score(sigmoid) groups<count = 4, keep = 3> ins
  %1:2 = moe.gate score(sigmoid) groups<count = 4, keep = 3>
      ins(%l : tensor<?x8xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  return %0#0, %1#0 : tensor<?x2xf32>, tensor<?x2xf32>
}

// -----
// CHECK-LABEL: func @bias
func.func @bias(%l: tensor<?x2xf32>, %b: tensor<2xf32>, %w: tensor<?x1xf32>, %i: tensor<?x1xi32>)
    -> (tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>) {
  // CHECK-DAG: %[[SMALL:.*]] = arith.constant dense<[0.000000e+00, 1.000000e-30]>
  %zeros = arith.constant dense<0.0> : tensor<2xf32>
  %small = arith.constant dense<[0.0, 1.0e-30]> : tensor<2xf32>
  // Zeros add nothing.
  // CHECK: moe.gate score(sigmoid) ins(%arg0 : tensor<?x2xf32>) outs
  %0:2 = moe.gate score(sigmoid) ins(%l : tensor<?x2xf32>) bias(%zeros : tensor<2xf32>)
      outs(%w, %i : tensor<?x1xf32>, tensor<?x1xi32>)
  // CHECK: bias(%[[SMALL]] : tensor<2xf32>)
  %1:2 = moe.gate score(sigmoid) ins(%l : tensor<?x2xf32>) bias(%small : tensor<2xf32>)
      outs(%w, %i : tensor<?x1xf32>, tensor<?x1xi32>)
  // CHECK: bias(%arg1 : tensor<2xf32>)
  %2:2 = moe.gate score(sigmoid) ins(%l : tensor<?x2xf32>) bias(%b : tensor<2xf32>)
      outs(%w, %i : tensor<?x1xf32>, tensor<?x1xi32>)
  return %0#0, %1#0, %2#0 : tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>
}

// -----
// CHECK-LABEL: func @ample_capacity
func.func @ample_capacity(%n: index, %ids: tensor<16x2xi32>, %p: tensor<16x2xf32>,
                          %o: tensor<5xi32>, %s: tensor<16x2xi32>) -> tensor<16x2xi32> {
  %c32 = arith.constant 32 : index
  // T·k = 32 choices in all: none is dropped, whatever the order.
  // CHECK-NEXT: moe.dispatch in_bounds ids(%arg1 : tensor<16x2xi32>) outs
  %0:2 = moe.dispatch in_bounds ids(%ids : tensor<16x2xi32>) capacity(%c32) order(choice_major)
      priority(%p : tensor<16x2xf32>) tokens_per_group(%n)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  return %0#1 : tensor<16x2xi32>
}

// -----
// CHECK-LABEL: func @capacity_that_may_drop
func.func @capacity_that_may_drop(%c: index, %ids: tensor<16x2xi32>, %many: tensor<?x2xi32>,
                                  %o: tensor<5xi32>, %s: tensor<16x2xi32>, %sd: tensor<?x2xi32>)
    -> (tensor<16x2xi32>, tensor<16x2xi32>, tensor<16x2xi32>, tensor<?x2xi32>) {
  %c31 = arith.constant 31 : index
  %minus = arith.constant -1 : index
  // CHECK: moe.dispatch {{.*}} capacity(%c31) outs
  %0:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) capacity(%c31)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  // CHECK: moe.dispatch {{.*}} capacity(%c-1) outs
  %1:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) capacity(%minus)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  // CHECK: moe.dispatch {{.*}} capacity(%arg0) outs
  %2:2 = moe.dispatch ids(%ids : tensor<16x2xi32>) capacity(%c)
      outs(%o, %s : tensor<5xi32>, tensor<16x2xi32>)
  // CHECK: moe.dispatch ids(%arg2 : tensor<?x2xi32>) capacity(%c31) outs
  %3:2 = moe.dispatch ids(%many : tensor<?x2xi32>) capacity(%c31)
      outs(%o, %sd : tensor<5xi32>, tensor<?x2xi32>)
  return %0#1, %1#1, %2#1, %3#1 : tensor<16x2xi32>, tensor<16x2xi32>, tensor<16x2xi32>, tensor<?x2xi32>
}

//===----------------------------------------------------------------------===//
// Unused payloads, results and arguments
//===----------------------------------------------------------------------===//

// -----
// CHECK-LABEL: func @unused_payloads
func.func @unused_payloads(%c: index, %ids: tensor<16x2xi32>, %a: tensor<16xf32>, %b: tensor<16xi64>,
                           %g: tensor<16x2xf16>, %h: tensor<16x2xbf16>, %o: tensor<5xi32>,
                           %s: tensor<16x2xi32>, %ra: tensor<32xf32>, %rb: tensor<32xi64>,
                           %rg: tensor<32xf16>, %rh: tensor<32xbf16>) -> (tensor<32xi64>, tensor<32xbf16>) {
  // CHECK: %{{.*}}, %{{.*}}, %[[B:.*]], %[[H:.*]] = moe.dispatch in_bounds ids(%arg1 : tensor<16x2xi32>)
  // CHECK-SAME: tokens(%arg3 : tensor<16xi64>) choices(%arg5 : tensor<16x2xbf16>) capacity(%arg0) order(choice_major)
  // CHECK-SAME: outs(%arg6, %arg7, %arg9, %arg11 : tensor<5xi32>, tensor<16x2xi32>, tensor<32xi64>, tensor<32xbf16>) {test.note = "kept"}
  %0:6 = moe.dispatch in_bounds ids(%ids : tensor<16x2xi32>)
      tokens(%a, %b : tensor<16xf32>, tensor<16xi64>)
      choices(%g, %h : tensor<16x2xf16>, tensor<16x2xbf16>) capacity(%c) order(choice_major)
      outs(%o, %s, %ra, %rb, %rg, %rh : tensor<5xi32>, tensor<16x2xi32>, tensor<32xf32>,
           tensor<32xi64>, tensor<32xf16>, tensor<32xbf16>) {test.note = "kept"}
  // CHECK: return %[[B]], %[[H]]
  return %0#3, %0#5 : tensor<32xi64>, tensor<32xbf16>
}

// -----
// A row value in memory is an effect.
// CHECK-LABEL: func @payloads_in_memory
func.func @payloads_in_memory(%ids: memref<16x2xi32>, %a: memref<16xf32>, %o: memref<5xi32>,
                              %s: memref<16x2xi32>, %r: memref<32xf32>) {
  // CHECK: moe.dispatch {{.*}} tokens(%arg1
  moe.dispatch ids(%ids : memref<16x2xi32>) tokens(%a : memref<16xf32>)
      outs(%o, %s, %r : memref<5xi32>, memref<16x2xi32>, memref<32xf32>)
  return
}

// -----
// The middle result is not used, and so neither is what computes it.
// CHECK-LABEL: func @unused_results
func.func @unused_results(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x8xf32>,
                          %y: tensor<?x8xf32>, %z: tensor<?x8xf32>, %dw: tensor<4x8xf32>)
    -> (tensor<?x8xf32>, tensor<4x8xf32>) {
  // CHECK: %[[Y:.*]], %[[DW:.*]] = moe.expert offsets(%arg0 : tensor<5xi32>) rows(%arg1 : tensor<?x8xf32>)
  // CHECK-SAME: params(%arg2 : tensor<4x8xf32>)
  // CHECK-SAME: outs(%arg3, %arg5 : tensor<?x8xf32>, tensor<4x8xf32>) attributes {test.note = "kept"} {
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %[[XE:.*]]: tensor<?x8xf32>, %[[WE:.*]]: tensor<8xf32>):
  // CHECK-NEXT: moe.yield %[[XE]], %[[WE]] : tensor<?x8xf32>, tensor<8xf32>
  // CHECK: return %[[Y]], %[[DW]]
  %0:3 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>)
      params(%w : tensor<4x8xf32>)
      outs(%y, %z, %dw : tensor<?x8xf32>, tensor<?x8xf32>, tensor<4x8xf32>)
      attributes {test.note = "kept"} {
  ^bb0(%e: index, %xe: tensor<?x8xf32>, %we: tensor<8xf32>):
    %neg = arith.negf %xe : tensor<?x8xf32>
    moe.yield %xe, %neg, %we : tensor<?x8xf32>, tensor<?x8xf32>, tensor<8xf32>
  }
  return %0#0, %0#2 : tensor<?x8xf32>, tensor<4x8xf32>
}

// -----
// An operand that the body does not use goes; one that it has twice, once.
// CHECK-LABEL: func @redundant_arguments
func.func @redundant_arguments(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %g: tensor<?xf32>,
                               %w: tensor<4x8xf32>, %b: tensor<4xf32>, %y: tensor<?x8xf32>,
                               %dw: tensor<4x8xf32>) -> (tensor<?x8xf32>, tensor<4x8xf32>) {
  // CHECK: moe.expert offsets(%arg0 : tensor<5xi32>) rows(%arg1 : tensor<?x8xf32>)
  // CHECK-SAME: params(%arg3 : tensor<4x8xf32>) outs(%arg5, %arg6
  // CHECK-NEXT: ^bb0(%{{.*}}: index, %[[X:.*]]: tensor<?x8xf32>, %[[W:.*]]: tensor<8xf32>):
  // CHECK-NEXT: %[[S:.*]] = arith.addf %[[X]], %[[X]]
  // CHECK-NEXT: moe.yield %[[S]], %[[W]]
  %0:2 = moe.expert offsets(%o : tensor<5xi32>)
      rows(%x, %g, %x : tensor<?x8xf32>, tensor<?xf32>, tensor<?x8xf32>)
      params(%b, %w, %w : tensor<4xf32>, tensor<4x8xf32>, tensor<4x8xf32>)
      outs(%y, %dw : tensor<?x8xf32>, tensor<4x8xf32>) {
  ^bb0(%e: index, %x0: tensor<?x8xf32>, %ge: tensor<?xf32>, %x1: tensor<?x8xf32>,
       %be: tensor<f32>, %w0: tensor<8xf32>, %w1: tensor<8xf32>):
    %sum = arith.addf %x0, %x1 : tensor<?x8xf32>
    moe.yield %sum, %w1 : tensor<?x8xf32>, tensor<8xf32>
  }
  return %0#0, %0#1 : tensor<?x8xf32>, tensor<4x8xf32>
}

// -----
// The rows of an expert and its slice of a per-expert value are not the same thing.
// CHECK-LABEL: func @same_operand_in_two_roles
func.func @same_operand_in_two_roles(%o: tensor<5xi32>, %x: tensor<4x8xf32>, %y: tensor<4x8xf32>,
                                     %dw: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>) {
  // CHECK: moe.expert {{.*}} rows(%arg1 : tensor<4x8xf32>) params(%arg1 : tensor<4x8xf32>)
  %0:2 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<4x8xf32>)
      params(%x : tensor<4x8xf32>) outs(%y, %dw : tensor<4x8xf32>, tensor<4x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>, %we: tensor<8xf32>):
    moe.yield %xe, %we : tensor<?x8xf32>, tensor<8xf32>
  }
  return %0#0, %0#1 : tensor<4x8xf32>, tensor<4x8xf32>
}

//===----------------------------------------------------------------------===//
// Dead experts
//===----------------------------------------------------------------------===//

// -----
// M = 0
// CHECK-LABEL: func @no_rows
func.func @no_rows(%o: tensor<5xi32>, %x: tensor<0x8xf32>, %y: tensor<0x8xf32>, %dw: tensor<4x8xf32>,
                   %s: tensor<8xf32>) -> (tensor<0x8xf32>, tensor<4x8xf32>) {
  // CHECK-NEXT: return %arg2, %arg3
  %0:2 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<0x8xf32>)
      outs(%y, %dw : tensor<0x8xf32>, tensor<4x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>):
    moe.yield %xe, %s : tensor<?x8xf32>, tensor<8xf32>
  }
  return %0#0, %0#1 : tensor<0x8xf32>, tensor<4x8xf32>
}

// -----
// E = 0
// CHECK-LABEL: func @no_experts
func.func @no_experts(%o: tensor<1xi32>, %x: tensor<?x8xf32>, %y: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK-NEXT: return %arg2
  %0 = moe.expert offsets(%o : tensor<1xi32>) rows(%x : tensor<?x8xf32>) outs(%y : tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>):
    moe.yield %xe : tensor<?x8xf32>
  }
  return %0 : tensor<?x8xf32>
}

// -----
// Offsets that are all equal
// CHECK-LABEL: func @empty_experts
func.func @empty_experts(%x: tensor<?x8xf32>, %y: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %o = arith.constant dense<7> : tensor<5xi32>
  // CHECK-NEXT: return %arg1
  %0 = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>) outs(%y : tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>):
    moe.yield %xe : tensor<?x8xf32>
  }
  return %0 : tensor<?x8xf32>
}

// -----
// CHECK-LABEL: func @one_expert_has_rows
func.func @one_expert_has_rows(%x: tensor<?x8xf32>, %y: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %o = arith.constant dense<[7, 7, 8]> : tensor<3xi32>
  // CHECK: moe.expert
  %0 = moe.expert offsets(%o : tensor<3xi32>) rows(%x : tensor<?x8xf32>) outs(%y : tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>):
    moe.yield %xe : tensor<?x8xf32>
  }
  return %0 : tensor<?x8xf32>
}

//===----------------------------------------------------------------------===//
// All together
//===----------------------------------------------------------------------===//

// -----
// A layer that was written for any number of tokens and is now called with 16: every size but
// the number of rows of one expert becomes static.
// CHECK-LABEL: func @layer
func.func @layer(%static: tensor<16x8xf32>, %l: tensor<16x4xf32>, %w: tensor<4x8xf32>) -> tensor<16x8xf32> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %x = tensor.cast %static : tensor<16x8xf32> to tensor<?x8xf32>
  %logits = tensor.cast %l : tensor<16x4xf32> to tensor<?x4xf32>
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %m = arith.muli %t, %c2 : index
  %w0 = tensor.empty(%t) : tensor<?x2xf32>
  %i0 = tensor.empty(%t) : tensor<?x2xi32>
  %o0 = tensor.empty() : tensor<5xi32>
  %r0 = tensor.empty(%m) : tensor<?x8xf32>
  %y0 = tensor.empty(%t) : tensor<?x8xf32>
  // CHECK-NOT: tensor.cast
  // CHECK: moe.gate score(softmax) ins(%arg1 : tensor<16x4xf32>)
  // CHECK-SAME: : tensor<16x2xf32>, tensor<16x2xi32>)
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%w0, %i0 : tensor<?x2xf32>, tensor<?x2xi32>)
  // CHECK: moe.dispatch
  // CHECK-SAME: tokens(%arg0 : tensor<16x8xf32>)
  // CHECK-SAME: : tensor<5xi32>, tensor<16x2xi32>, tensor<32x8xf32>)
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xf32>)
      outs(%o0, %i0, %r0 : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
  // CHECK: moe.expert
  // CHECK-SAME: outs(%{{.*}} : tensor<32x8xf32>)
  %y = moe.expert offsets(%offsets : tensor<5xi32>) rows(%rows : tensor<?x8xf32>)
      params(%w : tensor<4x8xf32>) outs(%r0 : tensor<?x8xf32>) {
  ^bb0(%e: index, %xe: tensor<?x8xf32>, %we: tensor<8xf32>):
    %scaled = linalg.generic {
        indexing_maps = [affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (n)>, affine_map<(m, n) -> (m, n)>],
        iterator_types = ["parallel", "parallel"]}
        ins(%xe, %we : tensor<?x8xf32>, tensor<8xf32>) outs(%xe : tensor<?x8xf32>) {
    ^bb0(%a: f32, %b: f32, %c: f32):
      %p = arith.mulf %a, %b : f32
      linalg.yield %p : f32
    } -> tensor<?x8xf32>
    moe.yield %scaled : tensor<?x8xf32>
  }
  // CHECK: %[[Y:.*]] = moe.combine
  // CHECK-SAME: outs(%{{.*}} : tensor<16x8xf32>)
  %result = moe.combine rows(%y : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%y0 : tensor<?x8xf32>)
  %out = tensor.cast %result : tensor<?x8xf32> to tensor<16x8xf32>
  // CHECK-NOT: tensor.cast
  // CHECK: return %[[Y]]
  return %out : tensor<16x8xf32>
}
