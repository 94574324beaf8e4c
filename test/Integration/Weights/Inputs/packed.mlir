// SwiGLU experts of sizes that are multiples of nothing, any number of them. The routing comes from
// the caller, who knows therefore which tokens an expert is used by.
!x = tensor<?x40xf32>
!h = tensor<?x35xf32>
!up = tensor<?x35x40xf32>
!down = tensor<?x40x35xf32>

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>

func.func @layer(%x: !x, %ids: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
                 %gate: !up {moe.param = "gate"}, %up: !up {moe.param = "up"},
                 %down: !down {moe.param = "down"}) -> !x {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %t = tensor.dim %x, %c0 : !x
  %m = arith.muli %t, %c2 : index
  %e = tensor.dim %gate, %c0 : !up
  %e1 = arith.addi %e, %c1 : index
  %o0 = tensor.empty(%e1) : tensor<?xi32>
  %s0 = tensor.empty(%t) : tensor<?x2xi32>
  %r0 = tensor.empty(%m) : !x
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : !x)
      outs(%o0, %s0, %r0 : tensor<?xi32>, tensor<?x2xi32>, !x)
  %done = moe.expert offsets(%offsets : tensor<?xi32>) rows(%rows : !x)
      params(%gate, %up, %down : !up, !up, !down) outs(%r0 : !x) {
  ^bb0(%expert: index, %xe: !x, %g: tensor<35x40xf32>, %u: tensor<35x40xf32>, %d: tensor<40x35xf32>):
    %n = tensor.dim %xe, %c0 : !x
    %i = tensor.empty(%n) : !h
    %zeros = linalg.fill ins(%zero : f32) outs(%i : !h) -> !h
    %ones = linalg.fill ins(%one : f32) outs(%i : !h) -> !h
    %a = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%xe, %g : !x, tensor<35x40xf32>) outs(%zeros : !h) -> !h
    %b = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%xe, %u : !x, tensor<35x40xf32>) outs(%zeros : !h) -> !h
    %minus = arith.negf %a : !h
    %exp = math.exp %minus : !h
    %below = arith.addf %exp, %ones : !h
    %silu = arith.divf %a, %below : !h
    %h = arith.mulf %silu, %b : !h
    %o = tensor.empty(%n) : !x
    %none = linalg.fill ins(%zero : f32) outs(%o : !x) -> !x
    %y = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%h, %d : !h, tensor<40x35xf32>) outs(%none : !x) -> !x
    moe.yield %y : !x
  }
  %y0 = tensor.empty(%t) : !x
  %y = moe.combine rows(%done : !x) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%y0 : !x)
  return %y : !x
}
