func.func @combined(%offsets: tensor<9xi32>, %x: tensor<?x512xbf16>, %w: tensor<8x96x512xbf16>,
                    %slots: tensor<?x2xi32>, %weights: tensor<?x2xf32>) -> tensor<?x96xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %slots, %c0 : tensor<?x2xi32>
  %init = tensor.empty(%t) : tensor<?x96xf32>
  %y = moe.grouped_matmul offsets(%offsets : tensor<9xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x512xbf16>, tensor<8x96x512xbf16>)
      combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>)
      outs(%init : tensor<?x96xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x96xf32>
}
