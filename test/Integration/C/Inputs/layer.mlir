// A layer as Mixtral has them, small: 4 experts of 6 hidden units, 2 a token.
!x = tensor<?x8xf32>
!h = tensor<?x6xf32>

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>

func.func @layer(
    %x: !x,
    %router: tensor<4x8xf32> {moe.param = "gate.weight"},
    %w_gate: tensor<4x6x8xf32> {moe.param = "experts.{expert}.w1.weight"},
    %w_up: tensor<4x6x8xf32> {moe.param = "experts.{expert}.w3.weight"},
    %w_down: tensor<4x8x6xf32> {moe.param = "experts.{expert}.w2.weight"}) -> !x {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : !x
  %m = arith.muli %t, %c2 : index

  // Router.
  %l0 = tensor.empty(%t) : tensor<?x4xf32>
  %l1 = linalg.fill ins(%zero : f32) outs(%l0 : tensor<?x4xf32>) -> tensor<?x4xf32>
  %logits = linalg.matmul indexing_maps = [#mk, #nk, #mn]
      ins(%x, %router : !x, tensor<4x8xf32>) outs(%l1 : tensor<?x4xf32>) -> tensor<?x4xf32>
  %w0 = tensor.empty(%t) : tensor<?x2xf32>
  %i0 = tensor.empty(%t) : tensor<?x2xi32>
  %weights, %ids = moe.gate score(softmax) renormalize<>
      ins(%logits : tensor<?x4xf32>) outs(%w0, %i0 : tensor<?x2xf32>, tensor<?x2xi32>)

  // Experts.
  %o0 = tensor.empty() : tensor<5xi32>
  %r0 = tensor.empty(%m) : !x
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : !x)
      outs(%o0, %i0, %r0 : tensor<5xi32>, tensor<?x2xi32>, !x)
  %done = moe.expert offsets(%offsets : tensor<5xi32>) rows(%rows : !x)
      params(%w_gate, %w_up, %w_down : tensor<4x6x8xf32>, tensor<4x6x8xf32>, tensor<4x8x6xf32>)
      outs(%r0 : !x) {
  ^bb0(%expert: index, %xe: !x, %g: tensor<6x8xf32>, %u: tensor<6x8xf32>, %d: tensor<8x6xf32>):
    %n = tensor.dim %xe, %c0 : !x
    %h0 = tensor.empty(%n) : !h
    %h1 = linalg.fill ins(%zero : f32) outs(%h0 : !h) -> !h
    %a = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %g : !x, tensor<6x8xf32>) outs(%h1 : !h) -> !h
    %b = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %u : !x, tensor<6x8xf32>) outs(%h1 : !h) -> !h
    %one = arith.constant 1.0 : f32
    %ones = linalg.fill ins(%one : f32) outs(%h0 : !h) -> !h
    %minus_a = arith.negf %a : !h
    %exp = math.exp %minus_a : !h
    %den = arith.addf %ones, %exp : !h
    %silu = arith.divf %a, %den : !h
    %act = arith.mulf %silu, %b : !h
    %y0 = tensor.empty(%n) : !x
    %y1 = linalg.fill ins(%zero : f32) outs(%y0 : !x) -> !x
    %y = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%act, %d : !h, tensor<8x6xf32>) outs(%y1 : !x) -> !x
    moe.yield %y : !x
  }
  %sum = tensor.empty(%t) : !x
  %y = moe.combine rows(%done : !x) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%sum : !x)
  return %y : !x
}
