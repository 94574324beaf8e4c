//===- PackingPasses.td - Layers on packed weights --------*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_TRANSFORMS_PACKINGPASSES_TD
#define MOE_DIALECT_MOE_TRANSFORMS_PACKINGPASSES_TD

include "mlir/Pass/PassBase.td"

def MoEPackWeights : Pass<"moe-pack-weights"> {
  let summary = "lets grouped matmuls read packed weights";
  let description = [{
    CPUs stream weights best in panels of 32 columns. This pass replaces the
    weights that a function takes by packed ones, in one layout for all
    instruction sets, and puts a function beside it that makes these:

    | element | type | index |
    |---|---|---|
    | bf16 | E × ⌈N/32⌉ × ⌈K/2⌉ × 32 × 2 | `[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2]` |
    | f32, f16 | E × ⌈N/32⌉ × K × 32 | `[e, n floordiv 32, k, n mod 32]` |

    Columns from N on are zeros, and so is what stands beside the last of an odd
    number of elements. Results have the same bits on the general lowering;
    others may add in another order.

    Packed is each weight of a `moe.grouped_matmul` on tensors that is an argument
    of the function, is read by grouped matmuls alone, as `[e, n, k]` or
    `[e, k, n]`, and has static N and K. What is read as `n + c` or `s * n + c`
    (gate and up one after the other, or in turns) becomes a packed argument for
    each such expression, NAME_0, NAME_1, …, in its place. Others stay as they are:
    dense weights, those that a decode region computes, those that something else
    reads, functions that others call. So do all weights that an op reads beside
    one that stays, and those beside them in other ops: of an op's weights all are
    packed or none, as the code for CPUs reads them. A missed remark says of each
    what keeps it from being packed, or which other weight does.

    The other function has one argument for each tensor that was replaced, with
    the attributes it had, and one result for each packed argument, in the order
    of these. The number of experts is dynamic: one call packs them all, and one
    with a slab of one expert packs that. It is called `NAME_pack`, as artifacts
    look for it; where something else is called so, the pass ends with an error.
    `moe.packed` of the first function has the numbers of the arguments that the
    results are for, and `moe.pack` names the second. This symbol is what connects
    the two: `moe-general-lowering` and `moe-cpu-lowering` run on functions with ops
    of this dialect and on what symbols connect with them, and the second function
    has none of these ops. In a module by itself, or without `moe.pack`, it keeps
    its `linalg.pack`s; lower it where the layer is.

    A packed argument keeps its `moe.name` (the result for it is called NAME_packed);
    its `moe.param` is that of the stored tensor without `{expert}`, and with
    `.packed` at the end. A name that another argument has gets `_2`, `_3`, … before
    what is added, a `moe.param` `.2`, `.3`, … behind `.packed`.

    Runs after `moe-fuse`; `moe-cpu-lowering` does not run it.

    Before:

    ```mlir
    func.func @layer(%x: tensor<?x8xbf16>, %up: tensor<4x70x8xbf16> {moe.param = "experts.{expert}.up"}, ...) {
      ...
      %h = moe.grouped_matmul offsets(%o : tensor<5xi32>)
          products(%x[m, k] * %up[e, n, k] : tensor<?x8xbf16>, tensor<4x70x8xbf16>) ...
    ```

    After:

    ```mlir
    func.func @layer(%x: tensor<?x8xbf16>, %up: tensor<4x3x4x32x2xbf16> {moe.param = "experts.up.packed"}, ...)
        attributes {moe.pack = @layer_pack, moe.packed = array<i32: 1>} {
      ...
      %h = moe.grouped_matmul offsets(%o : tensor<5xi32>)
          products(%x[m, k] * %up[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2]
                   : tensor<?x8xbf16>, tensor<4x3x4x32x2xbf16>) ...

    func.func @layer_pack(%up: tensor<?x70x8xbf16> {moe.param = "experts.{expert}.up"})
        -> tensor<?x3x4x32x2xbf16> {
      ...
      %packed = linalg.pack %up padding_value(%zero : bf16) inner_dims_pos = [1, 2] inner_tiles = [32, 2]
          into %empty : tensor<?x70x8xbf16> -> tensor<?x3x4x32x2xbf16>
      return %packed : tensor<?x3x4x32x2xbf16>
    }
    ```
  }];
  let statistics = [
    Statistic<"numPacked", "num-packed", "Number of packed arguments">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"
  ];
}

#endif // MOE_DIALECT_MOE_TRANSFORMS_PACKINGPASSES_TD
