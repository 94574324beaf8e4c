//===- Dequantize.cpp - The values of codes and scales ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Products are made in f32 and rounded once, whatever the type of the result:
// so does transformers.
//
//===----------------------------------------------------------------------===//

#include "Dequantize.h"
#include "llvm/ADT/Twine.h"
#include <algorithm>
#include <cmath>
#include <cstring>

using namespace llvm;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// fp8
//===----------------------------------------------------------------------===//

float mlir::moe::e8m0ToF32(uint8_t bits) {
  return std::ldexp(1.0f, static_cast<int>(bits) - 127);
}

Error mlir::moe::decodeScales(ElementType type, const uint8_t *scales,
                              MutableArrayRef<float> factors) {
  if (type != ElementType::U8)
    return convertElements(type, scales, ElementType::F32, factors.data(),
                           factors.size());
  std::transform(scales, scales + factors.size(), factors.begin(), e8m0ToF32);
  return Error::success();
}

Error mlir::moe::dequantizeFp8Row(ElementType codeType, ArrayRef<uint8_t> codes,
                                  ArrayRef<float> factors, int64_t block,
                                  ElementType type, uint8_t *destination) {
  constexpr int64_t step = 1024;
  float values[step];
  int64_t size = codes.size();
  for (int64_t begin = 0; begin < size; begin += step) {
    int64_t end = std::min(size, begin + step);
    if (Error error = convertElements(codeType, codes.data() + begin,
                                      ElementType::F32, values, end - begin))
      return error;
    for (int64_t i = begin; i < end;) {
      int64_t last = std::min(end, (i / block + 1) * block);
      float factor = factors[i / block];
      for (; i < last; ++i)
        values[i - begin] *= factor;
    }
    if (Error error = convertElements(
            ElementType::F32, values, type,
            destination + begin * getElementSize(type), end - begin))
      return error;
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// mxfp4
//===----------------------------------------------------------------------===//

/// The values of e2m1, by their codes.
static constexpr float kE2M1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,
                                    4.0f,  6.0f,  -0.0f, -0.5f, -1.0f, -1.5f,
                                    -2.0f, -3.0f, -4.0f, -6.0f};

Expected<Mxfp4Decoder> Mxfp4Decoder::create(ElementType type) {
  uint64_t width = getElementSize(type);
  if (!isFloat(type) || width < 2)
    return createStringError("mxfp4 is not dequantized to " + getName(type) +
                             "; give the argument the type bf16");
  std::vector<float> values;
  for (unsigned scale = 0; scale < 256; ++scale)
    for (float value : kE2M1)
      values.push_back(std::ldexp(value, static_cast<int>(scale) - 127));
  Mxfp4Decoder decoder;
  decoder.width = width;
  decoder.table.resize(values.size() * width);
  if (Error error = convertElements(ElementType::F32, values.data(), type,
                                    decoder.table.data(), values.size()))
    return std::move(error);
  return decoder;
}

/// A tile of 32 inputs by 64 outputs is gathered and then written by its rows,
/// so that the transposed side is written in whole cache lines.
template <typename Bits>
void Mxfp4Decoder::decodeAs(const uint8_t *blocks, const uint8_t *scales,
                            int64_t groups, int64_t first, int64_t count,
                            int64_t rows, uint8_t *destination) const {
  constexpr int64_t tileRows = 64;
  Bits tile[kMxfp4BlockValues][tileRows];
  for (int64_t start = 0; start < count; start += tileRows) {
    int64_t n = std::min(tileRows, count - start);
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t row = 0; row < n; ++row) {
        int64_t block = (start + row) * groups + group;
        Bits values[16];
        std::memcpy(values, table.data() + scales[block] * sizeof(values),
                    sizeof(values));
        for (int64_t i = 0; i < kMxfp4BlockBytes; ++i) {
          uint8_t pair = blocks[block * kMxfp4BlockBytes + i];
          tile[2 * i][row] = values[pair & 15];
          tile[2 * i + 1][row] = values[pair >> 4];
        }
      }
      for (int64_t i = 0; i < kMxfp4BlockValues; ++i) {
        int64_t place = (group * kMxfp4BlockValues + i) * rows + first + start;
        std::memcpy(destination + place * sizeof(Bits), tile[i],
                    n * sizeof(Bits));
      }
    }
  }
}

void Mxfp4Decoder::decode(const uint8_t *blocks, const uint8_t *scales,
                          int64_t groups, int64_t first, int64_t count,
                          int64_t rows, uint8_t *destination) const {
  if (width == sizeof(uint16_t))
    return decodeAs<uint16_t>(blocks, scales, groups, first, count, rows,
                              destination);
  if (width == sizeof(uint32_t))
    return decodeAs<uint32_t>(blocks, scales, groups, first, count, rows,
                              destination);
  return decodeAs<uint64_t>(blocks, scales, groups, first, count, rows,
                            destination);
}
