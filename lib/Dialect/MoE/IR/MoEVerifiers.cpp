//===- MoEVerifiers.cpp - The numbered constraints of moe ops -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Each check carries the number it has in MoEOps.td and in
// test/Dialect/MoE/invalid.mlir.
//
//===----------------------------------------------------------------------===//

#include "Verification.h"

using namespace mlir;
using namespace mlir::moe;

namespace {
/// The number of rows M that several values share: the first static one, and
/// whose it is. Agreeing pair by pair is not enough, since ? agrees with all.
struct SharedRows {
  int64_t count = ShapedType::kDynamic;
  StringRef kind;
  unsigned index = 0;

  /// Checks value `i` of a kind against those before.
  LogicalResult add(Operation *op, StringRef newKind, unsigned i, Value value) {
    int64_t rows = dimOf(value, 0);
    if (!agree(rows, count))
      return op->emitOpError()
             << newKind << " #" << i << " has " << rows << " rows, but " << kind
             << " #" << index << " has " << count;
    if (ShapedType::isDynamic(count)) {
      count = rows;
      kind = newKind;
      index = i;
    }
    return success();
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// moe.gate
//===----------------------------------------------------------------------===//

static LogicalResult verifyGroups(Operation *op, GroupsAttr groups,
                                  int64_t numExperts, int64_t topK) {
  if (!groups || ShapedType::isDynamic(numExperts))
    return success();
  if (numExperts % groups.getCount() != 0) // gate_c8
    return op->emitOpError("groups: count = ")
           << groups.getCount() << " does not divide the " << numExperts
           << " experts of logits";
  int64_t groupSize = numExperts / groups.getCount();
  if (!ShapedType::isDynamic(topK) &&
      groups.getKeep() * groupSize < topK) // gate_c9
    return op->emitOpError("groups: the ")
           << groups.getKeep() << " kept groups of " << groupSize
           << " hold fewer experts than k = " << topK << "; keep more groups";
  if (groups.getScore() == GroupScore::Top2Sum && groupSize < 2) // gate_c10
    return op->emitOpError("groups: top2_sum needs at least two experts in a "
                           "group, got ")
           << groupSize << "; use score = max";
  return success();
}

LogicalResult mlir::moe::verifySelection(Operation *op, Score score,
                                         SoftmaxScope scope, GroupsAttr groups,
                                         FloatAttr scale, int64_t numExperts,
                                         int64_t topK) {
  if (scope == SoftmaxScope::Selected && score != Score::Softmax) // gate_c7
    return op->emitOpError("scope(selected) is a softmax over the selected "
                           "logits, but the score is ")
           << stringifyScore(score);
  if (!scale.getValue().isFinite()) // gate_c11
    return op->emitOpError("scale must be finite, got ") << scale;
  return verifyGroups(op, groups, numExperts, topK);
}

LogicalResult mlir::moe::verifyTopK(Operation *op, int64_t topK,
                                    int64_t numExperts) {
  if (ShapedType::isDynamic(topK) ||
      (topK >= 1 && (ShapedType::isDynamic(numExperts) || topK <= numExperts)))
    return success();
  return op->emitOpError("k = ") // gate_c6
         << topK << " must be between 1 and the number of experts, "
         << str(numExperts);
}

static LogicalResult verifyGateShapes(GateOp op) {
  ArrayRef<int64_t> weights = shapeOf(op.getWeightsInit());
  ArrayRef<int64_t> ids = shapeOf(op.getIdsInit());
  ArrayRef<int64_t> logits = shapeOf(op.getLogits());
  if (!agree(weights, ids)) // gate_c2
    return op.emitOpError("weights and ids must have one shape T×k, got ")
           << str(weights) << " and " << str(ids);
  if (!agree(logits[0], weights[0]) || !agree(logits[0], ids[0])) // gate_c3
    return op.emitOpError("logits have ")
           << logits[0] << " tokens, the destinations "
           << (agree(logits[0], weights[0]) ? ids[0] : weights[0]);
  if (op.getBias() && !agree(dimOf(op.getBias(), 0), logits[1])) // gate_c4
    return op.emitOpError("bias has ")
           << dimOf(op.getBias(), 0) << " elements, but logits have "
           << logits[1] << " experts";
  if (op.getMix() && !agree(shapeOf(op.getMix()), logits)) // gate_c5
    return op.emitOpError("mix must have the shape of logits, ")
           << str(logits) << ", got " << str(shapeOf(op.getMix()));
  return verifyTopK(op, op.getTopK(), logits[1]); // gate_c6
}

LogicalResult GateOp::verify() {
  if (failed(verifyAllTensorsOrAllMemrefs(*this))) // gate_c1
    return failure();
  if (getInits().size() != 2 || !elementType(getInits()[0]).isF32() ||
      !elementType(getInits()[1]).isInteger(32)) // gate_c2
    return emitOpError("needs two destinations, weights (f32) and ids (i32), "
                       "got ")
           << getInits().getTypes();
  if (failed(verifyGateShapes(*this)))
    return failure();
  return verifySelection(*this, getScore(), getSoftmaxScope(), getGroupsAttr(),
                         getScaleAttr(), getNumExperts(), getTopK());
}

//===----------------------------------------------------------------------===//
// moe.dispatch
//===----------------------------------------------------------------------===//

/// dispatch_c4…c7 for payload `i`, whose first dimensions are `outerShape`.
static LogicalResult verifyPayload(DispatchOp op, unsigned i, Value payload,
                                   ArrayRef<int64_t> outerShape,
                                   SharedRows &rows) {
  ArrayRef<int64_t> shape = shapeOf(payload);
  size_t outerDims = outerShape.size();
  StringRef kind = outerDims == 1 ? "token" : "choice";
  if (shape.size() < outerDims ||
      !agree(shape.take_front(outerDims), outerShape))
    return op.emitOpError("payload #") // dispatch_c4, dispatch_c5
           << i << " is a " << kind << " payload and must start with "
           << str(outerShape) << ", got " << str(shape);
  Value init = op.getRowInits()[i];
  ArrayRef<int64_t> rowShape = shapeOf(init);
  if (elementType(init) != elementType(payload) || rowShape.empty() ||
      !agree(rowShape.drop_front(), shape.drop_front(outerDims)))
    return op.emitOpError("row value #") // dispatch_c6
           << i << " must be rows of " << str(shape.drop_front(outerDims))
           << " of " << elementType(payload) << " like its payload, got "
           << init.getType();
  return rows.add(op, "row value", i, init); // dispatch_c7
}

/// dispatch_c9 and dispatch_c10, plan_c5 and plan_c6.
template <typename OpTy>
static LogicalResult verifyCapacity(OpTy op) {
  ArrayRef<int64_t> ids = shapeOf(op.getIds());
  if (op.getPriority() && !agree(shapeOf(op.getPriority()), ids))
    return op.emitOpError("priority must have the shape of ids, ")
           << str(ids) << ", got " << str(shapeOf(op.getPriority()));
  bool limitsCapacity = op.getPriority() || op.getTokensPerGroup() ||
                        op.getOrder() != CapacityOrder::TokenMajor;
  if (limitsCapacity && !op.getCapacity())
    return op.emitOpError("order, priority and tokens_per_group say which "
                          "choices a full expert drops; add capacity(…) or "
                          "remove them");
  return success();
}

LogicalResult DispatchOp::verify() {
  if (failed(verifyAllTensorsOrAllMemrefs(*this))) // dispatch_c1
    return failure();
  SmallVector<Value> payloads = getPayloads();
  if (getInits().size() != 2 + payloads.size()) // dispatch_c2
    return emitOpError("needs ")
           << 2 + payloads.size()
           << " destinations (offsets, slots, and a row value for each of the "
           << payloads.size() << " payloads), got " << getInits().size();
  Value offsets = getOffsetsInit(), slots = getSlotsInit();
  if (!elementType(offsets).isInteger(32) || shapeOf(offsets).size() != 1 ||
      !elementType(slots).isInteger(32) || shapeOf(slots).size() != 2)
    return emitOpError("offsets must be E+1 and slots T×k of i32, got ")
           << offsets.getType() << " and " << slots.getType();
  ArrayRef<int64_t> ids = shapeOf(getIds());
  if (!agree(ids, shapeOf(slots))) // dispatch_c3
    return emitOpError("slots must have the shape of ids, ")
           << str(ids) << ", got " << str(shapeOf(slots));
  size_t numTokenPayloads = getTokens().size();
  SharedRows rows;
  for (auto [i, payload] : llvm::enumerate(payloads))
    if (failed(verifyPayload(*this, i, payload,
                             ids.take_front(i < numTokenPayloads ? 1 : 2),
                             rows)))
      return failure();
  if (dimOf(offsets, 0) == 0) // dispatch_c8
    return emitOpError("offsets has 0 elements; for E experts it has E+1");
  return verifyCapacity(*this); // dispatch_c9, dispatch_c10
}

//===----------------------------------------------------------------------===//
// moe.plan
//===----------------------------------------------------------------------===//

LogicalResult PlanOp::verify() {
  if (failed(verifyAllTensorsOrAllMemrefs(*this))) // plan_c1
    return failure();
  if (getInits().size() != 3 || shapeOf(getOffsetsInit()).size() != 1 ||
      shapeOf(getSlotsInit()).size() != 2 ||
      shapeOf(getSourceInit()).size() != 1) // plan_c2
    return emitOpError(
               "needs three destinations, offsets (rank 1), slots (rank "
               "2) and source (rank 1), got ")
           << getInits().getTypes();
  if (!agree(shapeOf(getIds()), shapeOf(getSlotsInit()))) // plan_c3
    return emitOpError("slots must have the shape of ids, ")
           << str(shapeOf(getIds())) << ", got "
           << str(shapeOf(getSlotsInit()));
  if (dimOf(getOffsetsInit(), 0) == 0) // plan_c4
    return emitOpError("offsets has 0 elements; for E experts it has E+1");
  return verifyCapacity(*this); // plan_c5, plan_c6
}

//===----------------------------------------------------------------------===//
// moe.expert
//===----------------------------------------------------------------------===//

/// expert_c2 for the row values.
static LogicalResult verifyRowValues(ExpertOp op, SharedRows &rows) {
  for (auto [i, row] : llvm::enumerate(op.getRows())) {
    if (shapeOf(row).empty())
      return op.emitOpError("row value #")
             << i << " must be M×…, got " << row.getType();
    if (failed(rows.add(op, "row value", i, row)))
      return failure();
  }
  return success();
}

LogicalResult ExpertOp::verify() {
  if (shapeOf(getOffsets()).size() != 1 || dimOf(getOffsets(), 0) == 0)
    return emitOpError("offsets must have rank 1 and E+1 elements, got ")
           << getOffsets().getType(); // expert_c9
  for (auto [i, param] : llvm::enumerate(getParams())) {
    ArrayRef<int64_t> shape = shapeOf(param);
    if (shape.empty() || !agree(shape[0], getNumExperts())) // expert_c4
      return emitOpError("per-expert value #")
             << i << " must have a slice for each of the "
             << str(getNumExperts()) << " experts of offsets, got "
             << str(shape);
  }
  SharedRows rows;
  return verifyRowValues(*this, rows);
}

/// expert_c3 and expert_c5: the argument for operand `value`.
static LogicalResult verifyBodyArg(ExpertOp op, BlockArgument arg, Value value,
                                   bool isRow) {
  auto type = dyn_cast<RankedTensorType>(arg.getType());
  ArrayRef<int64_t> inner = shapeOf(value).drop_front();
  bool ok = type && type.getElementType() == elementType(value);
  if (ok && isRow)
    ok = type.getRank() >= 1 && type.isDynamicDim(0) &&
         agree(type.getShape().drop_front(), inner);
  else if (ok)
    ok = agree(type.getShape(), inner);
  if (ok)
    return success();
  std::string expected =
      isRow ? (inner.empty() ? "?" : "?x" + str(inner)) : str(inner);
  return op.emitOpError("body argument #")
         << arg.getArgNumber() << " stands for " << (isRow ? "rows" : "a slice")
         << " of " << value.getType() << " and must be a tensor of " << expected
         << " of " << elementType(value) << ", got " << arg.getType();
}

static LogicalResult verifyBodyArgs(ExpertOp op) {
  unsigned expected = 1 + op.getRows().size() + op.getParams().size();
  if (op.getBody().getNumArguments() != expected ||
      !op.getExpertArg().getType().isIndex()) // expert_c1
    return op.emitOpError("the body must have ")
           << expected << " arguments (the expert's index, "
           << op.getRows().size() << " row values, " << op.getParams().size()
           << " per-expert values), got (" << op.getBody().getArgumentTypes()
           << ")";
  for (auto [arg, row] : llvm::zip(op.getRowArgs(), op.getRows()))
    if (failed(verifyBodyArg(op, arg, row, /*isRow=*/true)))
      return failure();
  for (auto [arg, param] : llvm::zip(op.getParamArgs(), op.getParams()))
    if (failed(verifyBodyArg(op, arg, param, /*isRow=*/false)))
      return failure();
  return success();
}

/// expert_c7: the yielded value `i` against its init.
static LogicalResult verifyYielded(ExpertOp op, unsigned i) {
  Value init = op.getInits()[i];
  auto type =
      dyn_cast<RankedTensorType>(op.getYieldOp().getValues()[i].getType());
  if (!type)
    return op.emitOpError("yielded value #")
           << i << " must be a ranked tensor, got "
           << op.getYieldOp().getValues()[i].getType();
  ArrayRef<int64_t> initShape = shapeOf(init);
  bool isRow = type.getRank() == static_cast<int64_t>(initShape.size());
  ArrayRef<int64_t> shape = type.getShape();
  bool ok = !initShape.empty() && type.getElementType() == elementType(init);
  if (ok && isRow)
    ok = type.isDynamicDim(0) &&
         agree(shape.drop_front(), initShape.drop_front());
  else if (ok)
    ok = agree(shape, initShape.drop_front()) &&
         agree(initShape[0], op.getNumExperts());
  if (ok)
    return success();
  return op.emitOpError("yielded value #")
         << i << " must be rows (dynamic in the first dimension) or one "
         << "expert's slice of the destination " << init.getType() << ", got "
         << type;
}

static LogicalResult verifyYield(ExpertOp op) {
  size_t numYielded = op.getYieldOp().getValues().size();
  if (numYielded != op.getInits().size()) // expert_c6
    return op.emitOpError("yields ") << numYielded << " values for "
                                     << op.getInits().size() << " destinations";
  SharedRows rows;
  if (failed(verifyRowValues(op, rows)))
    return failure();
  bool seenParam = false;
  for (unsigned i = 0; i < numYielded; ++i) {
    if (failed(verifyYielded(op, i)))
      return failure();
    if (!op.isRowInit(i)) {
      seenParam = true;
      continue;
    }
    if (seenParam) // expert_c6
      return op.emitOpError("row results must come before per-expert results, "
                            "but result #")
             << i << " is a row value";
    if (failed(rows.add(op, "row destination", i, op.getInits()[i])))
      return failure(); // expert_c2
  }
  return success();
}

LogicalResult ExpertOp::verifyRegions() {
  if (failed(verifyBodyArgs(*this)) || failed(verifyYield(*this)))
    return failure();
  return verifyNoSideEffects(*this, getBody(), "body"); // expert_c8
}

//===----------------------------------------------------------------------===//
// moe.combine
//===----------------------------------------------------------------------===//

LogicalResult CombineOp::verify() {
  if (failed(verifyAllTensorsOrAllMemrefs(*this))) // combine_c1
    return failure();
  if (!agree(shapeOf(getWeights()), shapeOf(getSlots()))) // combine_c2
    return emitOpError("weights must have the shape of slots, ")
           << str(shapeOf(getSlots())) << ", got "
           << str(shapeOf(getWeights()));
  if (getInits().size() != 1) // combine_c3
    return emitOpError("needs one destination T×H, got ") << getInits().size();
  int64_t expected[] = {dimOf(getSlots(), 0), dimOf(getRows(), 1)};
  if (!agree(shapeOf(getInit()), expected)) // combine_c3
    return emitOpError("the destination must be T×H = ")
           << str(expected) << " (tokens of slots, width of rows), got "
           << str(shapeOf(getInit()));
  for (ArrayRef<int64_t> result : {shapeOf(getInit()), ArrayRef(expected)})
    if (getBase() && !agree(shapeOf(getBase()), result)) // combine_c4
      return emitOpError("base must have the shape of the result, ")
             << str(result) << ", got " << str(shapeOf(getBase()));
  return success();
}
