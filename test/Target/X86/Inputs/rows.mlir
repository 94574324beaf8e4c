func.func @rows(%offsets: tensor<9xi32>, %x: tensor<?x512xTYPE>, %w: tensor<8x96x512xTYPE>) -> tensor<?x96xf32> {
  %c0 = arith.constant 0 : index
  %m = tensor.dim %x, %c0 : tensor<?x512xTYPE>
  %init = tensor.empty(%m) : tensor<?x96xf32>
  %y = moe.grouped_matmul offsets(%offsets : tensor<9xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x512xTYPE>, tensor<8x96x512xTYPE>)
      outs(%init : tensor<?x96xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x96xf32>
}
