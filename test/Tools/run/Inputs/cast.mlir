func.func @cast(%x: tensor<3x4xf32>) -> tensor<?x4xf32> {
  %0 = math.exp %x : tensor<3x4xf32>
  %1 = tensor.cast %0 : tensor<3x4xf32> to tensor<?x4xf32>
  return %1 : tensor<?x4xf32>
}
