// Every row is of expert 0 of 3; one matmul in bf16 that is widened, one in f64, one in a loop; a weight that
// several experts' bodies share.
#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>

func.func private @shared(%x: tensor<?x4xf64>, %w: tensor<5x4xf64>) -> tensor<?x5xf64> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f64
  %T = tensor.dim %x, %c0 : tensor<?x4xf64>
  %empty = tensor.empty(%T) : tensor<?x5xf64>
  %init = linalg.fill ins(%zero : f64) outs(%empty : tensor<?x5xf64>) -> tensor<?x5xf64>
  %y = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %w : tensor<?x4xf64>, tensor<5x4xf64>) outs(%init : tensor<?x5xf64>) -> tensor<?x5xf64>
  return %y : tensor<?x5xf64>
}

func.func @skewed(%x: tensor<?x4xbf16>, %ids: tensor<6x1xi32>, %w: tensor<3x2x4xbf16> {moe.param = "w"},
                  %s: tensor<5x4xf64> {moe.param = "s"}) -> (tensor<6x2xf32>, tensor<?x5xf64>, tensor<6x2xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x4xbf16>
  %offsets_empty = tensor.empty() : tensor<4xi32>
  %slots_empty = tensor.empty() : tensor<6x1xi32>
  %rows_empty = tensor.empty() : tensor<6x4xbf16>
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<6x1xi32>) tokens(%x : tensor<?x4xbf16>)
      outs(%offsets_empty, %slots_empty, %rows_empty : tensor<4xi32>, tensor<6x1xi32>, tensor<6x4xbf16>)
  %out = tensor.empty() : tensor<6x2xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>) rows(%rows : tensor<6x4xbf16>)
      params(%w : tensor<3x2x4xbf16>) outs(%out : tensor<6x2xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x4xbf16>, %we: tensor<2x4xbf16>):
    %n = tensor.dim %xe, %c0 : tensor<?x4xbf16>
    %empty = tensor.empty(%n) : tensor<?x2xf32>
    %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x2xf32>) -> tensor<?x2xf32>
    %xw = arith.extf %xe : tensor<?x4xbf16> to tensor<?x4xf32>
    %ww = arith.extf %we : tensor<2x4xbf16> to tensor<2x4xf32>
    %z = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xw, %ww : tensor<?x4xf32>, tensor<2x4xf32>) outs(%init : tensor<?x2xf32>) -> tensor<?x2xf32>
    moe.yield %z : tensor<?x2xf32>
  }
  %wide = arith.extf %x : tensor<?x4xbf16> to tensor<?x4xf64>
  %shared = call @shared(%wide, %s) : (tensor<?x4xf64>, tensor<5x4xf64>) -> tensor<?x5xf64>
  %square = tensor.empty() : tensor<2x2xf32>
  %ones = linalg.fill ins(%zero : f32) outs(%square : tensor<2x2xf32>) -> tensor<2x2xf32>
  %looped = scf.for %i = %c0 to %c3 step %c1 iter_args(%sum = %y) -> tensor<6x2xf32> {
    %next = linalg.matmul ins(%sum, %ones : tensor<6x2xf32>, tensor<2x2xf32>) outs(%sum : tensor<6x2xf32>) -> tensor<6x2xf32>
    scf.yield %next : tensor<6x2xf32>
  }
  return %y, %shared, %looped : tensor<6x2xf32>, tensor<?x5xf64>, tensor<6x2xf32>
}
