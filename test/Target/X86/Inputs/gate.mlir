// A gate alone: EXPERTS and CHOICES are numbers that the test puts in.
func.func @gate(%logits: tensor<?xEXPERTSxf32> {moe.name = "logits"})
    -> (tensor<?xCHOICESxf32> {moe.name = "weights"}, tensor<?xCHOICESxi32> {moe.name = "ids"}) {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %logits, %c0 : tensor<?xEXPERTSxf32>
  %w = tensor.empty(%T) : tensor<?xCHOICESxf32>
  %i = tensor.empty(%T) : tensor<?xCHOICESxi32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?xEXPERTSxf32>)
      outs(%w, %i : tensor<?xCHOICESxf32>, tensor<?xCHOICESxi32>)
  return %weights, %ids : tensor<?xCHOICESxf32>, tensor<?xCHOICESxi32>
}
