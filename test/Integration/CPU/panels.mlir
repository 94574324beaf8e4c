// Weights that do not run along k (E×K×N, interleaved or not) and rows that a prologue
// computes: sizes that are multiples of nothing, on each kind of vector instructions,
// against the general lowering. The panels of the longest sum are filled in parts.

// DEFINE: %{type} = f32
// DEFINE: %{round} = arith.addf %activated, %zero : f32
// DEFINE: %{size} = 0
// DEFINE: %{cpu} = x86-64
// DEFINE: %{run} = sed 's/ROUND/%{round}/; s/TYPE/%{type}/g' %s > %t.mlir && moe-run %t.mlir --lowering=cpu --target-cpu=%{cpu} --shape=x=%{size}x1037 --random-weights --check --threads=2 | FileCheck %s
// RUN: %{run}
// REDEFINE: %{size} = 1
// RUN: %{run}
// REDEFINE: %{size} = 7
// RUN: %{run}
// REDEFINE: %{cpu} = native
// RUN: %{run}
// REDEFINE: %{size} = 150
// RUN: %{run}
// REDEFINE: %{type} = bf16
// REDEFINE: %{round} = arith.truncf %activated : f32 to TYPE
// RUN: %{run}
// REDEFINE: %{size} = 1
// RUN: %{run}
// REDEFINE: %{cpu} = x86-64-v3
// RUN: %{run}
// REDEFINE: %{type} = f16
// RUN: %{run}

// CHECK: check: 'y' against {{.*}}: ok
func.func @layer(%x: tensor<?x1037xTYPE>,
                 %router: tensor<5x1037xTYPE> {moe.param = "router"},
                 %gate_up: tensor<5x1037x58xTYPE> {moe.param = "gate_up"},
                 %bias: tensor<5x58xTYPE> {moe.param = "bias"},
                 %down: tensor<5x29x1037xTYPE> {moe.param = "down"})
    -> (tensor<?x1037xTYPE> {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x1037xTYPE>
  %m = arith.muli %t, %c2 : index
  %le = tensor.empty(%t) : tensor<?x5xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x5xf32>) -> tensor<?x5xf32>
  %logits = linalg.matmul indexing_maps = [affine_map<(t, e, k) -> (t, k)>, affine_map<(t, e, k) -> (e, k)>, affine_map<(t, e, k) -> (t, e)>]
      ins(%x, %router : tensor<?x1037xTYPE>, tensor<5x1037xTYPE>) outs(%lz : tensor<?x5xf32>) -> tensor<?x5xf32>
  %wi = tensor.empty(%t) : tensor<?x2xf32>
  %ii = tensor.empty(%t) : tensor<?x2xi32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x5xf32>)
      outs(%wi, %ii : tensor<?x2xf32>, tensor<?x2xi32>)
  %oi = tensor.empty() : tensor<6xi32>
  %si = tensor.empty(%t) : tensor<?x2xi32>
  %ri = tensor.empty(%m) : tensor<?xi32>
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%oi, %si, %ri : tensor<6xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %hi = tensor.empty(%m) : tensor<?x29xTYPE>
  %h = moe.grouped_matmul offsets(%offsets : tensor<6xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(prologue(%x[t, k], %bias[e, 3]) * %gate_up[e, k, 2 * n],
               %x[t, k] * %gate_up[e, k, 2 * n + 1]
               : tensor<?x1037xTYPE>, tensor<5x58xTYPE>, tensor<5x1037x58xTYPE>,
                 tensor<?x1037xTYPE>, tensor<5x1037x58xTYPE>)
      extras(%bias[e, 2 * n + 1] : tensor<5x58xTYPE>)
      outs(%hi : tensor<?x29xTYPE>) {
  ^bb0(%g: f32, %u: f32, %b: TYPE):
    %tanh = math.tanh %g : f32
    %activated = arith.mulf %tanh, %u : f32
    %rounded = ROUND
    %biased = arith.addf %rounded, %b : TYPE
    moe.yield %biased : TYPE
  } prologue {
  ^bb0(%row: TYPE, %scale: TYPE):
    %scaled = arith.mulf %row, %scale : TYPE
    moe.yield %scaled : TYPE
  }
  %yi = tensor.empty(%t) : tensor<?x1037xTYPE>
  %y = moe.grouped_matmul offsets(%offsets : tensor<6xi32>)
      products(%h[m, k] * %down[e, k, n] : tensor<?x29xTYPE>, tensor<5x29x1037xTYPE>)
      combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>)
      base(%x : tensor<?x1037xTYPE>)
      outs(%yi : tensor<?x1037xTYPE>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x1037xTYPE>
}
