//===- DecomposeDispatch.cpp - moe.dispatch in upstream dialects ----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The sort of PlanBuilder, copying payloads as rows are handed out.
//
//===----------------------------------------------------------------------===//

#include "PlanBuilder.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "moe/Dialect/MoE/Utils/SliceBuilder.h"

using namespace mlir;
using namespace mlir::moe;

/// Copies payload[source, …] to rows[row, …].
static Value copyRow(OpBuilder &b, Location loc, Value payload,
                     ArrayRef<Value> source, Value rows, Value row) {
  SlicePlace from(b, loc, payload);
  for (auto [i, index] : llvm::enumerate(source)) {
    from.offsets[i] = index;
    from.sizes[i] = b.getIndexAttr(1);
  }
  auto payloadType = cast<RankedTensorType>(payload.getType());
  SmallVector<int64_t> rowShape(
      payloadType.getShape().drop_front(source.size() - 1));
  rowShape[0] = 1;
  Value slice =
      buildExtractSlice(b, loc, payloadType.clone(rowShape), payload, from);
  SlicePlace to(b, loc, rows);
  to.offsets[0] = row;
  // Of the slice rather than of the rows: either may be the more static.
  to.sizes.assign(from.sizes.begin() + (source.size() - 1), from.sizes.end());
  return buildInsertSlice(b, loc, slice, rows, to);
}

SmallVector<Value> mlir::moe::decomposeDispatch(OpBuilder &builder,
                                                DispatchOp op) {
  Location loc = op.getLoc();
  auto place = [&](OpBuilder &b, Value token, Value choice, Value row,
                   ValueRange rows) -> Carried {
    Carried placed;
    for (auto [i, payload] : llvm::enumerate(op.getPayloads())) {
      SmallVector<Value> source = {token};
      if (i >= op.getTokens().size())
        source.push_back(choice);
      placed.push_back(copyRow(b, loc, payload, source, rows[i], row));
    }
    return placed;
  };
  return buildPlan(builder, loc, PlanOperands::of(op), op.getRowInits(), place);
}
