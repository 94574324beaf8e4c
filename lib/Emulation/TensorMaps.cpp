//===- TensorMaps.cpp - What a tensor map says to the emulated copy engine -*-
// C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TensorMaps.h"

#include "moe/Emulation/Emulation.h"

#include <cstdio>
#include <cstring>

using namespace moe::emulation;

// Bytes of CUtensorMapDataType's elements: u8 u16 u32 s32 u64 s64 f16 f32 f64
// bf16 f32ftz tf32 tf32ftz.
static constexpr uint8_t kElementBytes[] = {1, 2, 4, 4, 8, 8, 2,
                                            4, 8, 2, 4, 4, 4};

/// What the driver asks of the arguments, null if they have it.
static const char *checkArguments(uint32_t type, uint32_t rank,
                                  const void *base, const uint64_t *dims,
                                  const uint64_t *strides, const uint32_t *box,
                                  const uint32_t *elementStrides,
                                  uint32_t interleave, uint32_t swizzle) {
  if (type >= sizeof(kElementBytes))
    return "an element type that is not known here";
  if (rank < 1 || rank > 5)
    return "a rank that is not 1 to 5";
  if (reinterpret_cast<uintptr_t>(base) % 16)
    return "a base that is not aligned to 16 bytes";
  if (interleave)
    return "interleaving, which is not emulated";
  if (swizzle > 3)
    return "a swizzle that is not known here";
  for (uint32_t i = 0; i < rank; ++i) {
    if (!dims[i] || dims[i] > uint64_t(1) << 32)
      return "a dimension that is not 1 to 2^32";
    if (!box[i] || box[i] > 256)
      return "a box dimension that is not 1 to 256";
    if (elementStrides[i] != 1)
      return "an element stride other than 1, which is not emulated";
  }
  for (uint32_t i = 0; i + 1 < rank; ++i)
    if (strides[i] % 16 || strides[i] >= uint64_t(1) << 40)
      return "a stride that is no multiple of 16 below 2^40";
  uint32_t inner = box[0] * kElementBytes[type];
  if (inner % 16)
    return "an inner box dimension that is no multiple of 16 bytes";
  if (swizzle && inner > 16u << swizzle)
    return "an inner box dimension that is longer than the swizzle";
  return nullptr;
}

int32_t moe_emu_encode_tensor_map(void *map, uint32_t type, uint32_t rank,
                                  void *base, const uint64_t *dims,
                                  const uint64_t *strides, const uint32_t *box,
                                  const uint32_t *elementStrides,
                                  uint32_t interleave, uint32_t swizzle) {
  if (const char *problem =
          checkArguments(type, rank, base, dims, strides, box, elementStrides,
                         interleave, swizzle)) {
    fprintf(stderr, "emulation: tensor map with %s\n", problem);
    return 1; // CUDA_ERROR_INVALID_VALUE
  }
  TensorMap made = {};
  made.magic = TensorMap::kMagic;
  made.base = reinterpret_cast<uintptr_t>(base);
  made.rank = rank;
  made.type = type;
  made.elementBytes = kElementBytes[type];
  made.swizzle = swizzle;
  for (uint32_t i = 0; i < rank; ++i) {
    made.dims[i] = dims[i];
    made.box[i] = box[i];
    if (i)
      made.strides[i - 1] = strides[i - 1];
  }
  memcpy(map, &made, sizeof(made));
  return 0;
}
