//===- Wgmma.cpp - Products of a warp group, from shared memory -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Elements.h"
#include "Machine.h"
#include "TensorMaps.h"

#include <cstring>

using namespace moe::emulation;

namespace {

/// A matrix descriptor of PTX, and how its operand is laid out.
struct Descriptor {
  uint32_t start, leading, stride; // bytes
  uint32_t swizzle;                // 0 none, 1 32 bytes, 2 64, 3 128
  bool transposed;                 // rows (m or n) are contiguous, not k

  Descriptor(uint64_t bits, bool transposed)
      : start((bits & 0x3fff) << 4), leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4), transposed(transposed) {
    // The field counts down: 1 is 128 bytes, 3 is 32.
    uint32_t layout = bits >> 62;
    swizzle = layout ? 4 - layout : 0;
  }

  /// Offset in the window of byte `kByte` of row `row`, before the swizzle.
  uint32_t offset(uint32_t row, uint32_t k, uint32_t elementBytes) const {
    if (transposed) {
      // Units of (width of the swizzle) x 8 elements: `leading` apart along the
      // rows, `stride` along k.
      uint32_t width = swizzle ? 16u << swizzle : 16, perWidth = width / 2;
      return start + row / perWidth * leading + row % perWidth * 2 +
             k / 8 * stride + k % 8 * width;
    }
    uint32_t byte = k * elementBytes;
    if (swizzle)
      return start + row / 8 * stride + row % 8 * (16u << swizzle) + byte;
    // Without a swizzle, 8 rows of 16 bytes lie together.
    return start + row / 8 * stride + row % 8 * 16 + byte / 16 * leading +
           byte % 16;
  }
};

struct Wgmma {
  Descriptor a, b;
  Element type;
  uint32_t n, k;
  bool accumulate, negateA, negateB;
  const char *site;
};

/// Reads operands for one warp, and notes what it reads.
class OperandReader {
public:
  OperandReader(Warp &warp, const Wgmma &op) : warp(warp), op(op) {
    // Something is known if all lanes know it.
    known = warp.lane(0).clock;
    for (uint32_t lane = 1; lane < kWarpSize; ++lane)
      known.meet(warp.lane(lane).clock);
  }

  /// Row `row` of the operand: k values.
  void read(const Descriptor &from, uint32_t row, float *values) {
    uint32_t bytes = bitsOf(op.type) / 8;
    for (uint32_t k = 0; k < op.k; ++k) {
      uint32_t offset = swizzled(from.offset(row, k, bytes), from.swizzle);
      if (offset < kReservedBytes || offset + bytes > warp.block->sharedEnd)
        machine->fail(op.site,
                      "wgmma reads byte %u of shared memory, but the block has "
                      "[%u, %u)",
                      offset, kReservedBytes, warp.block->sharedEnd);
      note(offset, bytes);
      uint32_t bits = 0;
      memcpy(&bits, warp.block->window + offset, bytes);
      values[k] = decode(op.type, bits);
    }
  }

private:
  /// Neighbours in memory become one read.
  void note(uint32_t offset, uint32_t bytes) {
    Epoch next = {warp.matrixActor, warp.matrixClock + 1};
    if (Conflict conflict = warp.block->shadow->issueRead(
            offset, bytes, {next, op.site}, known))
      machine->fail(op.site, "%s",
                    machine->explain("wgmma", *warp.block, conflict).c_str());
    std::vector<AsyncRead> &reads = warp.matrixReads;
    if (!reads.empty() && reads.back().offset + reads.back().bytes == offset &&
        reads.back().site == op.site)
      reads.back().bytes += bytes;
    else
      reads.push_back({offset, bytes, op.site});
  }

  Warp &warp;
  const Wgmma &op;
  VectorClock known;
};

} // namespace

/// A warp computes 16 of the group's 64 rows. The hardware does this some time
/// before the wait; here at once, and no one may write what was read till then.
static void multiply(Warp &warp, uint32_t, uint64_t extra) {
  const auto &op = *reinterpret_cast<Wgmma *>(extra);
  OperandReader reader(warp, op);
  static float a[16][32], b[256][32];
  uint32_t row0 = warp.index % 4 * 16;
  for (uint32_t r = 0; r < 16; ++r)
    reader.read(op.a, row0 + r, a[r]);
  for (uint32_t n = 0; n < op.n; ++n)
    reader.read(op.b, n, b[n]);
  float sign = op.negateA != op.negateB ? -1 : 1;
  for (uint32_t lane = 0; lane < kWarpSize; ++lane) {
    auto *sums = reinterpret_cast<float *>(warp.lane(lane).in[0]);
    for (uint32_t i = 0; i < op.n / 2; ++i) {
      const float *row = a[lane / 4 + 8 * (i / 2 % 2)];
      const float *column = b[8 * (i / 4) + 2 * (lane % 4) + i % 2];
      double sum = op.accumulate ? sums[i] : 0;
      for (uint32_t k = 0; k < op.k; ++k)
        sum += double(sign * row[k]) * column[k];
      sums[i] = sum;
    }
  }
}

/// The reads of all but the `keep` newest groups are done, and all lanes of
/// this warp know it; those of other warps do not.
static void finishGroups(Warp &warp, uint32_t, uint64_t keep) {
  Epoch now = {warp.matrixActor, ++warp.matrixClock};
  while (warp.matrixGroups.size() > keep) {
    for (const AsyncRead &read : warp.matrixGroups.front())
      warp.block->shadow->finishRead(read.offset, read.bytes, {now, read.site});
    warp.matrixGroups.pop_front();
  }
  for (uint32_t lane = 0; lane < kWarpSize; ++lane)
    warp.lane(lane).clock.set(now);
}

static void commit(Warp &warp, uint32_t, uint64_t) {
  warp.matrixGroups.push_back(std::move(warp.matrixReads));
  warp.matrixReads.clear();
}

extern "C" {

void moe_emu_wgmma_fence(const char *site) {
  machine->meet("wgmma.fence", ~0u, site, nullptr, 0, /*aligned=*/true);
}

/// `sums`: n / 2 floats of this thread, in and out. Flags: 1 add to the sums,
/// 2 negate A, 4 negate B, 8 transpose A, 16 transpose B.
void moe_emu_wgmma(uint64_t a, uint64_t b, uint32_t type, uint32_t n,
                   uint32_t k, uint32_t flags, float *sums, const char *site) {
  Wgmma op = {Descriptor(a, flags & 8),
              Descriptor(b, flags & 16),
              static_cast<Element>(type),
              n,
              k,
              (flags & 1) != 0,
              (flags & 2) != 0,
              (flags & 4) != 0,
              site};
  if ((a | b) >> 49 & 7)
    machine->fail(site, "wgmma with a base offset in a descriptor: tiles must "
                        "be aligned to their swizzle's 8 rows");
  if (op.type != Element::BF16 && op.type != Element::F16 && flags & 24)
    machine->fail(site, "wgmma can transpose 16-bit operands only");
  Thread &thread = self();
  if (thread.block->warps.size() % 4)
    machine->fail(site, "wgmma needs groups of four warps; the block has %zu",
                  thread.block->warps.size());
  thread.in[0] = reinterpret_cast<uintptr_t>(sums);
  machine->meet("wgmma.mma_async", ~0u, site, multiply,
                reinterpret_cast<uintptr_t>(&op), /*aligned=*/true);
}

void moe_emu_wgmma_commit(const char *site) {
  machine->meet("wgmma.commit_group", ~0u, site, commit, 0, /*aligned=*/true);
}

void moe_emu_wgmma_wait(uint32_t keep, const char *site) {
  machine->meet("wgmma.wait_group", ~0u, site, finishGroups, keep,
                /*aligned=*/true);
}

} // extern "C"
