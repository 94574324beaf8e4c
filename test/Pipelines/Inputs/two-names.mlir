func.func private @log(i32)

func.func @ours(%r: tensor<3x1xf32>, %s: tensor<2x2xi32>, %w: tensor<2x2xf32>, %y: tensor<2x1xf32>)
    -> tensor<2x1xf32> {
  %c1 = arith.constant 1 : i32
  call @log(%c1) : (i32) -> ()
  %0 = moe.combine rows(%r : tensor<3x1xf32>) slots(%s : tensor<2x2xi32>) weights(%w : tensor<2x2xf32>)
      outs(%y : tensor<2x1xf32>)
  return %0 : tensor<2x1xf32>
}

func.func @theirs(%i: i32) {
  call @log(%i) : (i32) -> ()
  return
}
