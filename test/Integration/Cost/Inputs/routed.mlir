// Any number of SwiGLU experts whose matrices are 4096 bytes each. The routing comes from the
// caller, who knows therefore which experts have rows.
!x = tensor<?x32xf32>
!w = tensor<?x32x32xf32>
!we = tensor<32x32xf32>

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>

func.func @layer(%x: !x, %ids: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
                 %gate: !w, %up: !w, %down: !w) -> !x {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %t = tensor.dim %x, %c0 : !x
  %m = arith.muli %t, %c2 : index
  %e = tensor.dim %gate, %c0 : !w
  %e1 = arith.addi %e, %c1 : index
  %o0 = tensor.empty(%e1) : tensor<?xi32>
  %s0 = tensor.empty(%t) : tensor<?x2xi32>
  %r0 = tensor.empty(%m) : !x
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : !x)
      outs(%o0, %s0, %r0 : tensor<?xi32>, tensor<?x2xi32>, !x)
  %done = moe.expert offsets(%offsets : tensor<?xi32>) rows(%rows : !x)
      params(%gate, %up, %down : !w, !w, !w) outs(%r0 : !x) {
  ^bb0(%expert: index, %xe: !x, %g: !we, %u: !we, %d: !we):
    %n = tensor.dim %xe, %c0 : !x
    %i = tensor.empty(%n) : !x
    %zeros = linalg.fill ins(%zero : f32) outs(%i : !x) -> !x
    %ones = linalg.fill ins(%one : f32) outs(%i : !x) -> !x
    %a = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%xe, %g : !x, !we) outs(%zeros : !x) -> !x
    %b = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%xe, %u : !x, !we) outs(%zeros : !x) -> !x
    %minus = arith.negf %a : !x
    %exp = math.exp %minus : !x
    %below = arith.addf %exp, %ones : !x
    %silu = arith.divf %a, %below : !x
    %h = arith.mulf %silu, %b : !x
    %y = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%h, %d : !x, !we) outs(%zeros : !x) -> !x
    moe.yield %y : !x
  }
  %y0 = tensor.empty(%t) : !x
  %y = moe.combine rows(%done : !x) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%y0 : !x)
  return %y : !x
}
