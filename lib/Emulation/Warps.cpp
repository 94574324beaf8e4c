//===- Warps.cpp - Shuffles, votes and other operations of a warp ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Machine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace moe::emulation;

template <typename Fn>
static void forLanes(uint32_t mask, Fn fn) {
  for (uint32_t lane = 0; lane < kWarpSize; ++lane)
    if (mask >> lane & 1)
      fn(lane);
}

//===----------------------------------------------------------------------===//
// Meetings
//===----------------------------------------------------------------------===//

Thread &Warp::lane(uint32_t lane) {
  return *block->threads[index * kWarpSize + lane];
}

static Meeting *findMeeting(Warp &warp, uint32_t mask) {
  for (Meeting &meeting : warp.meetings)
    if (meeting.mask & mask)
      return &meeting;
  return nullptr;
}

void Machine::meet(const char *kind, uint32_t mask, const char *site,
                   Compute compute, uint64_t extra, bool aligned,
                   bool ordersMemory) {
  Thread &thread = *current;
  Warp &warp = thread.block->warps[thread.warpIndex()];
  uint32_t bit = 1u << thread.lane();
  mask &= warp.existing;
  if (!(mask & bit))
    fail(site, "%s: lane %u is not in its own mask %#x", kind, thread.lane(),
         mask);
  if (uint32_t gone = mask & warp.exited)
    fail(site, "%s: lanes %#x of the mask %#x have ended", kind, gone, mask);
  if (aligned && mask != ~0u)
    fail(site, "%s needs all 32 lanes of a warp; here are %#x", kind, mask);
  Meeting *meeting = findMeeting(warp, mask);
  if (!meeting) {
    warp.meetings.push_back({kind, site, mask, 0, ordersMemory});
    meeting = &warp.meetings.back();
  }
  if (meeting->mask != mask || strcmp(meeting->kind, kind) ||
      (aligned && meeting->site != site))
    fail(site,
         "diverged warp: this lane comes to %s with mask %#x while others wait "
         "in %s with mask %#x\n  there: %s",
         kind, mask, meeting->kind, meeting->mask, meeting->site);
  meeting->arrived |= bit;
  if (meeting->arrived != mask) {
    block(kind, site, mask);
    return;
  }
  warp.meetings.erase(warp.meetings.begin() + (meeting - warp.meetings.data()));
  if (ordersMemory)
    joinLanes(warp, mask);
  if (compute)
    compute(warp, mask, extra);
  for (uint32_t lane = 0; lane < kWarpSize; ++lane)
    if (mask >> lane & 1 && lane != thread.lane())
      wake(&warp.lane(lane));
  progress();
}

void Machine::joinLanes(Warp &warp, uint32_t mask) {
  VectorClock joined;
  for (uint32_t lane = 0; lane < kWarpSize; ++lane)
    if (mask >> lane & 1)
      joined.join(warp.lane(lane).clock);
  for (uint32_t lane = 0; lane < kWarpSize; ++lane)
    if (mask >> lane & 1) {
      warp.lane(lane).clock.join(joined);
      tick(warp.lane(lane));
    }
}

//===----------------------------------------------------------------------===//
// Shuffles
//===----------------------------------------------------------------------===//

/// PTX: the segment of a lane is what `maskAndClamp`'s upper half leaves of its
/// number; a source outside of it gives the lane's own value.
static void shuffle(Warp &warp, uint32_t mask, uint64_t kind) {
  forLanes(mask, [&](uint32_t lane) {
    Thread &thread = warp.lane(lane);
    uint32_t b = thread.in[1] & 31;
    uint32_t clamp = thread.in[2] & 31, segment = thread.in[2] >> 8 & 31;
    uint32_t highest = (lane & segment) | (clamp & ~segment);
    uint32_t lowest = lane & segment;
    int64_t source = 0;
    bool valid = true;
    switch (kind) {
    case 0: // bfly
      source = lane ^ b;
      valid = source <= highest;
      break;
    case 1: // up
      source = int64_t(lane) - b;
      valid = source >= highest;
      break;
    case 2: // down
      source = lane + b;
      valid = source <= highest;
      break;
    default: // idx
      source = lowest | (b & ~segment);
      valid = source <= highest;
      break;
    }
    if (!valid)
      source = lane;
    thread.out[1] = valid;
    thread.out[2] = source;
    if (mask >> source & 1)
      thread.out[0] = warp.lane(source).in[0];
  });
}

extern "C" uint32_t moe_emu_shfl(uint32_t kind, uint32_t mask, uint32_t value,
                                 uint32_t b, uint32_t maskAndClamp,
                                 uint8_t *valid, const char *site) {
  Thread &thread = self();
  thread.in = {value, b, maskAndClamp};
  machine->meet("shfl.sync", mask, site, shuffle, kind);
  uint32_t source = thread.out[2];
  if (!(mask >> source & 1))
    machine->fail(site, "shfl.sync reads lane %u, which is not in the mask %#x",
                  source, mask);
  if (valid)
    *valid = thread.out[1];
  return thread.out[0];
}

//===----------------------------------------------------------------------===//
// Votes and reductions
//===----------------------------------------------------------------------===//

static void vote(Warp &warp, uint32_t mask, uint64_t kind) {
  uint32_t ballot = 0;
  forLanes(mask, [&](uint32_t lane) {
    ballot |= uint32_t(warp.lane(lane).in[0] != 0) << lane;
  });
  uint32_t result = 0;
  switch (kind) {
  case 0:
    result = ballot != 0;
    break;
  case 1:
    result = ballot == mask;
    break;
  case 2:
    result = ballot;
    break;
  default:
    result = ballot == 0 || ballot == mask;
    break;
  }
  forLanes(mask, [&](uint32_t lane) { warp.lane(lane).out[0] = result; });
}

static void match(Warp &warp, uint32_t mask, uint64_t all) {
  forLanes(mask, [&](uint32_t lane) {
    uint32_t equal = 0;
    forLanes(mask, [&](uint32_t other) {
      equal |= uint32_t(warp.lane(other).in[0] == warp.lane(lane).in[0])
               << other;
    });
    warp.lane(lane).out[0] = all && equal != mask ? 0 : equal;
    warp.lane(lane).out[1] = equal == mask;
  });
}

static uint32_t bitsOf(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

static float floatOf(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/// The codes of NVVM's ReduxKind; bit 8 is abs, bit 9 lets a NaN through.
static uint32_t combine(uint32_t kind, uint32_t a, uint32_t b, bool abs,
                        bool nan) {
  switch (kind) {
  case 1:
    return a + b;
  case 2:
    return a & b;
  case 3:
    return std::max<int32_t>(a, b);
  case 4:
    return std::min<int32_t>(a, b);
  case 5:
    return a | b;
  case 6:
    return std::max(a, b);
  case 7:
    return std::min(a, b);
  case 8:
    return a ^ b;
  default:
    break;
  }
  float x = floatOf(a), y = floatOf(b);
  if (abs) {
    x = std::fabs(x);
    y = std::fabs(y);
  }
  if (nan && (std::isnan(x) || std::isnan(y)))
    return 0x7fffffff;
  return bitsOf(kind == 9 ? std::fmin(x, y) : std::fmax(x, y));
}

static void reduce(Warp &warp, uint32_t mask, uint64_t kind) {
  bool first = true;
  uint32_t result = 0;
  forLanes(mask, [&](uint32_t lane) {
    uint32_t value = warp.lane(lane).in[0];
    result = first ? value
                   : combine(kind & 255, result, value, kind >> 8 & 1,
                             kind >> 9 & 1);
    first = false;
  });
  forLanes(mask, [&](uint32_t lane) { warp.lane(lane).out[0] = result; });
}

/// Any lane may be elected, the same one for a mask each time; the seed says
/// which, so that a kernel relies on none.
static void elect(Warp &warp, uint32_t mask, uint64_t) {
  uint32_t chosen = machine->launch.seed % __builtin_popcount(mask);
  forLanes(mask,
           [&](uint32_t lane) { warp.lane(lane).out[0] = chosen-- == 0; });
}

extern "C" {

uint32_t moe_emu_vote(uint32_t kind, uint32_t mask, uint8_t predicate,
                      const char *site) {
  self().in[0] = predicate & 1;
  machine->meet("vote.sync", mask, site, vote, kind);
  return self().out[0];
}

uint32_t moe_emu_match(uint32_t all, uint32_t mask, uint64_t value,
                       uint8_t *predicate, const char *site) {
  self().in[0] = value;
  machine->meet("match.sync", mask, site, match, all);
  if (predicate)
    *predicate = self().out[1];
  return self().out[0];
}

uint32_t moe_emu_redux(uint32_t kind, uint32_t value, uint32_t mask,
                       const char *site) {
  self().in[0] = value;
  machine->meet("redux.sync", mask, site, reduce, kind);
  return self().out[0];
}

uint8_t moe_emu_elect(uint32_t mask, const char *site) {
  machine->meet("elect.sync", mask, site, elect);
  return self().out[0];
}

void moe_emu_syncwarp(uint32_t mask, const char *site) {
  machine->meet("bar.warp.sync", mask, site, nullptr, 0, /*aligned=*/false,
                /*ordersMemory=*/true);
}

/// An operation that a warp makes together and that has nothing to compute.
void moe_emu_aligned(const char *kind, const char *site) {
  machine->meet(kind, ~0u, site, nullptr, 0, /*aligned=*/true);
}

} // extern "C"
