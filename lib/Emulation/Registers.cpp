//===- Registers.cpp - Special registers, and operations of one thread -*- C++
//-*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Machine.h"

#include <cmath>

using namespace moe::emulation;

// The number after the name is the axis: 0 x, 1 y, 2 z.
extern "C" {

uint32_t moe_emu_tid(uint32_t axis) { return self().id[axis]; }
uint32_t moe_emu_ntid(uint32_t axis) { return machine->launch.block[axis]; }
uint32_t moe_emu_ctaid(uint32_t axis) { return self().block->id[axis]; }
uint32_t moe_emu_nctaid(uint32_t axis) { return machine->launch.grid[axis]; }
uint32_t moe_emu_laneid() { return self().lane(); }
uint32_t moe_emu_warpid() { return self().warpIndex(); }
uint32_t moe_emu_nwarpid() { return self().block->warps.size(); }
uint32_t moe_emu_clusterid(uint32_t axis) {
  return self().block->id[axis] / machine->clusterDims[axis];
}
uint32_t moe_emu_nclusterid(uint32_t axis) {
  return machine->launch.grid[axis] / machine->clusterDims[axis];
}
uint32_t moe_emu_cluster_ctaid(uint32_t axis) {
  return self().block->id[axis] % machine->clusterDims[axis];
}
uint32_t moe_emu_cluster_nctaid(uint32_t axis) {
  return machine->clusterDims[axis];
}
uint32_t moe_emu_cluster_ctarank() {
  return machine->launch.cooperative ? 0 : self().block->rank;
}
uint32_t moe_emu_cluster_nctarank() {
  return self().block->cluster->blocks.size();
}
uint32_t moe_emu_dynamic_smem_size() { return machine->launch.dynamic_shared; }

/// Blocks share multiprocessors in no order that a kernel may rely on.
uint32_t moe_emu_smid() {
  const Block &block = *self().block;
  return (block.id[0] * 7 + block.id[1] * 3 + block.id[2]) % moe_emu_nctaid(0);
}

/// Kinds: eq, lt, le, gt, ge.
uint32_t moe_emu_lanemask(uint32_t kind) {
  uint32_t bit = 1u << self().lane();
  uint32_t below = bit - 1;
  switch (kind) {
  case 0:
    return bit;
  case 1:
    return below;
  case 2:
    return below | bit;
  case 3:
    return ~(below | bit);
  default:
    return ~below;
  }
}

/// Time passes whenever someone looks at it.
uint64_t moe_emu_clock() {
  static uint64_t now;
  machine->maybeYield();
  return now += 100;
}

void *moe_emu_shared(uint32_t offset) { return self().block->window + offset; }

void moe_emu_nothing() {}
void moe_emu_nanosleep(uint32_t, const char *) { machine->yield(); }

// Approximations are within the error that PTX states of the exact result,
// which is what is computed here, flushed as .ftz says.
static float flush(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}
float moe_emu_ex2_approx_ftz(float x) { return flush(std::exp2(flush(x))); }
float moe_emu_ex2_approx(float x) { return std::exp2(x); }
float moe_emu_lg2_approx_ftz(float x) { return flush(std::log2(flush(x))); }
float moe_emu_lg2_approx(float x) { return std::log2(x); }
float moe_emu_rcp_approx_ftz(float x) { return flush(1.0f / flush(x)); }
float moe_emu_rsqrt_approx_ftz(float x) {
  return flush(1.0f / std::sqrt(flush(x)));
}
float moe_emu_rsqrt_approx(float x) { return 1.0f / std::sqrt(x); }
float moe_emu_sqrt_approx_ftz(float x) { return flush(std::sqrt(flush(x))); }
float moe_emu_sin_approx(float x) { return std::sin(x); }
float moe_emu_cos_approx(float x) { return std::cos(x); }
float moe_emu_tanh_approx(float x) { return std::tanh(x); }
float moe_emu_div_approx_ftz(float x, float y) {
  return flush(flush(x) / flush(y));
}

/// prmt in its default mode: each nibble of the selector picks a byte of b:a;
/// its top bit spreads that byte's sign.
uint32_t moe_emu_prmt(uint32_t a, uint32_t b, uint32_t selector) {
  uint64_t bytes = uint64_t(b) << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    uint32_t nibble = selector >> (4 * i) & 15;
    uint32_t byte = bytes >> (8 * (nibble & 7)) & 255;
    if (nibble & 8)
      byte = byte & 128 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}

} // extern "C"
