//===- Compare.cpp - How far a result is from its reference -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Compare.h"
#include <cmath>
#include <limits>

using namespace llvm;
using namespace mlir::moe;

double mlir::moe::getDefaultTolerance(ElementType type) {
  switch (type) {
  case ElementType::F64:
    return 168 * 0x1p-53;
  case ElementType::F32:
    return 168 * 0x1p-24;
  case ElementType::F16:
    return 4 * 0x1p-11;
  case ElementType::BF16:
    return 4 * 0x1p-8;
  default:
    return 0;
  }
}

namespace {

/// Reads a tensor row by row, each value as a `T`.
template <typename T>
class RowReader {
public:
  RowReader(const TensorView &tensor, ElementType type, uint64_t width)
      : tensor(tensor), type(type), row(width) {}

  /// The next row. Fails on an integer that is no `T`.
  Error read() {
    const uint8_t *source =
        tensor.data + next * row.size() * getElementSize(tensor.type);
    return convertElements(tensor.type, source, type, row.data(), row.size(),
                           next++ * row.size());
  }
  ArrayRef<T> getRow() const { return row; }

private:
  const TensorView &tensor;
  ElementType type;
  std::vector<T> row;
  uint64_t next = 0;
};

} // namespace

/// Calls `compare(row number, values, references)` for every row.
template <typename T, typename Fn>
static Error forEachRow(const TensorView &result, const TensorView &reference,
                        ElementType type, uint64_t numRows, uint64_t width,
                        Fn compare) {
  RowReader<T> values(result, type, width), references(reference, type, width);
  for (uint64_t i = 0; i < numRows; ++i) {
    if (Error error = values.read())
      return error;
    if (Error error = references.read())
      return createStringError("reference " + quoteName(reference.name) + ": " +
                               toString(std::move(error)));
    compare(i, values.getRow(), references.getRow());
  }
  return Error::success();
}

static double getRowError(ArrayRef<double> values, ArrayRef<double> reference) {
  double difference = 0, largest = 0;
  for (auto [y, ref] : zip(values, reference)) {
    if (std::isfinite(ref))
      largest = std::max(largest, std::abs(ref));
    bool isSame = y == ref || (std::isnan(y) && std::isnan(ref));
    if (isSame)
      continue;
    if (!std::isfinite(y) || !std::isfinite(ref))
      return std::numeric_limits<double>::infinity();
    difference = std::max(difference, std::abs(y - ref));
  }
  // Not 0 / 0 for a row of zeros.
  return difference == 0 ? 0 : difference / largest;
}

/// Whether values of the two types can be compared.
static bool areComparable(ElementType a, ElementType b) {
  if (isFloat(a) || isInteger(a))
    return isFloat(a) == isFloat(b) && isInteger(a) == isInteger(b);
  return a == b && a == ElementType::Bool;
}

Error mlir::moe::checkComparable(const TensorView &result,
                                 const TensorView &reference) {
  bool sameShape = result.shape == reference.shape;
  if (sameShape && areComparable(result.type, reference.type))
    return Error::success();
  return createStringError(
      "result " + quoteName(result.name) + " is " +
      formatTensorType(result.shape, result.type) + ", but its reference " +
      quoteName(reference.name) + " is " +
      formatTensorType(reference.shape, reference.type) + "; " +
      (sameShape ? "floats compare with floats, integers with integers, and "
                   "bools with bools"
                 : "the shapes must be the same"));
}

Expected<Difference> mlir::moe::compareTensors(const TensorView &result,
                                               const TensorView &reference) {
  if (Error error = checkComparable(result, reference))
    return std::move(error);
  uint64_t numElements = result.byteSize / getElementSize(result.type);
  uint64_t width = result.shape.empty() ? 1 : result.shape.back();
  Difference difference;
  difference.isExact = !isFloat(result.type);
  difference.numRows = width ? numElements / width : 0;
  auto compareFloats = [&](uint64_t i, ArrayRef<double> values,
                           ArrayRef<double> references) {
    double error = getRowError(values, references);
    if (error <= difference.error)
      return;
    difference.error = error;
    difference.row = i;
  };
  auto compareExactly = [&](uint64_t i, auto values, auto references) {
    for (auto [y, ref] : zip(values, references))
      if (y != ref && difference.numUnequal++ == 0)
        difference.row = i;
  };
  auto compareRows = [&]() -> Error {
    uint64_t numRows = difference.numRows;
    if (isFloat(result.type))
      return forEachRow<double>(result, reference, ElementType::F64, numRows,
                                width, compareFloats);
    if (isInteger(result.type))
      return forEachRow<int64_t>(result, reference, ElementType::I64, numRows,
                                 width, compareExactly);
    return forEachRow<uint8_t>(result, reference, ElementType::Bool, numRows,
                               width, compareExactly);
  };
  if (Error error = compareRows())
    return std::move(error);
  return difference;
}
