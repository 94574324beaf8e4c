// Weights as a checkpoint stores them (STORED), packed (PACKED).
func.func @pack(%w: tensor<?xSTOREDxTYPE>) -> tensor<?xPACKEDxTYPE> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : TYPE
  %experts = tensor.dim %w, %c0 : tensor<?xSTOREDxTYPE>
  %empty = tensor.empty(%experts) : tensor<?xPACKEDxTYPE>
  %packed = linalg.pack %w padding_value(%zero : TYPE) HOW into %empty
      : tensor<?xSTOREDxTYPE> -> tensor<?xPACKEDxTYPE>
  return %packed : tensor<?xPACKEDxTYPE>
}
