// Weights with n last: interleaved gate and up, a sum of terms of both layouts, and down. 531
// elements of k are two parts with an odd end, 45 columns two tiles and 13 more. OUT
// is a type: f32 shows all differences, also where another order of sums rounds %h otherwise.
func.func @layer(%x: tensor<?x531xbf16>,
                 %router: tensor<5x531xbf16> {moe.param = "router"},
                 %gate_up: tensor<5x531x90xbf16> {moe.param = "gate_up"},
                 %a: tensor<5x531x45xbf16> {moe.param = "a"},
                 %b: tensor<5x45x531xbf16> {moe.param = "b"},
                 %c: tensor<5x531x45xbf16> {moe.param = "c"},
                 %down: tensor<5x45x531xbf16> {moe.param = "down"})
    -> (tensor<?x531xOUT> {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x531xbf16>
  %m = arith.muli %t, %c2 : index
  %le = tensor.empty(%t) : tensor<?x5xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x5xf32>) -> tensor<?x5xf32>
  %logits = linalg.matmul indexing_maps = [affine_map<(t, e, k) -> (t, k)>, affine_map<(t, e, k) -> (e, k)>, affine_map<(t, e, k) -> (t, e)>]
      ins(%x, %router : tensor<?x531xbf16>, tensor<5x531xbf16>) outs(%lz : tensor<?x5xf32>) -> tensor<?x5xf32>
  %wi = tensor.empty(%t) : tensor<?x2xf32>
  %ii = tensor.empty(%t) : tensor<?x2xi32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x5xf32>)
      outs(%wi, %ii : tensor<?x2xf32>, tensor<?x2xi32>)
  %oi = tensor.empty() : tensor<6xi32>
  %si = tensor.empty(%t) : tensor<?x2xi32>
  %ri = tensor.empty(%m) : tensor<?xi32>
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%oi, %si, %ri : tensor<6xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %hi = tensor.empty(%m) : tensor<?x45xbf16>
  %h = moe.grouped_matmul offsets(%offsets : tensor<6xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %gate_up[e, k, 2 * n],
               %x[t, k] * %gate_up[e, k, 2 * n + 1],
               %x[t, k] * %a[e, k, n] + %x[t, k] * %b[e, n, k] + %x[t, k] * %c[e, k, n]
               : tensor<?x531xbf16>, tensor<5x531x90xbf16>,
                 tensor<?x531xbf16>, tensor<5x531x90xbf16>,
                 tensor<?x531xbf16>, tensor<5x531x45xbf16>,
                 tensor<?x531xbf16>, tensor<5x45x531xbf16>,
                 tensor<?x531xbf16>, tensor<5x531x45xbf16>)
      outs(%hi : tensor<?x45xbf16>) {
  ^bb0(%g: f32, %u: f32, %s: f32):
    %tanh = math.tanh %g : f32
    %activated = arith.mulf %tanh, %u : f32
    %sum = arith.addf %activated, %s : f32
    %rounded = arith.truncf %sum : f32 to bf16
    moe.yield %rounded : bf16
  }
  %yi = tensor.empty(%t) : tensor<?x531xOUT>
  %y = moe.grouped_matmul offsets(%offsets : tensor<6xi32>)
      products(%h[m, k] * %down[e, k, n] : tensor<?x45xbf16>, tensor<5x45x531xbf16>)
      combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>)
      outs(%yi : tensor<?x531xOUT>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x531xOUT>
}
