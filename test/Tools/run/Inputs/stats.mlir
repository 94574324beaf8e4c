// Ids and weights from outside, at most 3 tokens an expert: rows are x · scale[expert].
func.func @layer(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
                 %scale: tensor<5x4xf32>) -> tensor<?x4xf32> {
  %y = func.call @routed(%x, %ids, %weights, %scale)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

func.func private @routed(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
                          %scale: tensor<5x4xf32>) -> tensor<?x4xf32> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %c3 = arith.constant 3 : index
  %T = tensor.dim %x, %c0 : tensor<?x4xf32>
  %M = arith.muli %T, %c2 : index
  %oe = tensor.empty() : tensor<6xi32>
  %se = tensor.empty(%T) : tensor<?x2xi32>
  %re = tensor.empty(%M) : tensor<?x4xf32>
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x4xf32>)
      capacity(%c3) outs(%oe, %se, %re : tensor<6xi32>, tensor<?x2xi32>, tensor<?x4xf32>)
  %ys = moe.expert offsets(%offsets : tensor<6xi32>) rows(%rows : tensor<?x4xf32>)
      params(%scale : tensor<5x4xf32>) outs(%re : tensor<?x4xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x4xf32>, %s: tensor<4xf32>):
    %n = tensor.dim %xe, %c0 : tensor<?x4xf32>
    %e = tensor.empty(%n) : tensor<?x4xf32>
    %b = linalg.broadcast ins(%s : tensor<4xf32>) outs(%e : tensor<?x4xf32>) dimensions = [0]
    %r = arith.mulf %xe, %b : tensor<?x4xf32>
    moe.yield %r : tensor<?x4xf32>
  }
  %ye = tensor.empty(%T) : tensor<?x4xf32>
  %y = moe.combine rows(%ys : tensor<?x4xf32>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%ye : tensor<?x4xf32>)
  return %y : tensor<?x4xf32>
}
