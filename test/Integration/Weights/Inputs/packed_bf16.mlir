// packed.mlir in bf16: sums in f32, rounded once each.
!x = tensor<?x40xbf16>
!xf = tensor<?x40xf32>
!h = tensor<?x35xbf16>
!hf = tensor<?x35xf32>
!up = tensor<?x35x40xbf16>
!down = tensor<?x40x35xbf16>

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
  ^bb0(%expert: index, %xe: !x, %g: tensor<35x40xbf16>, %u: tensor<35x40xbf16>, %d: tensor<40x35xbf16>):
    %n = tensor.dim %xe, %c0 : !x
    %i = tensor.empty(%n) : !hf
    %zeros = linalg.fill ins(%zero : f32) outs(%i : !hf) -> !hf
    %ones = linalg.fill ins(%one : f32) outs(%i : !hf) -> !hf
    %a = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%xe, %g : !x, tensor<35x40xbf16>) outs(%zeros : !hf) -> !hf
    %b = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%xe, %u : !x, tensor<35x40xbf16>) outs(%zeros : !hf) -> !hf
    %minus = arith.negf %a : !hf
    %exp = math.exp %minus : !hf
    %below = arith.addf %exp, %ones : !hf
    %silu = arith.divf %a, %below : !hf
    %product = arith.mulf %silu, %b : !hf
    %h = arith.truncf %product : !hf to !h
    %o = tensor.empty(%n) : !xf
    %none = linalg.fill ins(%zero : f32) outs(%o : !xf) -> !xf
    %sum = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%h, %d : !h, tensor<40x35xbf16>) outs(%none : !xf) -> !xf
    %y = arith.truncf %sum : !xf to !x
    moe.yield %y : !x
  }
  %y0 = tensor.empty(%t) : !x
  %y = moe.combine rows(%done : !x) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%y0 : !x)
  return %y : !x
}
