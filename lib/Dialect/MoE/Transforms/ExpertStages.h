//===- ExpertStages.h - Where a body is cut ---------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A body of moe.expert as stages that store rows: grouped matmuls where
// products meet elementwise, and smaller moe.experts for what is neither.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_EXPERTSTAGES_H
#define LIB_DIALECT_MOE_TRANSFORMS_EXPERTSTAGES_H

#include "ExpertElements.h"
#include "llvm/ADT/MapVector.h"

namespace mlir::moe {

struct Stage {
  /// The values of the body that it stores.
  SmallVector<Value> values;
  /// The elements of those, in a grouped matmul; empty in a moe.expert.
  SmallVector<const Element *> elements;
  /// The ops of the body that a moe.expert keeps, and the row values that it
  /// reads.
  llvm::SetVector<Operation *> ops;
  llvm::SetVector<Value> reads;
  /// Why it is no grouped matmul.
  Obstacle obstacle;
  bool isGroupedMatmul() const { return !elements.empty(); }
};

class StageFinder {
public:
  explicit StageFinder(ExpertOp expert) : expert(expert), tracer(expert) {}

  /// The stages in the order of execution; none if no part of the body is a
  /// grouped matmul, and then getObstacle says why.
  std::vector<Stage> find();
  const Obstacle &getObstacle() const { return obstacle; }
  const BodyTracer &getTracer() const { return tracer; }

private:
  /// A value that is stored, and what it is computed from.
  struct Part {
    const Element *element = nullptr;
    llvm::SetVector<Value> reads;
    llvm::SetVector<Operation *> ops;
    Obstacle obstacle;
  };
  /// A product is known by its op and column.
  using ProductKey = std::pair<Operation *, AffineExpr>;

  bool findParts();
  bool findPart(Value value);
  bool findSlice(Value value, Part &part);
  bool isProduct(Value value);
  Value findChainEnd(Value product);
  void readElement(Part &part, const Element *element);
  unsigned levelOf(Value value);
  void joinStages();
  std::vector<Stage> groupParts();
  bool storeRepeatedProducts(ArrayRef<Stage> stages);
  Obstacle explainWhole();

  ExpertOp expert;
  BodyTracer tracer;
  llvm::MapVector<Value, Part> parts;
  DenseMap<Value, unsigned> levels;
  Obstacle obstacle;
};

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_EXPERTSTAGES_H
