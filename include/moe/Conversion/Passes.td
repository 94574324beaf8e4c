//===- Passes.td - From kernel-level ops to code ----------*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// What the pipelines of several targets run; the passes of one target are in a
// file of their own.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_CONVERSION_PASSES_TD
#define MOE_CONVERSION_PASSES_TD

include "mlir/Pass/PassBase.td"
include "moe/Conversion/CPUPasses.td"
include "moe/Conversion/GPUPasses.td"

def MoEContractionToGroupedMatmul : Pass<"moe-contraction-to-grouped-matmul"> {
  let summary = "makes dense contractions grouped matmuls of one group";
  let description = [{
    A router's matmul, a shared expert's, and those of expert bodies that were not
    fused are linalg contractions `out[m, n] += rows[m, k] · weights[n, k]` with
    f32 sums. As a `moe.grouped_matmul` with one group of all rows they get the
    code that experts get. Takes contractions on tensors with static weights of
    f32, f16 or bf16 that k runs last in; others are left alone. What the output
    held before is added by the epilogue.

    Before:

    ```mlir
    %logits = linalg.matmul indexing_maps = [(t, e, k) -> (t, k), (t, e, k) -> (e, k), (t, e, k) -> (t, e)]
        ins(%x, %router : tensor<?x2048xf32>, tensor<64x2048xf32>) outs(%zeros : tensor<?x64xf32>)
    ```

    After:

    ```mlir
    %offsets = tensor.from_elements %c0, %num_tokens : tensor<2xi32>
    %logits = moe.grouped_matmul offsets(%offsets : tensor<2xi32>)
        products(%x[m, k] * %router[n, k] : tensor<?x2048xf32>, tensor<64x2048xf32>)
        outs(%empty : tensor<?x64xf32>) { ^bb0(%p: f32): moe.yield %p : f32 }
    ```
  }];
  let options = [
    Option<"cutRows", "cut-rows", "bool", "false",
           "Make up to 16 groups of the rows of a router (at most 512 columns), for threads">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect",
    "::mlir::moe::MoEDialect"
  ];
}

#endif // MOE_CONVERSION_PASSES_TD
