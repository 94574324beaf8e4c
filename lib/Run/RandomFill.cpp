//===- RandomFill.cpp - Seeded values for tensors without a file ----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/RandomFill.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Support/xxhash.h"
#include <cmath>
#include <vector>

using namespace llvm;
using namespace mlir::moe;

namespace {

/// Random bits by place (the finalizer of splitmix64 over a Weyl sequence).
class RandomBits {
public:
  RandomBits(uint64_t seed, StringRef name)
      : start(mix(mix(seed) ^ xxh3_64bits(name))) {}

  uint64_t operator()(uint64_t place) const {
    return mix(start + place * 0x9e3779b97f4a7c15);
  }
  /// In [0, 1), a multiple of 2^-53.
  double uniform(uint64_t place) const {
    return static_cast<double>((*this)(place) >> 11) * 0x1p-53;
  }
  /// By Box and Muller, from two uniform values.
  double normal(uint64_t place) const {
    double radius = std::sqrt(-2 * std::log(1 - uniform(2 * place)));
    return radius * std::cos(2 * numbers::pi * uniform(2 * place + 1));
  }

private:
  static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

  uint64_t start;
};

} // namespace

/// With as many digits as it needs, at most `maxDigits`.
static std::string formatNumber(double value, int maxDigits) {
  std::string text;
  raw_string_ostream(text) << format("%.*g", maxDigits, value);
  return text;
}

std::string FillRule::describe() const {
  if (kind == Normal)
    return "random normal";
  std::string from = formatNumber(low, 6), to = formatNumber(high, 6);
  return low == high ? from + " everywhere"
                     : "random in [" + from + ", " + to + "]";
}

FillRule mlir::moe::getWeightRule(ArrayRef<int64_t> shape) {
  double fanIn = shape.empty() ? 1 : std::max<int64_t>(shape.back(), 1);
  double bound = 1 / std::sqrt(fanIn);
  return {FillRule::Uniform, -bound, bound};
}

/// The smallest and the largest value of an integer type or bool.
static std::pair<double, double> getIntegerRange(ElementType type) {
  if (type == ElementType::Bool)
    return {0, 1};
  // Signed, as the runs of compiled functions see them. A double holds the ends
  // of i64 but for the last bit; beyond 2^53 it could not name single values.
  double bound =
      std::min(std::ldexp(1.0, 8 * getElementSize(type) - 1), 0x1p53);
  return {-bound, bound - 1};
}

Error mlir::moe::checkFillRule(const FillRule &rule, ElementType type) {
  if (isFloat(type))
    return Error::success();
  if (rule.kind == FillRule::Normal)
    return createStringError("there is no normal distribution of " +
                             getName(type) + " values; give a range");
  auto [low, high] = getIntegerRange(type);
  for (double end : {rule.low, rule.high})
    if (end != std::floor(end) || end < low || end > high)
      return createStringError(
          formatNumber(end, 17) + " is no " + getName(type) +
          "; it takes whole numbers from " + formatNumber(low, 17) + " to " +
          formatNumber(high, 17));
  return Error::success();
}

/// Calls `value(i)` for every element and stores the results, chunk by chunk.
template <typename T, typename Fn>
static void store(HostTensor &tensor, ElementType valueType, Fn value) {
  constexpr uint64_t chunk = 4096;
  T values[chunk];
  uint64_t size = getElementSize(tensor.getType());
  uint64_t count = tensor.getByteSize() / size;
  uint8_t *bytes = tensor.getMutableBytes().data();
  for (uint64_t begin = 0; begin < count; begin += chunk) {
    uint64_t n = std::min(chunk, count - begin);
    for (uint64_t i = 0; i < n; ++i)
      values[i] = value(begin + i);
    // Cannot fail: floats become floats, and integers are in range.
    cantFail(convertElements(valueType, values, tensor.getType(),
                             bytes + begin * size, n, begin));
  }
}

void mlir::moe::fillRandom(HostTensor &tensor, const FillRule &rule,
                           uint64_t seed, StringRef name) {
  RandomBits bits(seed, name);
  if (rule.kind == FillRule::Normal)
    return store<float>(tensor, ElementType::F32,
                        [&](uint64_t i) { return float(bits.normal(i)); });
  if (isFloat(tensor.getType()))
    return store<double>(tensor, ElementType::F64, [&](uint64_t i) {
      return rule.low + (rule.high - rule.low) * bits.uniform(i);
    });
  int64_t low = static_cast<int64_t>(rule.low);
  uint64_t span = static_cast<uint64_t>(rule.high - rule.low) + 1;
  auto integer = [&](uint64_t i) { return low + int64_t(bits(i) % span); };
  if (tensor.getType() != ElementType::Bool)
    return store<int64_t>(tensor, ElementType::I64, integer);
  MutableArrayRef<uint8_t> bytes = tensor.getMutableBytes();
  for (uint64_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<uint8_t>(integer(i));
}
