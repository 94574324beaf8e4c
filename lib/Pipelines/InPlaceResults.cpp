//===- InPlaceResults.cpp - Which results may be made in place --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Empty-tensor elimination lets the computation of a result begin in the
/// caller's memory. One-Shot Bufferize does not know that
/// materialize_in_destination writes to that memory, as its destination is a
/// memref. So it may put another tensor there that shares a beginning with the
/// result, and read it when the result has been written over it:
///
///   %zeros = linalg.fill ... outs(%empty)
///   %a = linalg.matmul ... outs(%zeros)      // computed aside, and copied to
///   %b = linalg.matmul ... outs(%zeros)      // @a, where %b was computed
///   bufferization.materialize_in_destination %a in restrict writable @a
///   bufferization.materialize_in_destination %b in restrict writable @b
///
/// What may have begun in the memory of a result must not be read after the
/// result is written. Where it might be, the result loses its `restrict`,
/// without which elimination leaves it alone.
///
//===----------------------------------------------------------------------===//

#include "InPlaceResults.h"

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Pass/Pass.h"
#include "llvm/ADT/DenseSet.h"

using namespace mlir;
using namespace mlir::moe;
using bufferization::AnalysisState;
using bufferization::MaterializeInDestinationOp;

namespace {

/// The tensors whose memory some tensors may have, going up from these.
class Origins {
public:
  explicit Origins(const AnalysisState &state) : state(state) {}

  void add(Value tensor);
  bool intersects(const Origins &other) const {
    return llvm::any_of(
        tensors, [&](Value tensor) { return other.tensors.contains(tensor); });
  }

private:
  void visit(Value tensor, SmallVectorImpl<Value> &next) const;

  const AnalysisState &state;
  DenseSet<Value> tensors;
};

} // namespace

/// Appends what the loops and branches of `op` take and yield.
static void appendRegionValues(Operation *op, SmallVectorImpl<Value> &next) {
  llvm::append_range(next, op->getOperands());
  for (Region &region : op->getRegions())
    for (Block &block : region)
      if (block.mightHaveTerminator())
        llvm::append_range(next, block.getTerminator()->getOperands());
}

/// The same for the value number `i` that a loop carries.
static void appendCarried(scf::ForOp loop, unsigned i,
                          SmallVectorImpl<Value> &next) {
  next.push_back(loop.getInitArgs()[i]);
  next.push_back(loop.getYieldedValues()[i]);
}

/// Appends what `tensor` may share its memory with, one step up.
void Origins::visit(Value tensor, SmallVectorImpl<Value> &next) const {
  if (auto argument = dyn_cast<BlockArgument>(tensor)) {
    Operation *parent = argument.getOwner()->getParentOp();
    if (auto loop = dyn_cast<scf::ForOp>(parent))
      return appendCarried(loop, argument.getArgNumber() - 1, next);
    if (!isa<FunctionOpInterface>(parent))
      appendRegionValues(parent, next);
    return;
  }
  Operation *op = tensor.getDefiningOp();
  unsigned number = cast<OpResult>(tensor).getResultNumber();
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return appendCarried(loop, number, next);
  if (auto branch = dyn_cast<scf::IfOp>(op)) {
    next.push_back(branch.thenYield().getOperand(number));
    next.push_back(branch.elseYield().getOperand(number));
    return;
  }
  if (op->getNumRegions() && !isa<DestinationStyleOpInterface>(op))
    return appendRegionValues(op, next);
  if (!isa<bufferization::BufferizableOpInterface>(op)) {
    llvm::append_range(next, op->getOperands());
    return;
  }
  for (const bufferization::AliasingOpOperand &alias :
       state.getAliasingOpOperands(tensor))
    next.push_back(alias.opOperand->get());
}

void Origins::add(Value tensor) {
  SmallVector<Value> next = {tensor};
  while (!next.empty()) {
    Value value = next.pop_back_val();
    // Elimination replaces one use of an empty tensor, so a common one is none.
    bool isNothing = value.getDefiningOp<tensor::EmptyOp>() != nullptr;
    if (isa<TensorType>(value.getType()) && !isNothing &&
        tensors.insert(value).second)
      visit(value, next);
  }
}

/// Whether what is read after `op` may be in the memory that `op` writes.
static bool isReadLater(MaterializeInDestinationOp op,
                        const AnalysisState &state) {
  if (!isa<FunctionOpInterface>(op->getParentOp()))
    return true; // Read in the next iteration, perhaps.
  Origins origins(state), later(state);
  origins.add(op.getSource());
  for (Operation *next = op->getNextNode(); next; next = next->getNextNode())
    next->walk([&](Operation *reader) {
      for (Value operand : reader->getOperands())
        later.add(operand);
    });
  return origins.intersects(later);
}

namespace {
struct InPlaceResultsPass : PassWrapper<InPlaceResultsPass, OperationPass<>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(InPlaceResultsPass)

  StringRef getName() const override { return "InPlaceResults"; }

  void runOnOperation() override {
    bufferization::OneShotBufferizationOptions options;
    AnalysisState state(options);
    getOperation()->walk([&](MaterializeInDestinationOp op) {
      if (op.getRestrict() && isa<BaseMemRefType>(op.getDest().getType()) &&
          isReadLater(op, state))
        op.setRestrict(false);
    });
  }
};
} // namespace

std::unique_ptr<Pass> mlir::moe::createInPlaceResultsPass() {
  return std::make_unique<InPlaceResultsPass>();
}
