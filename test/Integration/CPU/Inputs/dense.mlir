// Products of bf16 that are not rounded again: differences show.
#x = affine_map<(t, n, k) -> (t, k)>
#w = affine_map<(t, n, k) -> (n, k)>
#y = affine_map<(t, n, k) -> (t, n)>

func.func @dense(%x: tensor<?xSUMxbf16>, %w: tensor<COLUMNSxSUMxbf16> {moe.param = "w"})
    -> (tensor<?xCOLUMNSxf32> {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?xSUMxbf16>
  %init = tensor.empty(%t) : tensor<?xCOLUMNSxf32>
  %cleared = linalg.fill ins(%zero : f32) outs(%init : tensor<?xCOLUMNSxf32>) -> tensor<?xCOLUMNSxf32>
  %y = linalg.matmul indexing_maps = [#x, #w, #y]
      ins(%x, %w : tensor<?xSUMxbf16>, tensor<COLUMNSxSUMxbf16>)
      outs(%cleared : tensor<?xCOLUMNSxf32>) -> tensor<?xCOLUMNSxf32>
  return %y : tensor<?xCOLUMNSxf32>
}
