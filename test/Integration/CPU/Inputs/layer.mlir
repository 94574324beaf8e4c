// A layer with a router, sizes that are multiples of nothing, to be filled in: a type, the
// shapes of an expert's matrices and their indices, and what makes the type of %act.

func.func @layer(%x: tensor<?x501xTYPE>,
                 %router: tensor<20x501xTYPE> {moe.param = "router"},
                 %gate: tensor<20xUPxTYPE> {moe.param = "gate"},
                 %up: tensor<20xUPxTYPE> {moe.param = "up"},
                 %down: tensor<20xDOWNxTYPE> {moe.param = "down"})
    -> (tensor<?x501xTYPE> {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %t = tensor.dim %x, %c0 : tensor<?x501xTYPE>
  %m = arith.muli %t, %c2 : index
  %wi = tensor.empty(%t) : tensor<?x2xf32>
  %ii = tensor.empty(%t) : tensor<?x2xi32>
  %oi = tensor.empty() : tensor<21xi32>
  %ri = tensor.empty(%m) : tensor<?xi32>
  %weights, %ids, %offsets, %slots, %source = moe.route score(softmax)
      router(%x[t, k] * %router[e, k] : tensor<?x501xTYPE>, tensor<20x501xTYPE>)
      outs(%wi, %ii, %oi, %ii, %ri : tensor<?x2xf32>, tensor<?x2xi32>, tensor<21xi32>, tensor<?x2xi32>, tensor<?xi32>)
      logits {
  ^bb0(%sum: f32):
    moe.yield %sum : f32
  }
  %hi = tensor.empty(%m) : tensor<?x77xTYPE>
  %h = moe.grouped_matmul offsets(%offsets : tensor<21xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %gate[UP_AT], %x[t, k] * %up[UP_AT]
               : tensor<?x501xTYPE>, tensor<20xUPxTYPE>, tensor<?x501xTYPE>, tensor<20xUPxTYPE>)
      outs(%hi : tensor<?x77xTYPE>) {
  ^bb0(%g: f32, %u: f32):
    %zero = arith.constant 0.0 : f32
    %relu = arith.maximumf %g, %zero : f32
    %act = arith.mulf %relu, %u : f32
    %stored = STORED
    moe.yield %stored : TYPE
  }
  %yi = tensor.empty(%t) : tensor<?x501xTYPE>
  %y = moe.grouped_matmul offsets(%offsets : tensor<21xi32>)
      products(%h[m, k] * %down[DOWN_AT] : tensor<?x77xTYPE>, tensor<20xDOWNxTYPE>)
      combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>)
      outs(%yi : tensor<?x501xTYPE>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x501xTYPE>
}
