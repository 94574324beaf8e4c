//===- RouterMatmul.h - The matmul that makes logits ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_ROUTERMATMUL_H
#define LIB_DIALECT_MOE_TRANSFORMS_ROUTERMATMUL_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"

namespace mlir::moe {

/// sums[t, e] = init[t, e] + Σ_k x[t, k] · router[e, k] (or router[k, e]),
/// in f32.
struct RouterMatmul {
  linalg::LinalgOp op;
  Value x, router;
  bool isExpertMajor;

  Value getSums() const { return op->getResult(0); }
  Value getInit() { return op.getDpsInits()[0]; }
};

/// Products and sums of some kind: one reduction over two inputs. The looser
/// notion, to tell users about matmuls that are not taken.
bool isMatmulLike(Operation *op);

/// Matches `op`; otherwise `reason` says what is in the way and `advice` what
/// to change.
FailureOr<RouterMatmul> matchRouterMatmul(Operation *op, std::string &reason,
                                          std::string &advice);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_ROUTERMATMUL_H
