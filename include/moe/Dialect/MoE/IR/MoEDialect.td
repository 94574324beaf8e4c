//===- MoEDialect.td - The moe dialect -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_TD
#define MOE_DIALECT_TD

include "mlir/IR/DialectBase.td"

def MoE_Dialect : Dialect {
  let name = "moe";
  let cppNamespace = "::mlir::moe";
  let summary = "Mixture-of-Experts layers: gate, dispatch, expert, combine";
  let description = [{
    A Mixture-of-Experts layer sends each of T tokens to k of E experts and adds
    what they return. The dialect has one op for each of the four steps, in
    destination style on ranked tensors, without side effects:

    | op             | what it does                                                        |
    |----------------|---------------------------------------------------------------------|
    | `moe.gate`     | logits `T×E` → the k experts of each token, and their weights       |
    | `moe.dispatch` | ids `T×k` → rows sorted by expert, offsets `E+1`, slots `T×k`       |
    | `moe.expert`   | applies a region to the rows of each expert that has any            |
    | `moe.combine`  | adds the k rows of each token, weighted, in a fixed order           |

    The router's matmul, other score functions, shared experts, norms and
    residuals are plain `linalg` and `arith` around these ops.

    Rules that hold for every op:

    * *Widths.* ids, offsets and slots are `i32`; a layer holds fewer than 2³¹
      choices.
    * *Nowhere.* An id outside [0, E) routes its choice nowhere, on every path
      and without undefined behaviour: −1, identity and skip classes, experts
      that live on another rank.
    * *Rounding.* Every tensor element type and every `arith` cast is a rounding
      point that all lowerings keep.
    * *Order.* Sums have one order, given in the op's description, so results do
      not depend on threads or tiles.

    Two attributes on function arguments tell the tools where tensors come from:
    `moe.param = "model.layers.0.mlp.gate.weight"` names the tensor of a
    checkpoint (with `{expert}`, one tensor an expert, stacked), and
    `moe.name = "x"` the argument itself. Results may have a `moe.name` too.

    * argument_c1: an argument has no other attribute of the dialect.
    * argument_c2: a result has no other attribute of the dialect than
      `moe.name`.
    * argument_c3: the value is a string, and not empty.

    A `moe.lowering_config` on an op carries every decision on how it runs on one
    kind of machine: on a `moe.grouped_matmul` a `#moe.cpu_matmul`, `#moe.gpu_matmul`
    or `#moe.gpu_wgmma`, on a `moe.gate` or `moe.plan` a `#moe.cpu_routing`. A
    strategy pass writes it, a user can pin it, later passes only read it.

    * lowering_config_c1: its value is one of these attributes.
    * lowering_config_c2: it configures the op that it is on.

    The version of the dialect that bytecode carries is 0.2.
  }];
  let useDefaultAttributePrinterParser = 1;
  let hasConstantMaterializer = 0;
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let hasRegionResultAttrVerify = 1;
  let dependentDialects = ["::mlir::affine::AffineDialect", "::mlir::tensor::TensorDialect"];
}

#endif // MOE_DIALECT_TD
