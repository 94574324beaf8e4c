//===- PermuteKernel.cpp - Rows in the order of the experts ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A matmul's copies to shared memory move bytes: what a prologue computes has
// to be in memory before, once for each row, and not once for each tile of
// columns that reads it. A thread loads and stores 16 bytes' worth of a row.
//
//===----------------------------------------------------------------------===//

#include "PermuteKernel.h"

#include "TileCopy.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

int64_t mlir::moe::getPermuteBlocks(const MatmulProblem &problem) {
  return llvm::divideCeil(problem.length,
                          problem.getPieceElements() * kPermuteThreads);
}

/// True if the prologue reads elements by `dim`.
static bool prologueUses(const MatmulProblem &problem, Matmul::Dim dim) {
  return llvm::any_of(problem.prologue.maps,
                      [&](AffineMap map) { return map.isFunctionOfDim(dim); });
}

bool mlir::moe::permuteReadsSource(const MatmulProblem &problem) {
  return problem.isGathered || prologueUses(problem, Matmul::kToken) ||
         prologueUses(problem, Matmul::kChoice);
}

namespace {

class PermuteKernel {
public:
  PermuteKernel(KernelBuilder &b, const MatmulProblem &problem, Value rows,
                const IRMapping &toDevice, Value numExperts)
      : b(b), problem(problem), rows(rows), toDevice(toDevice),
        numExperts(numExperts), width(problem.getPieceElements()) {}

  void build() {
    int64_t numBlocks = getPermuteBlocks(problem);
    Value inBlock = b.mul(b.threadId(), width);
    Value numOwned = loadOffset(numExperts);
    b.loop(b.blockId(), b.mul(numOwned, numBlocks), b.numBlocks(), ValueRange(),
           [&](Value number, ValueRange) -> SmallVector<Value> {
             Value row = b.div(number, numBlocks);
             Value first =
                 b.add(b.mul(b.rem(number, numBlocks), width * kPermuteThreads),
                       inBlock);
             b.onlyIf(b.less(first, problem.length),
                      [&] { storePiece(row, first); });
             return {};
           });
  }

private:
  KernelBuilder &b;
  const MatmulProblem &problem;
  Value rows;
  const IRMapping &toDevice;
  Value numExperts;
  /// Elements that a thread stores.
  int64_t width;

  Value loadOffset(Value expert) {
    Value offsets = toDevice.lookup(problem.offsets);
    return b.loadConstant(b.getI32Type(),
                          b.element(offsets, b.getI32Type(), b.widen(expert)));
  }

  /// The number of experts whose rows end at `row` or before.
  Value findExpert(Value row) {
    auto isOpen = [&](ValueRange range) { return b.less(range[0], range[1]); };
    auto halve = [&](ValueRange range) -> SmallVector<Value> {
      Value middle = b.div(b.add(range[0], range[1]), 2),
            next = b.add(middle, 1);
      Value isAfter = b.less(row, loadOffset(next));
      return {b.select(isAfter, range[0], next),
              b.select(isAfter, middle, range[1])};
    };
    return b.loopWhile({b.i32(0), numExperts}, isOpen, halve)[0];
  }

  /// Values (i64) of the op's dimensions that the row and the prologue use; k
  /// stays open.
  SmallVector<Value> enterRow(Value row) {
    SmallVector<Value> dims(Matmul::kNumDims);
    dims[Matmul::kRow] = b.widen(row);
    if (prologueUses(problem, Matmul::kExpert))
      dims[Matmul::kExpert] = b.widen(findExpert(row));
    if (!permuteReadsSource(problem))
      return dims;
    Value source = toDevice.lookup(problem.source);
    Value position = b.loadConstant(
        b.getI32Type(), b.element(source, b.getI32Type(), b.widen(row)));
    dims[Matmul::kToken] = b.widen(b.div(position, problem.topK));
    dims[Matmul::kChoice] = b.widen(b.rem(position, problem.topK));
    return dims;
  }

  /// Elements from `first` of the row on, as they are stored.
  SmallVector<Value> loadPiece(ArrayRef<Value> dims, Value first) {
    const LinearAccess &access = problem.rows;
    unsigned dim = problem.isGathered ? Matmul::kToken : Matmul::kRow;
    int64_t distance = access.coefficients[dim],
            step = access.coefficients[Matmul::kSum];
    Value index = b.add(b.mul(dims[dim], distance),
                        b.add(b.mul(b.widen(first), step), access.constant));
    Type type = access.getElementType();
    Value pointer = b.element(toDevice.lookup(access.buffer), type, index);
    SmallVector<Value> elements;
    if (step != 1) {
      for (int64_t i = 0; i < width; ++i)
        elements.push_back(
            b.load(type, b.element(pointer, type, b.i64(i * step))));
      return elements;
    }
    int64_t bytes = access.getElementBytes();
    // Buffers are aligned to 16 bytes, and rows as their distance is.
    uint64_t alignment = llvm::MinAlign(
        llvm::MinAlign(access.constant * bytes, distance * bytes),
        llvm::MinAlign(width * bytes, kPieceBytes));
    Value loaded = LLVM::LoadOp::create(b, VectorType::get({width}, type),
                                        pointer, alignment);
    for (int64_t i = 0; i < width; ++i)
      elements.push_back(vector::ExtractOp::create(b, loaded, i));
    return elements;
  }

  void storePiece(Value row, Value first) {
    SmallVector<Value> dims = enterRow(row);
    SmallVector<Value> elements = loadPiece(dims, first);
    for (auto [i, element] : llvm::enumerate(elements)) {
      dims[Matmul::kSum] = b.widen(b.add(first, i));
      element =
          inlineDeviceRegion(b, problem.prologue, element, dims, toDevice)[0];
    }
    auto type = VectorType::get({width}, problem.elementType);
    Value piece = vector::FromElementsOp::create(b, type, elements);
    Value index =
        b.add(b.mul(dims[Matmul::kRow], problem.length), b.widen(first));
    LLVM::StoreOp::create(
        b, piece, b.element(toDevice.lookup(rows), problem.elementType, index),
        /*alignment=*/kPieceBytes);
  }
};

} // namespace

void mlir::moe::buildPermuteKernel(KernelBuilder &b,
                                   const MatmulProblem &problem, Value rows,
                                   const IRMapping &toDevice,
                                   Value numExperts) {
  PermuteKernel(b, problem, rows, toDevice, numExperts).build();
}
