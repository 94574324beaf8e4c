// RUN: not moe-opt %s --transform-interpreter --split-input-file 2>&1 | FileCheck %s

func.func @memrefs(%logits: memref<4x8xf32>, %w: memref<4x2xf32>, %i: memref<4x2xi32>) {
  // CHECK: error: 'moe.gate' op cannot be tiled so: it works on memrefs; tile it before bufferization
  moe.gate score(softmax) ins(%logits : memref<4x8xf32>)
      outs(%w, %i : memref<4x2xf32>, memref<4x2xi32>)
  return
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.gate"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_for %op tile_sizes [2]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// Scales of 3 columns, tiles of 4: a tile would begin within a block.
func.func @blocks(%offsets: tensor<5xi32>, %a: tensor<?x8xf32>, %w: tensor<4x12x8xf32>,
                  %s: tensor<4x2x2xf32>, %init: tensor<?x12xf32>) -> tensor<?x12xf32> {
  // CHECK: error: 'moe.grouped_matmul' op cannot be tiled so: an index divides, so tiles must start at multiples of 6
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%a[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x12x8xf32>)
      extras(%s[e, n floordiv 6, (n floordiv 3) mod 2] : tensor<4x2x2xf32>)
      outs(%init : tensor<?x12xf32>) {
  ^bb0(%p: f32, %scale: f32):
    %0 = arith.mulf %p, %scale : f32
    moe.yield %0 : f32
  }
  return %y : tensor<?x12xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.grouped_matmul"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_for %op tile_sizes [0, 4]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

func.func @backwards(%offsets: tensor<5xi32>, %a: tensor<?x8xf32>, %w: tensor<4x12x8xf32>,
                     %init: tensor<?x12xf32>) -> tensor<?x12xf32> {
  // CHECK: error: 'moe.grouped_matmul' op cannot be tiled so: an index does not grow with the tile
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%a[m, k] * %w[e, 11 - n, k] : tensor<?x8xf32>, tensor<4x12x8xf32>)
      outs(%init : tensor<?x12xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x12xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.grouped_matmul"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_for %op tile_sizes [0, 4]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// A plan counts the choices of all tokens: it has no tiles.
func.func @plan(%ids: tensor<8x2xi32>, %o: tensor<5xi32>, %s: tensor<8x2xi32>, %r: tensor<16xi32>)
    -> tensor<16xi32> {
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<8x2xi32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<8x2xi32>, tensor<16xi32>)
  return %source : tensor<16xi32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.plan"]} in %root
        : (!transform.any_op) -> !transform.any_op
  // CHECK: error: only ops implementing TilingInterface are supported
    %tiled, %loop = transform.structured.tile_using_for %op tile_sizes [4]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
