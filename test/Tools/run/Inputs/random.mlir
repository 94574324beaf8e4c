func.func @random(%x: tensor<?x32xf32>, %w: tensor<16x64xbf16> {moe.param = "w"}, %b: tensor<16xf64> {moe.param = "b"})
    -> (tensor<?x32xf32> {moe.name = "x0"}, tensor<16x64xbf16> {moe.name = "w0"}, tensor<16xf64> {moe.name = "b0"}) {
  return %x, %w, %b : tensor<?x32xf32>, tensor<16x64xbf16>, tensor<16xf64>
}
func.func private @static(%x: tensor<3x4xf32>, %w: tensor<3x4xf32>) -> tensor<3x4xf32> {
  %0 = arith.addf %x, %w : tensor<3x4xf32>
  return %0 : tensor<3x4xf32>
}
