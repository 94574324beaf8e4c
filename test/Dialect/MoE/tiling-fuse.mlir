// RUN: moe-opt %s --transform-interpreter --canonicalize --cse --split-input-file | FileCheck %s

// The columns of the result that a task has are computed by a task: rows of all tokens, 16 columns,
// then added. No range of rows is clipped.
// CHECK-LABEL: func.func @second_half(
// CHECK-SAME:    %[[OFFSETS:.*]]: tensor<5xi32>, %[[H:.*]]: tensor<12x8xf32>,
// CHECK-SAME:    %[[W:.*]]: tensor<4x64x8xf32>
// CHECK-NOT:     moe.
// CHECK:         scf.forall (%[[N:.*]]) = (0) to (64) step (16)
// CHECK:           %[[WN:.*]] = tensor.extract_slice %[[W]][0, %[[N]], 0] [4, 16, 8]
// CHECK:           %[[R:.*]] = moe.grouped_matmul offsets(%[[OFFSETS]] : tensor<5xi32>)
// CHECK-SAME:        products(%[[H]][m, k] * %[[WN]][e, n, k]
// CHECK:           moe.combine rows(%[[R]] : tensor<12x16xf32>)
// CHECK:           scf.forall.in_parallel
// CHECK-NOT:     moe.
// CHECK:         return
func.func @second_half(%offsets: tensor<5xi32>, %h: tensor<12x8xf32>, %w: tensor<4x64x8xf32>,
                       %slots: tensor<6x2xi32>, %weights: tensor<6x2xf32>, %rows: tensor<12x64xf32>,
                       %init: tensor<6x64xf32>) -> tensor<6x64xf32> {
  %r = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%h[m, k] * %w[e, n, k] : tensor<12x8xf32>, tensor<4x64x8xf32>)
      outs(%rows : tensor<12x64xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %y = moe.combine rows(%r : tensor<12x64xf32>) slots(%slots : tensor<6x2xi32>)
      weights(%weights : tensor<6x2xf32>) outs(%init : tensor<6x64xf32>)
  return %y : tensor<6x64xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.combine"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %fused, %loop = transform.structured.fuse %op tile_sizes [0, 16] {use_forall}
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// Elementwise work after rows, by rows: the tile of rows is computed where it is read.
// CHECK-LABEL: func.func @after_rows(
// CHECK-NOT:     moe.
// CHECK:         scf.for %[[M:.*]] = %{{.*}} to %c12 step %c4
// CHECK:           linalg.generic
// CHECK:             arith.subi
// CHECK:           %[[R:.*]] = moe.grouped_matmul
// CHECK-SAME:        outs(%{{.*}} : tensor<4x64xf32>)
// CHECK:           linalg.exp ins(%[[R]] : tensor<4x64xf32>)
// CHECK-NOT:     moe.
// CHECK:         return
func.func @after_rows(%offsets: tensor<5xi32>, %h: tensor<12x8xf32>, %w: tensor<4x64x8xf32>,
                      %rows: tensor<12x64xf32>, %init: tensor<12x64xf32>) -> tensor<12x64xf32> {
  %r = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%h[m, k] * %w[e, n, k] : tensor<12x8xf32>, tensor<4x64x8xf32>)
      outs(%rows : tensor<12x64xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %y = linalg.exp ins(%r : tensor<12x64xf32>) outs(%init : tensor<12x64xf32>) -> tensor<12x64xf32>
  return %y : tensor<12x64xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["linalg.exp"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %fused, %loop = transform.structured.fuse %op tile_sizes [4]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// The gate of the tokens that are read.
// CHECK-LABEL: func.func @by_tokens(
// CHECK-NOT:     moe.
// CHECK:         scf.for
// CHECK:           %[[W:.*]], %{{.*}} = moe.gate {{.*}} ins(%{{.*}} : tensor<4x8xf32>)
// CHECK:           linalg.exp ins(%[[W]] : tensor<4x2xf32>)
func.func @by_tokens(%logits: tensor<12x8xf32>, %w: tensor<12x2xf32>, %i: tensor<12x2xi32>,
                     %init: tensor<12x2xf32>) -> tensor<12x2xf32> {
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<12x8xf32>)
      outs(%w, %i : tensor<12x2xf32>, tensor<12x2xi32>)
  %y = linalg.exp ins(%weights : tensor<12x2xf32>) outs(%init : tensor<12x2xf32>)
      -> tensor<12x2xf32>
  return %y : tensor<12x2xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["linalg.exp"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %fused, %loop = transform.structured.fuse %op tile_sizes [4]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// Not of one choice: all k are chosen together. The gate stays before the loop.
// CHECK-LABEL: func.func @by_choices(
// CHECK:         moe.gate {{.*}} ins(%{{.*}} : tensor<12x8xf32>)
// CHECK:         scf.for
// CHECK-NOT:       moe.
// CHECK:         return
func.func @by_choices(%logits: tensor<12x8xf32>, %w: tensor<12x2xf32>, %i: tensor<12x2xi32>,
                      %init: tensor<12x2xf32>) -> tensor<12x2xf32> {
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<12x8xf32>)
      outs(%w, %i : tensor<12x2xf32>, tensor<12x2xi32>)
  %y = linalg.exp ins(%weights : tensor<12x2xf32>) outs(%init : tensor<12x2xf32>)
      -> tensor<12x2xf32>
  return %y : tensor<12x2xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["linalg.exp"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %fused, %loop = transform.structured.fuse %op tile_sizes [0, 1]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// Nor the results of a part of the tokens, where rows are added into tokens.
// CHECK-LABEL: func.func @tokens(
// CHECK:         moe.grouped_matmul
// CHECK:         scf.for
// CHECK-NOT:       moe.
// CHECK:         return
func.func @tokens(%offsets: tensor<5xi32>, %h: tensor<12x8xf32>, %w: tensor<4x64x8xf32>,
                  %slots: tensor<6x2xi32>, %weights: tensor<6x2xf32>, %out: tensor<6x64xf32>,
                  %init: tensor<6x64xf32>) -> tensor<6x64xf32> {
  %r = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%h[m, k] * %w[e, n, k] : tensor<12x8xf32>, tensor<4x64x8xf32>)
      combine(%slots : tensor<6x2xi32>, %weights : tensor<6x2xf32>) outs(%out : tensor<6x64xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  %y = linalg.exp ins(%r : tensor<6x64xf32>) outs(%init : tensor<6x64xf32>) -> tensor<6x64xf32>
  return %y : tensor<6x64xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["linalg.exp"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %fused, %loop = transform.structured.fuse %op tile_sizes [2, 0]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
