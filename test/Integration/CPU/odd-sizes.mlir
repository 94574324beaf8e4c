// Sizes that are multiples of nothing, on each kind of vector instructions, against
// the general lowering: no tokens, one, few, and more than a block of rows.

// DEFINE: %{size} = 0
// DEFINE: %{cpu} = x86-64
// DEFINE: %{run} = moe-run %s --lowering=cpu --target-cpu=%{cpu} --shape=x=%{size}x37 --random-weights --check --threads=2 | FileCheck %s
// RUN: %{run}
// REDEFINE: %{size} = 1
// RUN: %{run}
// REDEFINE: %{size} = 7
// RUN: %{run}
// REDEFINE: %{size} = 150
// RUN: %{run}
// REDEFINE: %{cpu} = native
// RUN: %{run}
// REDEFINE: %{size} = 6
// RUN: %{run}

// The same bits on any number of threads.
// RUN: moe-run %s --lowering=cpu --shape=x=150x37 --random-weights --threads=1 --output=y=%t.1.npy
// RUN: moe-run %s --lowering=cpu --shape=x=150x37 --random-weights --threads=3 --output=y=%t.3.npy
// RUN: cmp %t.1.npy %t.3.npy

// With tasks for groups of rows, of tokens that choose, and of tokens to be sorted.
// RUN: moe-run %s --lowering=cpu --shape=x=3001x37 --random-weights --threads=1 --output=y=%t.1.npy
// RUN: moe-run %s --lowering=cpu --shape=x=3001x37 --random-weights --threads=3 --output=y=%t.3.npy
// RUN: cmp %t.1.npy %t.3.npy

// CHECK: check: 'y' against {{.*}}: ok
func.func @layer(%x: tensor<?x37xf32>,
                 %router: tensor<5x37xf32> {moe.param = "router"},
                 %gate_up: tensor<5x58x37xf32> {moe.param = "gate_up"},
                 %bias: tensor<5x29xf32> {moe.param = "bias"},
                 %down: tensor<5x37x29xf32> {moe.param = "down"})
    -> (tensor<?x37xf32> {moe.name = "y"}) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x37xf32>
  %m = arith.muli %t, %c2 : index
  %le = tensor.empty(%t) : tensor<?x5xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x5xf32>) -> tensor<?x5xf32>
  %logits = linalg.matmul indexing_maps = [affine_map<(t, e, k) -> (t, k)>, affine_map<(t, e, k) -> (e, k)>, affine_map<(t, e, k) -> (t, e)>]
      ins(%x, %router : tensor<?x37xf32>, tensor<5x37xf32>) outs(%lz : tensor<?x5xf32>) -> tensor<?x5xf32>
  %wi = tensor.empty(%t) : tensor<?x2xf32>
  %ii = tensor.empty(%t) : tensor<?x2xi32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x5xf32>)
      outs(%wi, %ii : tensor<?x2xf32>, tensor<?x2xi32>)
  %oi = tensor.empty() : tensor<6xi32>
  %si = tensor.empty(%t) : tensor<?x2xi32>
  %ri = tensor.empty(%m) : tensor<?xi32>
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
      outs(%oi, %si, %ri : tensor<6xi32>, tensor<?x2xi32>, tensor<?xi32>)
  %hi = tensor.empty(%m) : tensor<?x29xf32>
  %h = moe.grouped_matmul offsets(%offsets : tensor<6xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %gate_up[e, 2 * n, k], %x[t, k] * %gate_up[e, 2 * n + 1, k]
               : tensor<?x37xf32>, tensor<5x58x37xf32>, tensor<?x37xf32>, tensor<5x58x37xf32>)
      extras(%bias[e, n], %weights[t, j] : tensor<5x29xf32>, tensor<?x2xf32>)
      outs(%hi : tensor<?x29xf32>) {
  ^bb0(%g: f32, %u: f32, %b: f32, %w: f32):
    %one = arith.constant 1.0 : f32
    %biased = arith.addf %g, %b : f32
    %negative = arith.negf %biased : f32
    %exp = math.exp %negative : f32
    %denominator = arith.addf %exp, %one : f32
    %silu = arith.divf %biased, %denominator : f32
    %product = arith.mulf %silu, %u : f32
    %scaled = arith.mulf %product, %w : f32
    moe.yield %scaled : f32
  }
  %yi = tensor.empty(%t) : tensor<?x37xf32>
  %y = moe.grouped_matmul offsets(%offsets : tensor<6xi32>)
      products(%h[m, k] * %down[e, n, k] : tensor<?x29xf32>, tensor<5x37x29xf32>)
      combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>)
      base(%x : tensor<?x37xf32>)
      outs(%yi : tensor<?x37xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x37xf32>
}
