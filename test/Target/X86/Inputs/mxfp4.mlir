// gpt-oss's weights: two codes in a byte, a power of two for each 32.
func.func @mxfp4(%offsets: tensor<9xi32>, %x: tensor<?x512xbf16>, %w: tensor<8x96x16x16xi8>, %s: tensor<8x96x16xi8>) -> tensor<?x96xf32> {
  %c0 = arith.constant 0 : index
  %m = tensor.dim %x, %c0 : tensor<?x512xbf16>
  %init = tensor.empty(%m) : tensor<?x96xf32>
  %y = moe.grouped_matmul offsets(%offsets : tensor<9xi32>)
      products(%x[m, k] * decode(%w[e, n, k floordiv 32, k mod 32 floordiv 2], %s[e, n, k floordiv 32])
               : tensor<?x512xbf16>, tensor<8x96x16x16xi8>, tensor<8x96x16xi8>)
      outs(%init : tensor<?x96xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %byte: i8, %e: i8):
    %zero = arith.constant 0 : index
    %two = arith.constant 2 : index
    %four = arith.constant 4 : i8
    %odd = arith.remui %k, %two : index
    %is_odd = arith.cmpi ne, %odd, %zero : index
    %high = arith.shrui %byte, %four : i8
    %nibble = arith.select %is_odd, %high, %byte : i8
    %low = arith.trunci %nibble : i8 to i4
    %code = arith.bitcast %low : i4 to f4E2M1FN
    %number = arith.extf %code : f4E2M1FN to f32
    %exponent = arith.bitcast %e : i8 to f8E8M0FNU
    %power = arith.extf %exponent : f8E8M0FNU to f32
    %scaled = arith.mulf %number, %power : f32
    %weight = arith.truncf %scaled : f32 to bf16
    moe.yield %weight : bf16
  }
  return %y : tensor<?x96xf32>
}
