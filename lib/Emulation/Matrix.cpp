//===- Matrix.cpp - ldmatrix, stmatrix and mma.sync -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Elements.h"
#include "Machine.h"

using namespace moe::emulation;

//===----------------------------------------------------------------------===//
// ldmatrix, stmatrix: 8x8 matrices of 16 bits; lane 8*i + r has the address of
// row r of matrix i, and holds two neighbours of row lane/4 of each matrix.
//===----------------------------------------------------------------------===//

static char *rowAddress(Warp &warp, uint32_t matrix, uint32_t row) {
  return reinterpret_cast<char *>(warp.lane(8 * matrix + row).in[0]);
}

static const char *checkRows(Warp &warp, uint32_t matrices) {
  Block &block = *warp.block;
  for (uint32_t lane = 0; lane < 8 * matrices; ++lane) {
    auto *address = reinterpret_cast<char *>(warp.lane(lane).in[0]);
    if (!block.contains(address))
      return "a row that is not in this block's shared memory";
    uint32_t offset = block.offset(address);
    if (offset < kReservedBytes || offset + 16 > block.sharedEnd)
      return "a row out of bounds of shared memory";
    if (offset % 16)
      return "a row that is not aligned to 16 bytes";
  }
  return nullptr;
}

/// The two halves of a lane's register `matrix`: where they lie.
struct Halves {
  char *half[2];
};
static Halves halvesOf(Warp &warp, uint32_t lane, uint32_t matrix,
                       bool transposed) {
  Halves halves;
  for (uint32_t h = 0; h < 2; ++h) {
    uint32_t row = lane / 4, column = 2 * (lane % 4) + h;
    if (transposed)
      std::swap(row, column);
    halves.half[h] = rowAddress(warp, matrix, row) + 2 * column;
  }
  return halves;
}

static void touchHalf(Warp &warp, uint32_t lane, char *address, Access access,
                      const char *what, const char *site) {
  Thread &thread = warp.lane(lane);
  Block &block = *warp.block;
  Epoch now = {thread.actor, thread.clock[thread.actor]};
  if (Conflict conflict = block.shadow->touch(block.offset(address), 2, access,
                                              {now, site}, thread.clock))
    machine->fail(site, "%s", machine->explain(what, block, conflict).c_str());
}

namespace {
struct MatrixAccess {
  uint32_t matrices;
  bool transposed;
  bool store;
  const char *site;
};
} // namespace

static void moveMatrices(Warp &warp, uint32_t, uint64_t extra) {
  const auto &how = *reinterpret_cast<MatrixAccess *>(extra);
  const char *what = how.store ? "stmatrix" : "ldmatrix";
  if (const char *problem = checkRows(warp, how.matrices))
    machine->fail(how.site, "%s of %s", what, problem);
  for (uint32_t lane = 0; lane < kWarpSize; ++lane)
    for (uint32_t i = 0; i < how.matrices; ++i) {
      Halves halves = halvesOf(warp, lane, i, how.transposed);
      uint64_t *registers =
          how.store ? &warp.lane(lane).in[1] + i : &warp.lane(lane).out[i];
      uint32_t word = how.store ? *registers : 0;
      for (uint32_t h = 0; h < 2; ++h) {
        touchHalf(warp, lane, halves.half[h],
                  how.store ? Access::Write : Access::Read, what, how.site);
        uint16_t bits = word >> (16 * h);
        if (how.store)
          memcpy(halves.half[h], &bits, 2);
        else
          memcpy(&bits, halves.half[h], 2);
        if (!how.store)
          word |= uint32_t(bits) << (16 * h);
      }
      if (!how.store)
        *registers = word;
    }
}

extern "C" {

void moe_emu_ldmatrix(const char *row, uint32_t matrices, uint8_t transposed,
                      uint32_t *results, const char *site) {
  Thread &thread = self();
  thread.in[0] = reinterpret_cast<uintptr_t>(row);
  MatrixAccess how = {matrices, transposed != 0, false, site};
  machine->meet("ldmatrix", ~0u, site, moveMatrices,
                reinterpret_cast<uintptr_t>(&how), /*aligned=*/true);
  for (uint32_t i = 0; i < matrices; ++i)
    results[i] = thread.out[i];
}

void moe_emu_stmatrix(char *row, uint32_t matrices, uint8_t transposed,
                      const uint32_t *sources, const char *site) {
  Thread &thread = self();
  thread.in[0] = reinterpret_cast<uintptr_t>(row);
  for (uint32_t i = 0; i < matrices; ++i)
    thread.in[1 + i] = sources[i];
  MatrixAccess how = {matrices, transposed != 0, true, site};
  machine->meet("stmatrix", ~0u, site, moveMatrices,
                reinterpret_cast<uintptr_t>(&how), /*aligned=*/true);
}

} // extern "C"

//===----------------------------------------------------------------------===//
// mma.sync m16n8: a register holds P = 32 / bits neighbours along k. Element k
// of row r of A is with lane 4 * (r % 8) + k % 4P / P, in register
// r / 8 + 2 * (k / 4P); of column n of B with lane 4n + k % 4P / P, in k / 4P.
//===----------------------------------------------------------------------===//

namespace {
struct Mma {
  Element type;
  uint32_t k;
  const char *site;
};
} // namespace

static uint32_t wordOf(const Thread &thread, uint32_t i) {
  return thread.in[i / 2] >> (32 * (i % 2));
}

/// Tensor cores cut what f32 cannot hold of a sum.
static float roundTowardZero(double exact) {
  auto nearest = static_cast<float>(exact);
  return std::fabs(nearest) > std::fabs(exact) ? std::nextafter(nearest, 0.0F)
                                               : nearest;
}

static void multiply(Warp &warp, uint32_t, uint64_t extra) {
  const auto &mma = *reinterpret_cast<Mma *>(extra);
  uint32_t bits = bitsOf(mma.type), perWord = 32 / bits;
  uint32_t aWords = 2 * mma.k / (4 * perWord), bWords = aWords / 2;
  float a[16][32], b[8][32];
  for (uint32_t k = 0; k < mma.k; ++k) {
    uint32_t lane = k % (4 * perWord) / perWord, reg = k / (4 * perWord);
    uint32_t shift = k % perWord * bits;
    for (uint32_t r = 0; r < 16; ++r)
      a[r][k] = decode(mma.type,
                       wordOf(warp.lane(4 * (r % 8) + lane), r / 8 + 2 * reg) >>
                           shift);
    for (uint32_t n = 0; n < 8; ++n)
      b[n][k] = decode(mma.type,
                       wordOf(warp.lane(4 * n + lane), aWords + reg) >> shift);
  }
  for (uint32_t lane = 0; lane < kWarpSize; ++lane)
    for (uint32_t i = 0; i < 4; ++i) {
      uint32_t r = lane / 4 + 8 * (i / 2), n = 2 * (lane % 4) + i % 2;
      Thread &thread = warp.lane(lane);
      uint32_t word = wordOf(thread, aWords + bWords + i);
      float sum;
      memcpy(&sum, &word, 4);
      // Products are exact. How sums are rounded is not stated; measurements
      // found them cut, products beside larger ones already before the addition
      // (which is not done here).
      double exact = sum;
      for (uint32_t k = 0; k < mma.k; ++k)
        exact += double(a[r][k]) * b[n][k];
      sum = roundTowardZero(exact);
      memcpy(&word, &sum, 4);
      thread.out[i] = word;
    }
}

/// `operands`: registers of A, of B, then four f32 of C. The type says how
/// many.
extern "C" void moe_emu_mma(uint32_t type, uint32_t k, const uint32_t *operands,
                            uint32_t *results, const char *site) {
  Thread &thread = self();
  Mma mma = {static_cast<Element>(type), k, site};
  uint32_t perWord = 32 / bitsOf(mma.type);
  uint32_t words = 3 * k / (4 * perWord) + 4;
  for (uint32_t i = 0; i < words; i += 2)
    thread.in[i / 2] =
        operands[i] | (i + 1 < words ? uint64_t(operands[i + 1]) << 32 : 0);
  machine->meet("mma.sync", ~0u, site, multiply,
                reinterpret_cast<uintptr_t>(&mma), /*aligned=*/true);
  for (uint32_t i = 0; i < 4; ++i)
    results[i] = thread.out[i];
}
