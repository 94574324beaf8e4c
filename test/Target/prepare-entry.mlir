// RUN: moe-opt %s --split-input-file --moe-prepare-entry --verify-diagnostics | FileCheck %s

// Results move behind the arguments, which become read-only.

// CHECK-LABEL: func.func @scale(
// CHECK-SAME:    %[[X:.*]]: tensor<?x8xf32> {bufferization.writable = false, moe.name = "x"},
// CHECK-SAME:    %[[S:.*]]: tensor<8xf32> {bufferization.writable = false, moe.param = "scale"},
// CHECK-SAME:    %[[OUT:.*]]: memref<?x8xf32> {moe.name = "y"})
// CHECK-SAME:    attributes {moe.entry = {results = 1 : i64, shapes = @scale.shapes}} {
// CHECK:         %[[Y:.*]] = linalg.generic
// CHECK:         bufferization.materialize_in_destination %[[Y]] in restrict writable %[[OUT]]
// CHECK-NEXT:    return{{$}}

// Of the computation only sizes are left.
// CHECK-LABEL: func.func private @scale.shapes(
// CHECK-SAME:    %[[T:.*]]: index {moe.name = "x_0"}) -> (i32, index, index) {
// CHECK-DAG:     %[[OK:.*]] = arith.constant 0 : i32
// CHECK-DAG:     %[[C8:.*]] = arith.constant 8 : index
// CHECK-NEXT:    return %[[OK]], %[[T]], %[[C8]] : i32, index, index
func.func @scale(%x: tensor<?x8xf32> {moe.name = "x"},
                 %s: tensor<8xf32> {moe.param = "scale"}) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %init = tensor.empty(%t) : tensor<?x8xf32>
  %y = linalg.generic {
      indexing_maps = [affine_map<(t, h) -> (t, h)>, affine_map<(t, h) -> (h)>,
                       affine_map<(t, h) -> (t, h)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%x, %s : tensor<?x8xf32>, tensor<8xf32>) outs(%init : tensor<?x8xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %m = arith.mulf %a, %b : f32
    linalg.yield %m : f32
  } -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// Several results; names that are given are kept, the others are y0, y1, ...

// CHECK-LABEL: func.func @two(
// CHECK-SAME:    memref<4xf32> {moe.name = "sum"}, %{{.*}}: memref<4xf32> {moe.name = "y1"})
// CHECK-SAME:    results = 2 : i64
func.func @two(%x: tensor<4xf32>, %z: tensor<4xf32>)
    -> (tensor<4xf32> {moe.name = "sum"}, tensor<4xf32>) {
  %a = arith.addf %x, %z : tensor<4xf32>
  %b = arith.mulf %x, %z : tensor<4xf32>
  return %a, %b : tensor<4xf32>, tensor<4xf32>
}

// -----

// Tokens times k is checked once for a gate and the dispatch of its ids; the
// tensor that the tokens are counted in is to blame: 7 + 256 * (1 + 1).

// CHECK-LABEL: func.func private @route.shapes(
// CHECK-SAME:    %[[T:.*]]: index {moe.name = "T"})
// CHECK-DAG:     %[[BAD:.*]] = arith.constant 519 : i32
// CHECK-DAG:     %[[LIMIT:.*]] = arith.constant 2147483648 : index
// CHECK:         %[[TK:.*]] = arith.muli %[[T]], %{{.*}}
// CHECK-NEXT:    %[[A:.*]] = arith.cmpi uge, %[[TK]], %[[LIMIT]]
// CHECK-NEXT:    %[[B:.*]] = arith.cmpi uge, %[[T]], %[[LIMIT]]
// CHECK-NEXT:    %[[AB:.*]] = arith.ori %[[A]], %[[B]]
// CHECK-NEXT:    %[[STATUS:.*]] = arith.select %[[AB]], %[[BAD]]
// CHECK-NEXT:    return %[[STATUS]],
func.func @route(%unused: tensor<f32>, %logits: tensor<?x8xf32>) -> tensor<9xi32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %logits, %c0 : tensor<?x8xf32>
  %w = tensor.empty(%t) : tensor<?x2xf32>
  %i = tensor.empty(%t) : tensor<?x2xi32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x8xf32>)
      outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  %o = tensor.empty() : tensor<9xi32>
  %offsets, %slots = moe.dispatch ids(%ids : tensor<?x2xi32>)
      outs(%o, %i : tensor<9xi32>, tensor<?x2xi32>)
  return %offsets : tensor<9xi32>
}

// -----

// The number of experts of the logits and of the bias must be equal, and at
// least k: 4 + 256 * (1 + 1) and 4 + 256 * (1 + 0). One name for equal sizes.

// CHECK-LABEL: func.func private @experts.shapes(
// CHECK-SAME:    %[[E:.*]]: index {moe.name = "logits_1"}, %[[B:.*]]: index {moe.name = "logits_1"})
// CHECK-DAG:     %[[BAD_BIAS:.*]] = arith.constant 516 : i32
// CHECK-DAG:     %[[BAD_LOGITS:.*]] = arith.constant 260 : i32
// CHECK-DAG:     %[[C2:.*]] = arith.constant 2 : index
// CHECK:         %[[FEW:.*]] = arith.cmpi ult, %[[E]], %[[C2]]
// CHECK-NEXT:    %[[REST:.*]] = arith.select %[[FEW]], %[[BAD_LOGITS]]
// CHECK-NEXT:    %[[NE:.*]] = arith.cmpi ne, %[[E]], %[[B]]
// CHECK-NEXT:    arith.select %[[NE]], %[[BAD_BIAS]], %[[REST]]
func.func @experts(%logits: tensor<16x?xf32> {moe.name = "logits"},
                   %bias: tensor<?xf32>) -> tensor<16x2xi32> {
  %w = tensor.empty() : tensor<16x2xf32>
  %i = tensor.empty() : tensor<16x2xi32>
  %weights, %ids = moe.gate score(sigmoid) ins(%logits : tensor<16x?xf32>)
      bias(%bias : tensor<?xf32>) outs(%w, %i : tensor<16x2xf32>, tensor<16x2xi32>)
  return %ids : tensor<16x2xi32>
}

// -----

// What bodies of experts take for granted is checked too: the columns of the
// rows and of the matrices.

// CHECK-LABEL: func.func private @body.shapes(
// CHECK-SAME:    index {moe.name = "rows_0"}, %[[H:.*]]: index {moe.name = "rows_1"},
// CHECK-SAME:    %[[K:.*]]: index {moe.name = "rows_1"})
// CHECK:         arith.cmpi ne, %[[H]], %[[K]]
func.func @body(%offsets: tensor<5xi32>, %rows: tensor<?x?xf32> {moe.name = "rows"},
                %w: tensor<4x6x?xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %m = tensor.dim %rows, %c0 : tensor<?x?xf32>
  %init = tensor.empty(%m) : tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<5xi32>) rows(%rows : tensor<?x?xf32>)
      params(%w : tensor<4x6x?xf32>) outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %x: tensor<?x?xf32>, %we: tensor<6x?xf32>):
    %n = tensor.dim %x, %c0 : tensor<?x?xf32>
    %zero = arith.constant 0.0 : f32
    %e = tensor.empty(%n) : tensor<?x6xf32>
    %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %z = linalg.matmul
        indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>,
                         affine_map<(m, n, k) -> (m, n)>]
        ins(%x, %we : tensor<?x?xf32>, tensor<6x?xf32>)
        outs(%f : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %z : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// -----

// A size that the data decides is -1, and nothing of what decides it is left.

// CHECK-LABEL: func.func private @count.shapes() -> (i32, index) {
// CHECK-NEXT:    %[[UNKNOWN:.*]] = arith.constant -1 : index
// CHECK-NEXT:    %[[OK:.*]] = arith.constant 0 : i32
// CHECK-NEXT:    return %[[OK]], %[[UNKNOWN]]
// expected-remark @below {{size 0 of result 'y' depends on the data; calls do not check it}}
func.func @count(%n: tensor<i32>) -> tensor<?xf32> {
  %count = tensor.extract %n[] : tensor<i32>
  %size = arith.index_cast %count : i32 to index
  %zero = arith.constant 0.0 : f32
  %init = tensor.empty(%size) : tensor<?xf32>
  %y = linalg.fill ins(%zero : f32) outs(%init : tensor<?xf32>) -> tensor<?xf32>
  return %y : tensor<?xf32>
}

// -----

// A number of tokens that the data decides cannot be checked either.

func.func @filtered(%n: tensor<i32>, %x: tensor<?x8xf32>) -> tensor<9xi32> {
  %count = tensor.extract %n[] : tensor<i32>
  %size = arith.index_cast %count : i32 to index
  %i = tensor.empty(%size) : tensor<?x2xi32>
  %o = tensor.empty() : tensor<9xi32>
  // expected-remark @below {{calls do not check that their product stays below 2^31}}
  %offsets, %slots = moe.dispatch ids(%i : tensor<?x2xi32>)
      outs(%o, %i : tensor<9xi32>, tensor<?x2xi32>)
  return %offsets : tensor<9xi32>
}

// -----

// Other functions become private.

// CHECK-LABEL: func.func @only_public(
// CHECK:       func.func private @only_public.shapes(
// CHECK:       func.func private @helper(
func.func @only_public(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = func.call @helper(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
func.func private @helper(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = arith.negf %x : tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// Kernel-level ops demand what the ops that they stand for do: T tokens, E experts (offsets have one
// element more), T·k below 2^31.

// CHECK-LABEL: func.func private @kernels.shapes(
// CHECK-SAME:    %[[T:[a-z0-9]+]]: index {moe.name = "T"}, %[[E:[a-z0-9]+]]: index {moe.name = "E"},
// CHECK-SAME:    %[[E2:[a-z0-9]+]]: index {moe.name = "E"}, %[[T2:[a-z0-9]+]]: index {moe.name = "T"}) -> (i32, index, index) {
// CHECK-DAG:     %[[TOO_MANY:.*]] = arith.constant 263 : i32
// CHECK-DAG:     %[[W:.*]] = arith.constant 772 : i32
// CHECK-DAG:     %[[BASE:.*]] = arith.constant 1028 : i32
// CHECK-DAG:     arith.cmpi ne, %[[E]], %[[E2]] : index
// CHECK-DAG:     arith.cmpi ne, %[[T]], %[[T2]] : index
// CHECK:         return
func.func @kernels(%x: tensor<?x8xf32> {moe.name = "x"}, %router: tensor<?x8xf32> {moe.param = "router.{expert}"},
                   %w: tensor<?x8x8xf32> {moe.param = "w.{expert}"}, %base: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %e = tensor.dim %router, %c0 : tensor<?x8xf32>
  %e1 = arith.addi %e, %c1 : index
  %m = arith.muli %t, %c2 : index
  %w0 = tensor.empty(%t) : tensor<?x2xf32>
  %i0 = tensor.empty(%t) : tensor<?x2xi32>
  %o0 = tensor.empty(%e1) : tensor<?xi32>
  %s0 = tensor.empty(%m) : tensor<?xi32>
  %weights, %ids, %offsets, %slots, %source = moe.route score(softmax)
      router(%x[t, k] * %router[e, k] : tensor<?x8xf32>, tensor<?x8xf32>)
      outs(%w0, %i0, %o0, %i0, %s0
           : tensor<?x2xf32>, tensor<?x2xi32>, tensor<?xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %y0 = tensor.empty(%t) : tensor<?x8xf32>
  %y = moe.grouped_matmul offsets(%offsets : tensor<?xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<?x8x8xf32>)
      combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>)
      base(%base : tensor<?x8xf32>) outs(%y0 : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x8xf32>
}

// -----

// The tokens that a plan sorted choices of are those that a product reads.

// CHECK-LABEL: func.func private @planned.shapes(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: index {moe.name = "T"}, %[[T:[a-z0-9]+]]: index {moe.name = "T"}) -> (i32, index, index) {
// CHECK:         arith.cmpi ne, %[[T]], %[[X]] : index
func.func @planned(%x: tensor<?x8xf32>, %ids: tensor<?x2xi32>, %w: tensor<4x8x8xf32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %t = tensor.dim %ids, %c0 : tensor<?x2xi32>
  %m = arith.muli %t, %c2 : index
  %o0 = tensor.empty() : tensor<5xi32>
  %i0 = tensor.empty(%t) : tensor<?x2xi32>
  %s0 = tensor.empty(%m) : tensor<?xi32>
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%o0, %i0, %s0 : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %r0 = tensor.empty(%m) : tensor<?x8xf32>
  %rows = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x8x8xf32>)
      outs(%r0 : tensor<?x8xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %rows : tensor<?x8xf32>
}
