//===- Schedule.cpp - Who runs next, and what lands when ------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Format.h"
#include "Machine.h"

using namespace moe::emulation;

uint64_t Machine::random(uint64_t bound) {
  return launch.seed ? engine() % bound : 0;
}

Thread *Machine::pick() {
  if (!launch.seed) {
    if (inOrder.empty())
      return nullptr;
    Thread *thread = inOrder.front();
    inOrder.pop_front();
    thread->runnable = false;
    return thread;
  }
  if (runnable.empty())
    return nullptr;
  size_t best = random(runnable.size());
  if (skewed) {
    auto priority = [&](size_t i) -> uint32_t & {
      return runnable[i]->block->warps[runnable[i]->warpIndex()].priority;
    };
    for (int i = 0; i < 3; ++i) {
      size_t other = random(runnable.size());
      if (priority(other) > priority(best))
        best = other;
    }
    if (!random(4096))
      priority(best) = random(1 << 20);
  }
  std::swap(runnable[best], runnable.back());
  Thread *thread = runnable.back();
  runnable.pop_back();
  thread->runnable = false;
  return thread;
}

void Machine::wake(Thread *thread) {
  if (thread->runnable)
    return;
  thread->runnable = true;
  thread->waitsFor = nullptr;
  if (launch.seed)
    runnable.push_back(thread);
  else
    inOrder.push_back(thread);
}

void Machine::block(const char *waitsFor, const char *site, uint64_t on) {
  Thread &thread = *current;
  thread.waitsFor = waitsFor;
  thread.site = site;
  thread.waitsOn = on;
  thread.fiber.suspend();
}

void Machine::yield() {
  Thread &thread = *current;
  wake(&thread);
  thread.fiber.suspend();
}

void Machine::maybeYield() {
  if (launch.seed && !random(4))
    yield();
}

void Machine::later(std::function<void()> landing) {
  landings.push_back(std::move(landing));
}

bool Machine::landOne(bool force) {
  if (landings.empty())
    return false;
  if (!force && random(landEvery))
    return false;
  size_t which = random(landings.size());
  std::function<void()> landing = std::move(landings[which]);
  landings.erase(landings.begin() + which);
  landing();
  progress();
  return true;
}

std::string Machine::deadlock() const {
  std::string text = "deadlock: nothing can run any more";
  uint32_t shown = 0;
  for (const auto &cluster : clusters)
    for (const auto &block : cluster->blocks)
      for (const Warp &warp : block->warps)
        for (uint32_t lane = 0; lane < kWarpSize; ++lane) {
          if (!(warp.existing >> lane & 1))
            break;
          const Thread &thread = const_cast<Warp &>(warp).lane(lane);
          if (thread.done)
            continue;
          // One line a warp, unless its lanes wait in different places.
          if (lane) {
            const Thread &before = const_cast<Warp &>(warp).lane(lane - 1);
            if (before.site == thread.site && before.waitsOn == thread.waitsOn)
              continue;
          }
          if (++shown > 24)
            return text + "\n  ...";
          text += format("\n  block (%u,%u,%u) warp %u from lane %u: %s",
                         block->id[0], block->id[1], block->id[2], warp.index,
                         lane, thread.waitsFor ? thread.waitsFor : "runs");
          if (thread.waitsFor)
            text += format(" %llu, %s",
                           static_cast<unsigned long long>(thread.waitsOn),
                           thread.site ? thread.site : "");
          auto barrier = block->mbarriers.find(thread.waitsOn >> 1);
          if (thread.waitsFor == kMBarrierWait &&
              barrier != block->mbarriers.end())
            text += format(" (an mbarrier at byte %u that misses %u of %u "
                           "arrivals and %lld bytes)",
                           barrier->first, barrier->second.pending,
                           barrier->second.expected,
                           static_cast<long long>(barrier->second.bytes));
        }
  return text;
}
