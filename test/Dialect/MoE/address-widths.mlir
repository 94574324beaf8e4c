// RUN: moe-opt %s --moe-cost-report="tokens=4096 output=-" -o /dev/null --remarks-filter-analyse=moe-cost-report 2>&1 \
// RUN:     | FileCheck %s

// What 32 bits cannot be proven to reach is in parentheses, to be part of a 64-bit base.
//
// x has up to 2^31 - 1 rows of 2048·2 bytes; 4096 of them are 2^24 bytes. gate is 64·1024·2048·2 =
// 2^28 bytes. wide is 256·2048·4096·2 = 2^32: one expert, 2^24, is in reach. h has k times as many
// rows as x; edge is 2^31 bytes, one too many, and below is 2^31 - 4.

// CHECK: [Analysis] 32-bit offsets | Category:moe-cost-report | Function=olmoe |
// CHECK-SAME: "any number of tokens: 65xi32, (?x)i32, (?x)2048xbf16, 64x1024x2048xbf16, (?x)1024xbf16"
// CHECK-SAME: "up to that many: 65xi32, ?xi32, ?x2048xbf16, 64x1024x2048xbf16, ?x1024xbf16", tokens=4096
func.func @olmoe(%x: tensor<?x2048xbf16>, %gate: tensor<64x1024x2048xbf16>, %ids: tensor<?x8xi32>)
    -> tensor<?x1024xbf16> {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %T = tensor.dim %x, %c0 : tensor<?x2048xbf16>
  %M = arith.muli %T, %c8 : index
  %o = tensor.empty() : tensor<65xi32>
  %s = tensor.empty(%T) : tensor<?x8xi32>
  %r = tensor.empty(%M) : tensor<?xi32>
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x8xi32>)
      outs(%o, %s, %r : tensor<65xi32>, tensor<?x8xi32>, tensor<?xi32>)
  %e = tensor.empty(%M) : tensor<?x1024xbf16>
  %h = moe.grouped_matmul offsets(%offsets : tensor<65xi32>) source(%source : tensor<?xi32>) top_k(8)
      products(%x[t, k] * %gate[e, n, k] : tensor<?x2048xbf16>, tensor<64x1024x2048xbf16>)
      outs(%e : tensor<?x1024xbf16>) {
  ^bb0(%p: f32):
    %q = arith.truncf %p : f32 to bf16
    moe.yield %q : bf16
  }
  return %h : tensor<?x1024xbf16>
}

// CHECK: Function=wide |
// CHECK-SAME: "any number of tokens: 257xi32, 4096x4096xbf16, (256x)2048x4096xbf16, (4096x)131072xf32, 536870911xf32, 4096x2048xf32"
func.func @wide(%offsets: tensor<257xi32>, %x: tensor<4096x4096xbf16>, %wide: tensor<256x2048x4096xbf16>,
    %edge: tensor<4096x131072xf32>, %below: tensor<536870911xf32>, %init: tensor<4096x2048xf32>)
    -> tensor<4096x2048xf32> {
  %h = moe.grouped_matmul offsets(%offsets : tensor<257xi32>)
      products(%x[m, k] * %wide[e, n, k] : tensor<4096x4096xbf16>, tensor<256x2048x4096xbf16>)
      extras(%edge[m, n], %below[n] : tensor<4096x131072xf32>, tensor<536870911xf32>)
      outs(%init : tensor<4096x2048xf32>) {
  ^bb0(%p: f32, %a: f32, %b: f32):
    %q = arith.addf %p, %a : f32
    %r = arith.addf %q, %b : f32
    moe.yield %r : f32
  }
  return %h : tensor<4096x2048xf32>
}
