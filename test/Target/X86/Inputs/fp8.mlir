// DeepSeek-V3's weights: a scale for each 128×128 codes.
func.func @fp8(%offsets: tensor<9xi32>, %x: tensor<?x512xbf16>, %w: tensor<8x96x512xi8>, %s: tensor<8x1x4xf32>) -> tensor<?x96xf32> {
  %c0 = arith.constant 0 : index
  %m = tensor.dim %x, %c0 : tensor<?x512xbf16>
  %init = tensor.empty(%m) : tensor<?x96xf32>
  %y = moe.grouped_matmul offsets(%offsets : tensor<9xi32>)
      products(%x[m, k] * decode(%w[e, n, k], %s[e, n floordiv 128, k floordiv 128])
               : tensor<?x512xbf16>, tensor<8x96x512xi8>, tensor<8x1x4xf32>)
      outs(%init : tensor<?x96xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %c: i8, %scale: f32):
    %code = arith.bitcast %c : i8 to f8E4M3FN
    %number = arith.extf %code : f8E4M3FN to f32
    %scaled = arith.mulf %number, %scale : f32
    %weight = arith.truncf %scaled : f32 to bf16
    moe.yield %weight : bf16
  }
  return %y : tensor<?x96xf32>
}
