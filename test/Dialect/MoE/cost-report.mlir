// RUN: rm -rf %t && split-file %s %t
// RUN: moe-opt %t/kernel.mlir --moe-cost-report="tokens=6 routing=file:%t/counts.txt output=-" -o /dev/null \
// RUN:     | FileCheck %t/kernel.mlir
// RUN: moe-opt %t/kernel.mlir --moe-cost-report="tokens=6 routing=file:%t/counts.json format=json output=%t/out.json" -o /dev/null
// RUN: FileCheck %t/kernel.mlir --check-prefix=JSON < %t/out.json
// RUN: moe-opt %t/kernel.mlir --moe-cost-report="tokens=6 routing=file:%t/stats.json format=json output=-" -o /dev/null \
// RUN:     | FileCheck %t/kernel.mlir --check-prefix=JSON

// On standard error unless told otherwise, and the layer as it was.
// RUN: moe-opt %t/graph.mlir --moe-cost-report=tokens=6 2>&1 >%t/same.mlir | FileCheck %t/graph.mlir
// RUN: moe-opt %t/graph.mlir -o %t/graph.out && diff %t/graph.out %t/same.mlir

// The functions of a module, and of modules within; others are passed over.
// RUN: moe-opt %t/functions.mlir --moe-cost-report="tokens=6 output=-" -o /dev/null | FileCheck %t/functions.mlir

//--- counts.txt
12 0 0
//--- counts.json
{"host": {"tokens_per_expert": "not this"}, "tokens_per_expert": [12, 0, 0]}
//--- stats.json
{"format": 1, "entry": "layer", "layers": [{"experts": 3, "tokens": [12, 0, 0], "entropy_bits": 0.0}]}

//--- kernel.mlir
// T = 6, k = 2, E = 3, H = 4, I = 5; all rows on expert 0.
//
// route: 2·6·3·4 = 144 FLOP; router 3·4·4 = 48 bytes; x 6·4·4 = 96 read;
//   weights, ids, slots and source 4 · 12·4 = 192, offsets 4·4 = 16 written.
// Stacked gate and up, E×10×4 f16: 2 · 2·12·5·4 = 960 FLOP; one expert 10·4·2 = 80 bytes;
//   x 96, weights (prologue) 48, source 48, offsets 16 read, scale E×5 f32 a weight: 20; h 12·5·4 = 240 written.
// Down, packed to bytes E×4×3 with block scales E×4×1 f32, decoded: 2·12·4·5 = 480 FLOP; one
//   expert 12 + 16 bytes; h 240, slots and weights 48 each, base 96, offsets 16 read; 96 written.

// CHECK: cost of @layer: 6 tokens, routing file:{{.*}}counts.txt
// CHECK-NEXT: 12 rows on 1 of 3 experts, at most 12 on one
// CHECK: moe.route:{{[0-9]+}} 144 48 96 208 0.41
// CHECK: moe.grouped_matmul:{{[0-9]+}} 960 100 208 240 1.75
// CHECK: moe.grouped_matmul:{{[0-9]+}} 480 28 448 96 0.84
// CHECK: total 1584 176 752 544 1.08
// CHECK: 1584 FLOP on f32
// CHECK: 448 bytes between the ops, each tensor in memory of its own

// JSON: "format": 1
// JSON: "function": "layer"
// JSON: "intermediate_bytes": 448
// JSON: "op": "moe.route"
// JSON: "experts": 3,
// JSON-NEXT: "experts_with_rows": 1,
// JSON-NEXT: "most_rows": 12,
// JSON-NEXT: "rows": 12
// JSON: "tokens": 6,
// JSON-NEXT: "total": {
// JSON-NEXT: "contraction_flops": 1584,
// JSON: "uncounted": 0
func.func @layer(%x: tensor<?x4xf32>, %router: tensor<3x4xf32>, %gate_up: tensor<3x10x4xf16>,
    %scale: tensor<3x5xf32>, %down: tensor<3x4x3xi8>, %scales: tensor<3x4x1xf32>) -> tensor<?x4xf32> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %T = tensor.dim %x, %c0 : tensor<?x4xf32>
  %M = arith.muli %T, %c2 : index
  %w = tensor.empty(%T) : tensor<?x2xf32>
  %i = tensor.empty(%T) : tensor<?x2xi32>
  %o = tensor.empty() : tensor<4xi32>
  %r = tensor.empty(%M) : tensor<?xi32>
  %weights, %ids, %offsets, %slots, %source = moe.route score(softmax)
      router(%x[t, k] * %router[e, k] : tensor<?x4xf32>, tensor<3x4xf32>)
      outs(%w, %i, %o, %i, %r
           : tensor<?x2xf32>, tensor<?x2xi32>, tensor<4xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %he = tensor.empty(%M) : tensor<?x5xf32>
  %h = moe.grouped_matmul offsets(%offsets : tensor<4xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %gate_up[e, n, k], prologue(%x[t, k], %weights[t, j]) * %gate_up[e, n + 5, k]
               : tensor<?x4xf32>, tensor<3x10x4xf16>,
                 tensor<?x4xf32>, tensor<?x2xf32>, tensor<3x10x4xf16>)
      extras(%scale[e, n] : tensor<3x5xf32>)
      outs(%he : tensor<?x5xf32>) {
  ^bb0(%g: f32, %u: f32, %s: f32):
    %p = arith.mulf %g, %u : f32
    %q = arith.mulf %p, %s : f32
    moe.yield %q : f32
  } prologue {
  ^bb0(%row: f32, %weight: f32):
    %weighted = arith.mulf %row, %weight : f32
    moe.yield %weighted : f32
  }
  %y = tensor.empty(%T) : tensor<?x4xf32>
  %out = moe.grouped_matmul offsets(%offsets : tensor<4xi32>)
      products(%h[m, k] * decode(%down[e, n, k floordiv 2], %scales[e, n, 0])
               : tensor<?x5xf32>, tensor<3x4x3xi8>, tensor<3x4x1xf32>)
      combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>) base(%x : tensor<?x4xf32>)
      outs(%y : tensor<?x4xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %pair: i8, %s: f32):
    %value = arith.sitofp %pair : i8 to f32
    %scaled = arith.mulf %value, %s : f32
    moe.yield %scaled : f32
  }
  return %out : tensor<?x4xf32>
}

//--- graph.mlir
// T = 6, k = 1, E = 3 on 2 wide rows; a capacity of 1 in groups of 3 leaves at most 2 rows for each
// expert, as there are on average anyway. Expected: 3 · (1 − (2/3)⁶) = 2.74 experts with rows.
//
// dispatch: ids 24 and tokens 48 read; rows 6·2·4 = 48, slots 24, offsets 16 written.
// expert: 2·6·2·2 = 48 FLOP; 2.7366 · 2·2·4 = 44 bytes; rows, then sums read, 48 each, offsets 16;
//   sums and results written. The matmul in the loop is not counted.
// combine: rows 48, slots 24, weights 24 read; 48 written.

// CHECK: cost of @layer: 6 tokens, routing uniform
// CHECK-NEXT: 6 rows on 2.74 of 3 experts, at most 2 on one
// CHECK: moe.dispatch:{{[0-9]+}} 0 0 72 88 0.00
// CHECK: moe.expert:{{[0-9]+}} 48 44 112 96 0.19
// CHECK: moe.combine:{{[0-9]+}} 0 0 96 48 0.00
// CHECK: 1 contractions or calls inside control flow are not counted
func.func @layer(%ids: tensor<?x1xi32>, %weights: tensor<?x1xf32>, %x: tensor<?x2xf32>,
    %w: tensor<?x2x2xf32>, %o: tensor<4xi32>, %s: tensor<?x1xi32>, %r: tensor<?x2xf32>,
    %y: tensor<?x2xf32>) -> tensor<?x2xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %zero = arith.constant 0.0 : f32
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x1xi32>) tokens(%x : tensor<?x2xf32>)
      capacity(%c1) tokens_per_group(%c3)
      outs(%o, %s, %r : tensor<4xi32>, tensor<?x1xi32>, tensor<?x2xf32>)
  %looped = scf.for %i = %c0 to %c3 step %c1 iter_args(%carried = %r) -> tensor<?x2xf32> {
    %slice = tensor.extract_slice %w[%i, 0, 0] [1, 2, 2] [1, 1, 1] : tensor<?x2x2xf32> to tensor<2x2xf32>
    %next = linalg.matmul ins(%x, %slice : tensor<?x2xf32>, tensor<2x2xf32>)
        outs(%carried : tensor<?x2xf32>) -> tensor<?x2xf32>
    scf.yield %next : tensor<?x2xf32>
  }
  %out = moe.expert offsets(%offsets : tensor<4xi32>) rows(%rows : tensor<?x2xf32>)
      params(%w : tensor<?x2x2xf32>) outs(%looped : tensor<?x2xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x2xf32>, %we: tensor<2x2xf32>):
    %n = tensor.dim %xe, %c0 : tensor<?x2xf32>
    %e = tensor.empty(%n) : tensor<?x2xf32>
    %z = linalg.fill ins(%zero : f32) outs(%e : tensor<?x2xf32>) -> tensor<?x2xf32>
    %p = linalg.matmul ins(%xe, %we : tensor<?x2xf32>, tensor<2x2xf32>)
        outs(%z : tensor<?x2xf32>) -> tensor<?x2xf32>
    %q = math.tanh %p : tensor<?x2xf32>
    moe.yield %q : tensor<?x2xf32>
  }
  %sum = moe.combine rows(%out : tensor<?x2xf32>) slots(%slots : tensor<?x1xi32>)
      weights(%weights : tensor<?x1xf32>) outs(%y : tensor<?x2xf32>)
  return %sum : tensor<?x2xf32>
}

//--- functions.mlir
// CHECK: cost of @first: 6 tokens
// CHECK-NOT: @other
// CHECK: cost of @second: 6 tokens
func.func @first(%ids: tensor<?x1xi32>, %o: tensor<4xi32>, %s: tensor<?x1xi32>, %r: tensor<?xi32>) -> tensor<4xi32> {
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x1xi32>)
      outs(%o, %s, %r : tensor<4xi32>, tensor<?x1xi32>, tensor<?xi32>)
  return %offsets : tensor<4xi32>
}
func.func @other(%x: tensor<*xf32>) -> tensor<*xf32> {
  return %x : tensor<*xf32>
}
module {
  func.func @second(%ids: tensor<6x1xi32>, %o: tensor<4xi32>, %s: tensor<6x1xi32>, %r: tensor<6xi32>) -> tensor<4xi32> {
    %offsets, %slots, %source = moe.plan ids(%ids : tensor<6x1xi32>)
        outs(%o, %s, %r : tensor<4xi32>, tensor<6x1xi32>, tensor<6xi32>)
    return %offsets : tensor<4xi32>
  }
}
