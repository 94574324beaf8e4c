//===- MatmulEpilogue.cpp - From sums in registers to results -------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MatmulEpilogue.h"

#include "DeviceRegion.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

MatmulEpilogue::Row MatmulEpilogue::enterRow(Value expert, Value row) const {
  Row result = {expert, row, Value(), Value()};
  bool needsToken = llvm::any_of(problem.extras, [](const LinearAccess &extra) {
    return extra.dependsOn(Matmul::kToken) || extra.dependsOn(Matmul::kChoice);
  });
  if (!needsToken)
    return result;
  Value source = toDevice.lookup(problem.source);
  Value position = b.loadConstant(
      b.getI32Type(), b.element(source, b.getI32Type(), b.widen(row)));
  result.token = b.div(position, problem.topK);
  result.choice = b.rem(position, problem.topK);
  return result;
}

Value MatmulEpilogue::buildAddress(const LinearAccess &access, const Row &row,
                                   Value column) const {
  Value index = b.i64(access.constant);
  std::pair<unsigned, Value> dims[] = {{Matmul::kExpert, row.expert},
                                       {Matmul::kRow, row.row},
                                       {Matmul::kToken, row.token},
                                       {Matmul::kChoice, row.choice},
                                       {Matmul::kColumn, column}};
  for (auto [dim, value] : dims)
    if (access.dependsOn(dim))
      index = b.add(index, b.mul(b.widen(value), access.coefficients[dim]));
  return b.element(toDevice.lookup(access.buffer), access.getElementType(),
                   index);
}

SmallVector<Value> MatmulEpilogue::inlineEpilogue(const Row &row, Value column,
                                                  ValueRange sums) const {
  SmallVector<Value> args(sums);
  for (const LinearAccess &extra : problem.extras)
    args.push_back(
        b.load(extra.getElementType(), buildAddress(extra, row, column)));
  return cloneIntoKernel(b, *problem.epilogue, args, toDevice);
}

/// Two neighbours are stored at once where N is even, so that all pairs are
/// whole and aligned.
bool MatmulEpilogue::storesPairs(const LinearAccess &result) const {
  return problem.getLaneColumns().next == 1 && problem.numColumns % 2 == 0 &&
         result.constant % 2 == 0 &&
         result.coefficients[Matmul::kRow] % 2 == 0 &&
         result.getElementType().getIntOrFloatBitWidth() >= 8;
}

void MatmulEpilogue::store(const LinearAccess &result, const Row &row,
                           Value column, Value value, int64_t alignment) const {
  LLVM::StoreOp::create(b, value, buildAddress(result, row, column), alignment);
}

void MatmulEpilogue::storePair(const Row &row, Value column,
                               ArrayRef<std::array<Value, 2>> sums) const {
  auto sumsOf = [&](unsigned i) {
    return llvm::map_to_vector(sums, [&](const auto &pair) { return pair[i]; });
  };
  int64_t apart = problem.getLaneColumns().next;
  Value next = b.add(column, apart);
  bool pairsAreWhole = problem.numColumns % (2 * apart) == 0;
  if (pairsAreWhole) {
    SmallVector<Value> first = inlineEpilogue(row, column, sumsOf(0));
    SmallVector<Value> second = inlineEpilogue(row, next, sumsOf(1));
    for (auto [result, x, y] : llvm::zip(problem.results, first, second)) {
      int64_t bytes = result.getElementBytes();
      if (storesPairs(result)) {
        auto type = VectorType::get({2}, x.getType());
        Value pair = vector::FromElementsOp::create(b, type, ValueRange{x, y});
        store(result, row, column, pair, 2 * bytes);
        continue;
      }
      store(result, row, column, x, bytes);
      store(result, row, next, y, bytes);
    }
    return;
  }
  for (auto [i, at] : llvm::enumerate(ArrayRef<Value>{column, next}))
    b.onlyIf(b.less(at, problem.numColumns),
             [&, i = i, at = at] { storeOne(row, at, sumsOf(i)); });
}

void MatmulEpilogue::storeOne(const Row &row, Value column,
                              ValueRange sums) const {
  for (auto [result, value] :
       llvm::zip(problem.results, inlineEpilogue(row, column, sums)))
    store(result, row, column, value, result.getElementBytes());
}

//===----------------------------------------------------------------------===//
// 16 bytes at a time
//===----------------------------------------------------------------------===//

bool MatmulEpilogue::storesQuads() const {
  constexpr int64_t kAligned = 8;
  return llvm::all_of(problem.results, [](const LinearAccess &result) {
    return result.getElementType().getIntOrFloatBitWidth() == 16 &&
           result.constant % kAligned == 0 &&
           result.coefficients[Matmul::kRow] % kAligned == 0;
  });
}

/// Word i of place q of four neighbouring lanes becomes word q of place i: two
/// neighbours exchange a word of each pair, then lanes two apart.
static void transposeInQuad(KernelBuilder &b, Value lane,
                            MutableArrayRef<Value> words) {
  for (int64_t distance : {1, 2}) {
    Value isUpper = b.equal(b.bitAnd(lane, distance), distance);
    for (int64_t i = 0; i < 4; ++i) {
      if (i & distance)
        continue;
      Value &low = words[i], &high = words[i + distance];
      Value sent = b.select(isUpper, low, high);
      Value got = b.shuffleXor(sent, distance);
      low = b.select(isUpper, got, low);
      high = b.select(isUpper, high, got);
    }
  }
}

/// Words (a₀ b₀) … (a₃ b₃), a in the lower halves, become (a₀ a₁) (a₂ a₃)
/// (b₀ b₁) (b₂ b₃).
static void sortHalves(KernelBuilder &b, MutableArrayRef<Value> words) {
  constexpr int64_t kLower = 0xffff, kUpper = -0x10000;
  Value sorted[4];
  for (int64_t i = 0; i < 2; ++i) {
    Value x = words[2 * i], y = words[2 * i + 1];
    sorted[i] = b.bitOr(b.bitAnd(x, kLower), b.shiftLeft(y, 16));
    sorted[2 + i] = b.bitOr(b.shiftRight(x, 16), b.bitAnd(y, kUpper));
  }
  llvm::copy(sorted, words.begin());
}

void MatmulEpilogue::storeQuads(const Row &row, Value isRow, Value column,
                                Value lane,
                                ArrayRef<SmallVector<Pair>> sums) const {
  Value place = b.rem(lane, 4);
  auto [step, apart] = problem.getLaneColumns();
  Value own = b.add(column, b.mul(place, step));
  // Of each result, two columns a word.
  SmallVector<SmallVector<Value>> words(problem.results.size());
  for (auto [i, pairs] : llvm::enumerate(sums)) {
    SmallVector<Value> halves[2];
    for (int64_t next = 0; next < 2; ++next)
      halves[next] = inlineEpilogue(
          row, b.add(own, i * 8 + next * apart),
          llvm::map_to_vector(pairs, [&](Pair pair) { return pair[next]; }));
    for (auto [word, x, y] : llvm::zip(words, halves[0], halves[1])) {
      auto type = VectorType::get({2}, x.getType());
      Value pair = vector::FromElementsOp::create(b, type, ValueRange{x, y});
      word.push_back(LLVM::BitcastOp::create(b, b.getI32Type(), pair));
    }
  }
  for (SmallVector<Value> &word : words) {
    transposeInQuad(b, lane, word);
    if (apart != 1)
      sortHalves(b, word);
  }
  b.onlyIf(isRow, [&] {
    auto type = VectorType::get({4}, b.getI32Type());
    for (auto [result, word] : llvm::zip(problem.results, words))
      store(result, row, b.add(column, b.mul(place, 8)),
            vector::FromElementsOp::create(b, type, word), /*alignment=*/16);
  });
}
