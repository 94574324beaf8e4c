//===- InPlaceResults.cpp - Which results may be made in place --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "moe/Pipelines/Passes.h"
#include "llvm/ADT/DenseSet.h"

namespace mlir::moe {
#define GEN_PASS_DEF_INPLACERESULTS
#include "moe/Pipelines/Passes.h.inc"
} // namespace mlir::moe

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
struct InPlaceResults : moe::impl::InPlaceResultsBase<InPlaceResults> {
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
