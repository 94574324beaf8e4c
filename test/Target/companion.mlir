// A function that packs weights, prepared beside the layer: both keep their names, and C functions
// for one expert are built around it.
// RUN: moe-opt %s --moe-prepare-entry="entry=layer companion=layer_pack" | FileCheck %s --check-prefix=PREPARED
// RUN: not moe-opt %s --moe-prepare-entry="entry=layer companion=layer" 2>&1 | FileCheck %s --check-prefix=OWN
// RUN: not moe-opt %s --moe-prepare-entry="entry=layer companion=none" 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not moe-opt %s --moe-prepare-entry="entry=layer companion=fixed" 2>&1 | FileCheck %s --check-prefix=FIXED

// PREPARED-LABEL: func.func @layer(
// PREPARED-SAME:    moe.name = "w"
// PREPARED-SAME:    attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes}}
// PREPARED:       func.func private @layer.shapes(
// PREPARED-LABEL: func.func @layer_pack(
// PREPARED-SAME:    moe.name = "v", moe.param = "experts.{expert}.v"
// PREPARED-SAME:    memref<?x8x32xf32> {moe.name = "y"})
// PREPARED-SAME:    attributes {moe.entry = {results = 1 : i64, shapes = @layer_pack.shapes, slabs}}
// PREPARED:       func.func private @layer_pack.shapes(%{{.*}}: index {moe.name = "E"}) -> (i32, index, index, index)
// PREPARED:       func.func private @fixed(

// OWN: error: @layer cannot be its own companion
// NONE: error: there is no function @none with a body
// FIXED: error: @fixed takes or returns a 'tensor<4x8xf32>'; a companion's tensors are of any number of experts ('?' first) and have no other unknown size

func.func @layer(%w: tensor<4x8x32xf32> {moe.name = "w"}) -> tensor<4x8x32xf32> {
  %y = arith.negf %w : tensor<4x8x32xf32>
  return %y : tensor<4x8x32xf32>
}

func.func @layer_pack(%v: tensor<?x32x8xf32> {moe.name = "v", moe.param = "experts.{expert}.v"})
    -> tensor<?x8x32xf32> {
  %c0 = arith.constant 0 : index
  %e = tensor.dim %v, %c0 : tensor<?x32x8xf32>
  %empty = tensor.empty(%e) : tensor<?x8x32xf32>
  %y = linalg.transpose ins(%v : tensor<?x32x8xf32>) outs(%empty : tensor<?x8x32xf32>)
      permutation = [0, 2, 1]
  return %y : tensor<?x8x32xf32>
}

func.func @fixed(%w: tensor<4x8xf32>) -> tensor<4x8xf32> {
  return %w : tensor<4x8xf32>
}
