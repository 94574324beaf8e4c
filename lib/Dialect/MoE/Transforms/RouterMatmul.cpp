//===- RouterMatmul.cpp - The matmul that makes logits --------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RouterMatmul.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/MultiplyAdd.h"

using namespace mlir;
using namespace mlir::moe;

bool mlir::moe::isMatmulLike(Operation *op) {
  auto linalgOp = dyn_cast<linalg::LinalgOp>(op);
  return linalgOp && linalgOp.hasPureTensorSemantics() &&
         linalgOp.getNumReductionLoops() >= 1 &&
         linalgOp.getNumDpsInputs() == 2 && linalgOp.getNumDpsInits() == 1 &&
         cast<ShapedType>(linalgOp.getDpsInits()[0].getType()).getRank() == 2;
}

/// The input of an operation that only extends or transposes a matrix; sets
/// `transposes`. Null for other operations.
static Value getViewed(Operation *op, bool &transposes) {
  transposes = false;
  if (auto extension = dyn_cast_or_null<arith::ExtFOp>(op))
    return extension.getIn();
  auto linalgOp = dyn_cast_or_null<linalg::LinalgOp>(op);
  if (!linalgOp || !linalgOp.hasPureTensorSemantics() ||
      linalgOp.getNumDpsInputs() != 1 || linalgOp.getNumDpsInits() != 1 ||
      linalgOp.getNumLoops() != 2 || linalgOp.getNumParallelLoops() != 2)
    return {};
  Value yielded = linalgOp.getBlock()->getTerminator()->getOperand(0);
  AffineMap in = linalgOp.getIndexingMapsArray()[0];
  AffineMap out = linalgOp.getIndexingMapsArray()[1];
  if (skipExtension(yielded) != linalgOp.getBlock()->getArgument(0) ||
      !in.isPermutation() || !out.isPermutation())
    return {};
  transposes = in != out;
  return linalgOp.getDpsInputs()[0];
}

/// What an operand of the matmul is made of, as it is stored.
static Value skipViews(Value value, bool &transposed) {
  transposed = false;
  while (true) {
    bool transposes;
    Value input = getViewed(value.getDefiningOp(), transposes);
    if (!input || !isa<RankedTensorType>(input.getType()) ||
        !isFactorType(getElementTypeOrSelf(input)))
      return value;
    transposed ^= transposes;
    value = input;
  }
}

FailureOr<RouterMatmul> mlir::moe::matchRouterMatmul(Operation *op,
                                                     std::string &reason,
                                                     std::string &advice) {
  auto decline = [&](StringRef why, StringRef what) {
    reason = why;
    advice = what;
    return failure();
  };
  auto matmul = cast<linalg::LinalgOp>(op);
  if (!getElementTypeOrSelf(op->getResult(0)).isF32())
    return decline("the router's matmul does not add in f32",
                   "give it a destination of f32, and round the sums after it");
  if (matmul.getNumLoops() != 3 || matmul.getNumParallelLoops() != 2 ||
      !addsProducts(matmul))
    return decline("the router's reduction is no matmul of tokens and experts",
                   "write it as one linalg.matmul of T×K and E×K or K×E");
  // Loops by where the result has them.
  AffineMap out = matmul.getIndexingMapsArray()[2];
  auto loopOf = [](AffineMap map, unsigned i) -> int {
    auto dim = dyn_cast<AffineDimExpr>(map.getResult(i));
    return dim ? static_cast<int>(dim.getPosition()) : -1;
  };
  int token = loopOf(out, 0), expert = loopOf(out, 1);
  StringRef wantsMatmul = "write it as one linalg.matmul of T×K and E×K or K×E";
  if (token < 0 || expert < 0 || token == expert)
    return decline("the router's matmul has another result than T×E",
                   wantsMatmul);
  int sum = 3 - token - expert;
  Value operands[2];                // Tokens and router,
  bool swapped[2] = {false, false}; // as [k, t] and [k, e].
  for (unsigned i : {0, 1}) {
    AffineMap map = matmul.getIndexingMapsArray()[i];
    bool isMatrix = map.getNumResults() == 2;
    int first = isMatrix ? loopOf(map, 0) : -1;
    int second = isMatrix ? loopOf(map, 1) : -1;
    int own = first == sum ? second : first;
    bool isExpert = own == expert;
    if ((first != sum && second != sum) || (!isExpert && own != token) ||
        operands[isExpert])
      return decline("the router's matmul does not multiply tokens by experts",
                     wantsMatmul);
    bool transposed;
    operands[isExpert] = skipViews(matmul.getDpsInputs()[i], transposed);
    swapped[isExpert] = (first == sum) ^ transposed;
  }
  if (swapped[0])
    return decline("the tokens are K×T", "store them as T×K");
  for (Value operand : operands)
    if (!isFactorType(getElementTypeOrSelf(operand)))
      return decline(
          "an operand of the router's matmul is not f32, f16 or bf16",
          "decode it before");
  return RouterMatmul{matmul, operands[0], operands[1], !swapped[1]};
}
