// A SwiGLU layer in f32: H = 8, I = 6, k = 2, and any number of experts E.
#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>

func.func @layer(%x: tensor<?x8xf32>,
                 %router: tensor<?x8xf32> {moe.param = "gate.weight"},
                 %wg: tensor<?x6x8xf32> {moe.param = "experts.{expert}.gate_proj.weight"},
                 %wu: tensor<?x6x8xf32> {moe.param = "experts.{expert}.up_proj.weight"},
                 %wd: tensor<?x8x6xf32> {moe.param = "experts.{expert}.down_proj.weight"})
    -> (tensor<?x8xf32> {moe.name = "y"}, tensor<?x2xi32> {moe.name = "ids"}) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %E = tensor.dim %router, %c0 : tensor<?x8xf32>
  %E1 = arith.addi %E, %c1 : index

  %logits_empty = tensor.empty(%T, %E) : tensor<?x?xf32>
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : tensor<?x?xf32>) -> tensor<?x?xf32>
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : tensor<?x8xf32>, tensor<?x8xf32>) outs(%logits_zero : tensor<?x?xf32>) -> tensor<?x?xf32>
  %weights_empty = tensor.empty(%T) : tensor<?x2xf32>
  %ids_empty = tensor.empty(%T) : tensor<?x2xi32>
  %weights, %ids = moe.gate score(softmax) renormalize<>
      ins(%logits : tensor<?x?xf32>) outs(%weights_empty, %ids_empty : tensor<?x2xf32>, tensor<?x2xi32>)

  %offsets_empty = tensor.empty(%E1) : tensor<?xi32>
  %rows_empty = tensor.empty(%M) : tensor<?x8xf32>
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xf32>)
      outs(%offsets_empty, %ids_empty, %rows_empty : tensor<?xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
  %ys = moe.expert offsets(%offsets : tensor<?xi32>) rows(%rows : tensor<?x8xf32>)
      params(%wg, %wu, %wd : tensor<?x6x8xf32>, tensor<?x6x8xf32>, tensor<?x8x6xf32>)
      outs(%rows_empty : tensor<?x8xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x8xf32>, %g: tensor<6x8xf32>, %u: tensor<6x8xf32>, %d: tensor<8x6xf32>):
    %n = tensor.dim %xe, %c0 : tensor<?x8xf32>
    %inner = tensor.empty(%n) : tensor<?x6xf32>
    %inner_zero = linalg.fill ins(%zero : f32) outs(%inner : tensor<?x6xf32>) -> tensor<?x6xf32>
    %a = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %g : tensor<?x8xf32>, tensor<6x8xf32>) outs(%inner_zero : tensor<?x6xf32>) -> tensor<?x6xf32>
    %b = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %u : tensor<?x8xf32>, tensor<6x8xf32>) outs(%inner_zero : tensor<?x6xf32>) -> tensor<?x6xf32>
    %neg = arith.negf %a : tensor<?x6xf32>
    %exp = math.exp %neg : tensor<?x6xf32>
    %ones = linalg.fill ins(%one : f32) outs(%inner : tensor<?x6xf32>) -> tensor<?x6xf32>
    %den = arith.addf %exp, %ones : tensor<?x6xf32>
    %silu = arith.divf %a, %den : tensor<?x6xf32>
    %h = arith.mulf %silu, %b : tensor<?x6xf32>
    %out = tensor.empty(%n) : tensor<?x8xf32>
    %out_zero = linalg.fill ins(%zero : f32) outs(%out : tensor<?x8xf32>) -> tensor<?x8xf32>
    %y = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%h, %d : tensor<?x6xf32>, tensor<8x6xf32>) outs(%out_zero : tensor<?x8xf32>) -> tensor<?x8xf32>
    moe.yield %y : tensor<?x8xf32>
  }
  %y_empty = tensor.empty(%T) : tensor<?x8xf32>
  %y = moe.combine rows(%ys : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>) weights(%weights : tensor<?x2xf32>)
      outs(%y_empty : tensor<?x8xf32>)
  return %y, %ids : tensor<?x8xf32>, tensor<?x2xi32>
}
