// Any number of experts, each a matrix; one of them a token, weighted by the
// sigmoid of its logit; the input added. The function has the name of the other
// layer's on purpose: both live in one process.
!x = tensor<?x8xf32>

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>

func.func @layer(
    %x: !x,
    %router: tensor<?x8xf32> {moe.param = "gate.weight"},
    %w: tensor<?x8x8xf32> {moe.param = "experts.{expert}.weight"}) -> !x {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : !x
  %e = tensor.dim %router, %c0 : tensor<?x8xf32>
  %e1 = arith.addi %e, %c1 : index
  %l0 = tensor.empty(%t, %e) : tensor<?x?xf32>
  %l1 = linalg.fill ins(%zero : f32) outs(%l0 : tensor<?x?xf32>) -> tensor<?x?xf32>
  %logits = linalg.matmul indexing_maps = [#mk, #nk, #mn]
      ins(%x, %router : !x, tensor<?x8xf32>) outs(%l1 : tensor<?x?xf32>) -> tensor<?x?xf32>
  %w0 = tensor.empty(%t) : tensor<?x1xf32>
  %i0 = tensor.empty(%t) : tensor<?x1xi32>
  %weights, %ids = moe.gate score(sigmoid)
      ins(%logits : tensor<?x?xf32>) outs(%w0, %i0 : tensor<?x1xf32>, tensor<?x1xi32>)
  %o0 = tensor.empty(%e1) : tensor<?xi32>
  %r0 = tensor.empty(%t) : !x
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x1xi32>) tokens(%x : !x)
      outs(%o0, %i0, %r0 : tensor<?xi32>, tensor<?x1xi32>, !x)
  %done = moe.expert offsets(%offsets : tensor<?xi32>) rows(%rows : !x)
      params(%w : tensor<?x8x8xf32>) outs(%r0 : !x) {
  ^bb0(%expert: index, %xe: !x, %we: tensor<8x8xf32>):
    %n = tensor.dim %xe, %c0 : !x
    %y0 = tensor.empty(%n) : !x
    %y1 = linalg.fill ins(%zero : f32) outs(%y0 : !x) -> !x
    %y = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %we : !x, tensor<8x8xf32>) outs(%y1 : !x) -> !x
    moe.yield %y : !x
  }
  %sum = tensor.empty(%t) : !x
  %y = moe.combine rows(%done : !x) slots(%slots : tensor<?x1xi32>)
      weights(%weights : tensor<?x1xf32>) base(%x : !x) outs(%sum : !x)
  return %y : !x
}
