// Names of packed weights are nobody else's, nor is that of the function that packs.

// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-pack-weights | FileCheck %s

// CHECK-LABEL: func.func @params(
// CHECK-SAME: {moe.param = "experts.w.packed"}, %{{[^:]*}}: tensor<4x1x8x32xf32> {moe.param = "experts.w.packed.2"},
// CHECK-SAME: tensor<?x24xf32> {moe.param = "u.packed"}, %{{[^:]*}}: tensor<4x1x8x32xf32> {moe.param = "u.packed.2"})
// CHECK-LABEL: func.func @params_pack(
// CHECK-SAME: {moe.param = "experts.{expert}.w"}, %{{[^:]*}}: tensor<?x24x8xf32> {moe.param = "{expert}.experts.w"},
// CHECK-SAME: {moe.param = "u"})
func.func @params(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %v: tensor<4x24x8xf32> {moe.param = "experts.{expert}.w"},
    %w: tensor<4x24x8xf32> {moe.param = "{expert}.experts.w"}, %init: tensor<?x24xf32> {moe.param = "u.packed"},
    %u: tensor<4x24x8xf32> {moe.param = "u"}) -> tensor<?x24xf32> {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %v[e, n, k], %x[m, k] * %w[e, n, k], %x[m, k] * %u[e, n, k]
               : tensor<?x8xf32>, tensor<4x24x8xf32>, tensor<?x8xf32>, tensor<4x24x8xf32>,
                 tensor<?x8xf32>, tensor<4x24x8xf32>) outs(%init : tensor<?x24xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x24xf32>
}

// -----

// Of two tensors made of one, both get other names where an argument or a result has either's.
// CHECK-LABEL: func.func @names(
// CHECK-SAME: {moe.name = "w_2_0", moe.param = "w.packed.2_0"}, %{{[^:]*}}: {{[^ ]*}} {moe.name = "w_2_1", moe.param = "w.packed.2_1"},
// CHECK-SAME: {moe.name = "w_1", moe.param = "w.packed_0"},
// CHECK-SAME: {moe.name = "v_2_0"}, %{{[^:]*}}: {{[^ ]*}} {moe.name = "v_2_1"})
// CHECK-SAME: -> (tensor<?x24xf32> {moe.name = "v_0"})
// CHECK-LABEL: func.func @names_pack(
// CHECK-SAME: {moe.name = "w", moe.param = "w"}, %{{[^:]*}}: {{[^ ]*}} {moe.name = "v"})
// CHECK-SAME: {moe.name = "w_2_0_packed"}, {{[^ ]*}} {moe.name = "w_2_1_packed"},
// CHECK-SAME: {moe.name = "v_2_0_packed"}, {{[^ ]*}} {moe.name = "v_2_1_packed"})
func.func @names(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x48x8xf32> {moe.name = "w", moe.param = "w"},
    %init: tensor<?x24xf32> {moe.name = "w_1", moe.param = "w.packed_0"}, %v: tensor<4x48x8xf32> {moe.name = "v"})
    -> (tensor<?x24xf32> {moe.name = "v_0"}) {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k], %x[m, k] * %w[e, n + 24, k],
               %x[m, k] * %v[e, n, k], %x[m, k] * %v[e, n + 24, k]
               : tensor<?x8xf32>, tensor<4x48x8xf32>, tensor<?x8xf32>, tensor<4x48x8xf32>,
                 tensor<?x8xf32>, tensor<4x48x8xf32>, tensor<?x8xf32>, tensor<4x48x8xf32>)
      outs(%init : tensor<?x24xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32, %d: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x24xf32>
}

// -----

// A signature has no name twice.
// CHECK-LABEL: func.func @results_pack(
// CHECK-SAME: {moe.name = "w"}, %{{[^:]*}}: {{[^ ]*}} {moe.name = "w_packed"})
// CHECK-SAME: {moe.name = "w_packed_2"}, {{[^ ]*}} {moe.name = "w_packed_packed"})
func.func @results(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x24x8xf32> {moe.name = "w"},
    %v: tensor<4x24x8xf32> {moe.name = "w_packed"}, %init: tensor<?x24xf32>) -> tensor<?x24xf32> {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k], %x[m, k] * %v[e, n, k]
               : tensor<?x8xf32>, tensor<4x24x8xf32>, tensor<?x8xf32>, tensor<4x24x8xf32>)
      outs(%init : tensor<?x24xf32>) {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x24xf32>
}

// -----

// expected-error@+1 {{the function that packs the weights of @layer has to be called @layer_pack, and there is one already: rename that, or @layer}}
func.func @layer(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x24x8xf32>, %init: tensor<?x24xf32>) -> tensor<?x24xf32> {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x24x8xf32>) outs(%init : tensor<?x24xf32>) {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x24xf32>
}

// expected-note@+1 {{@layer_pack is here}}
func.func @layer_pack() {
  return
}
