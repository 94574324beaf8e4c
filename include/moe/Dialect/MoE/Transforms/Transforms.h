//===- Transforms.h - Rewrites of moe ops, as functions -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The passes in Passes.td are shells around these; an embedder needs no pass
// manager.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_TRANSFORMS_TRANSFORMS_H
#define MOE_DIALECT_MOE_TRANSFORMS_TRANSFORMS_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/PatternMatch.h"
#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir {
class DialectRegistry;

namespace moe {

/// What each op means, in upstream dialects: builds the computation at the
/// insertion point of `builder` (before `op`) and returns one value per result.
/// The op itself is left for the caller to replace. Ops on memrefs are not
/// accepted; see decomposeOp.
SmallVector<Value> decomposeGate(OpBuilder &builder, GateOp op);
SmallVector<Value> decomposeDispatch(OpBuilder &builder, DispatchOp op);
SmallVector<Value> decomposeExpert(OpBuilder &builder, ExpertOp op);
SmallVector<Value> decomposeCombine(OpBuilder &builder, CombineOp op);
SmallVector<Value> decomposePlan(OpBuilder &builder, PlanOp op);
SmallVector<Value> decomposeGroupedMatmul(OpBuilder &builder,
                                          GroupedMatmulOp op);
SmallVector<Value> decomposeRoute(OpBuilder &builder, RouteOp op);

/// Replaces one moe op by its decomposition through AggregatedOpInterface.
/// Fails, without a change, on ops of other dialects and on ops that have none.
LogicalResult decomposeOp(RewriterBase &rewriter, Operation *op);

/// decomposeOp as a pattern, for hosts that run one driver for everything.
void populateDecomposePatterns(RewritePatternSet &patterns);

/// Replaces `plan`, the gate that makes its ids, the matmul that makes the
/// gate's logits, and the elementwise work between and after them by one
/// moe.route. Fails, with a missed remark, where moe-fuse-routing declines; the
/// program then means what it meant.
FailureOr<RouteOp> fuseRouting(RewriterBase &rewriter, PlanOp plan);

/// The same for a dispatch of which rows are read: it stays, copying rows by
/// the ids of the moe.route, which gives the offsets and slots.
FailureOr<RouteOp> fuseRouting(RewriterBase &rewriter, DispatchOp dispatch);

/// Replaces a reduction on memrefs by loops that carry the sums of up to
/// `numChains` neighbouring outputs in registers. Fails, without a change,
/// where moe-linalg-reductions-to-loops declines.
LogicalResult rewriteReductionAsLoops(RewriterBase &rewriter,
                                      linalg::LinalgOp op,
                                      int64_t numChains = 8);

/// Cuts the body of `expert` into stages and replaces it by moe.grouped_matmul
/// where products meet elementwise, and by smaller moe.experts elsewhere.
/// Fails, without a change and with a missed remark, if no part of it is a
/// grouped matmul.
LogicalResult rewriteExpertAsGroupedMatmuls(RewriterBase &rewriter,
                                            ExpertOp expert);

/// Lets the grouped matmuls that read rows of `dispatch` read the tokens
/// themselves, and replaces it by moe.plan; payloads that others read stay with
/// a moe.dispatch. Fails, without a change, if no payload is spared.
LogicalResult rewriteDispatchAsPlan(RewriterBase &rewriter,
                                    DispatchOp dispatch);

/// Lets the grouped matmul that makes the rows of `combine` add them into the
/// tokens. Fails, without a change, if others need the rows as well, or if
/// its offsets and the slots are not of one plan.
LogicalResult rewriteCombineIntoGroupedMatmul(RewriterBase &rewriter,
                                              CombineOp combine);

/// Makes a tensor that is added to the f32 result of `combine`, which nothing
/// else reads, the base; the sum may then round to f16 or bf16. Fails, without
/// a change, where something else reads the result, or it rounded before.
FailureOr<CombineOp> rewriteAddAsBase(RewriterBase &rewriter,
                                      CombineOp combine);

/// The rewrites of dispatches and combines as patterns, for hosts that run one
/// driver for everything.
void populateFusionPatterns(RewritePatternSet &patterns);

/// AggregatedOpInterface for all ops (used by moe-decompose).
void registerAggregatedOpInterfaceExternalModels(DialectRegistry &registry);

/// BufferizableOpInterface: in place on the destinations. moe.expert has none
/// to offer and says to decompose it first.
void registerBufferizableOpInterfaceExternalModels(DialectRegistry &registry);

/// RuntimeVerifiableOpInterface: what the verifier cannot see, asserted before
/// the op by `-generate-runtime-verification`.
void registerRuntimeVerifiableOpInterfaceExternalModels(
    DialectRegistry &registry);

/// TilingInterface: moe.gate by tokens, moe.combine by tokens and columns,
/// moe.grouped_matmul by rows and columns, or by columns alone where it adds
/// into tokens. On tensors; a tile is the op on slices, with the same bits.
/// moe.route, moe.plan and moe.dispatch count over all tokens and have none.
void registerTilingInterfaceExternalModels(DialectRegistry &registry);

} // namespace moe
} // namespace mlir

#endif // MOE_DIALECT_MOE_TRANSFORMS_TRANSFORMS_H
