//===- MoEKernelOps.td - Kernel-level operations of the moe dialect -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What fusion makes and code generation reads.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_KERNEL_OPS_TD
#define MOE_KERNEL_OPS_TD

include "moe/Dialect/MoE/IR/MoEBase.td"

//===----------------------------------------------------------------------===//
// moe.plan
//===----------------------------------------------------------------------===//

def MoE_PlanOp : MoE_BufferizableOp<"plan"> {
  let summary = "sorts choices by expert, without moving data";
  let description = [{
    ```
    ids: T×k  →  offsets: E+1,  slots: T×k,  source: M
    ```

    The counting sort of `moe.dispatch` alone: offsets and slots are those that
    a dispatch of the same ids gives, with the same rules for ids that are
    nowhere, capacity, order, priority and groups. `source[m]` is the choice
    t·k + j that row m belongs to, −1 for rows at or beyond offsets[E]. So a
    consumer reads the token of row m as `source[m] / k` and its choice as
    `source[m] % k`: `moe.grouped_matmul` gathers rows this way in its main loop
    instead of reading copies.

    M, the size of `source`, is at least offsets[E]; T·k always suffices.

    Constraints:

    * plan_c1: operands are all tensors or all memrefs.
    * plan_c2: there are three inits: offsets (i32, rank 1), slots (i32, rank 2)
      and source (i32, rank 1).
    * plan_c3: slots have the shape of ids.
    * plan_c4: offsets has at least one element.
    * plan_c5: `priority` has the shape of ids.
    * plan_c6: `order`, `priority` and `tokens_per_group` need `capacity`.

    Example:

    ```mlir
    %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x8xi32>)
        outs(%o, %s, %r : tensor<65xi32>, tensor<?x8xi32>, tensor<?xi32>)
    ```
  }];

  let arguments = (ins
    MoE_Shaped<[I32], [2]>:$ids,
    Optional<Index>:$capacity,
    Optional<MoE_Shaped<[F32], [2]>>:$priority,
    Optional<Index>:$tokens_per_group,
    Variadic<MoE_Shaped<[I32], [1, 2]>>:$inits,
    DefaultValuedAttr<MoE_CapacityOrderAttr, "::mlir::moe::CapacityOrder::TokenMajor">:$order
  );

  let assemblyFormat = [{
    `ids` `(` $ids `:` type($ids) `)`
    (`capacity` `(` $capacity^ `)`)?
    (`order` `(` `` custom<Keyword>($order)^ `)`)?
    (`priority` `(` $priority^ `:` type($priority) `)`)?
    (`tokens_per_group` `(` $tokens_per_group^ `)`)?
    custom<Outs>($inits, type($inits), type($results))
    attr-dict
  }];

  let extraClassDeclaration = destinationStyleDecl # [{
    ::mlir::Value getOffsetsInit() { return getInits()[0]; }
    ::mlir::Value getSlotsInit() { return getInits()[1]; }
    ::mlir::Value getSourceInit() { return getInits()[2]; }
    /// E, from the offsets; kDynamic if unknown.
    int64_t getNumExperts();
  }];
}

#endif // MOE_KERNEL_OPS_TD
