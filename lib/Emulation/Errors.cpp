//===- Errors.cpp - What went wrong, and where ----------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Format.h"
#include "Machine.h"

#include <cstdio>

using namespace moe::emulation;

std::string moe::emulation::format(const char *text, va_list arguments) {
  char buffer[1024];
  vsnprintf(buffer, sizeof(buffer), text, arguments);
  return buffer;
}

std::string moe::emulation::format(const char *text, ...) {
  va_list arguments;
  va_start(arguments, text);
  std::string result = format(text, arguments);
  va_end(arguments);
  return result;
}

void Machine::report(const char *site, const std::string &what) {
  if (failed)
    return;
  failed = true;
  error = what;
  if (current) {
    const Block &block = *current->block;
    error += format("\n  thread %u (warp %u, lane %u) of block (%u,%u,%u)",
                    current->index, current->warpIndex(), current->lane(),
                    block.id[0], block.id[1], block.id[2]);
  }
  if (site)
    error += std::string("\n  at ") + site;
}

void Machine::fail(const char *site, const char *text, ...) {
  va_list arguments;
  va_start(arguments, text);
  report(site, format(text, arguments));
  va_end(arguments);
  // Kernels hold nothing that needs to be freed: their stacks are just left.
  while (true)
    current->fiber.suspend();
}

std::string Machine::describe(const Block &block, Actor actor) const {
  uint32_t warps = block.warps.size();
  uint32_t threads = block.cluster->blocks.size() * threadsPerBlock;
  std::string where;
  auto ofBlock = [&](uint32_t rank) {
    return rank == block.rank   ? std::string()
           : launch.cooperative ? format(" of block %u", rank)
                                : format(" of block %u of the cluster", rank);
  };
  if (actor < threads)
    return format("thread %u (warp %u, lane %u)", actor % threadsPerBlock,
                  actor % threadsPerBlock / kWarpSize,
                  actor % threadsPerBlock % kWarpSize) +
           ofBlock(actor / threadsPerBlock);
  actor -= threads;
  uint32_t allWarps = warps * block.cluster->blocks.size();
  if (actor < allWarps)
    return format("a wgmma of warp %u", actor % warps) + ofBlock(actor / warps);
  return "a bulk copy";
}

std::string Machine::explain(const char *what, const Block &block,
                             const Conflict &conflict,
                             const char *memory) const {
  std::string other = describe(block, conflict.toucher.epoch.actor);
  const char *did = conflict.other == Access::Read ? "read" : "wrote";
  std::string text =
      format("%s of %s at byte %u: ", what, memory, conflict.offset);
  switch (conflict.kind) {
  case Conflict::None:
    break;
  case Conflict::Race:
    text = "data race: " + text + other + " " + did +
           " it, and nothing orders the two";
    break;
  case Conflict::InFlight:
    text = "copy in flight: " + text + other +
           " copies to it, and that copy has not been waited for";
    break;
  case Conflict::ReadInFlight:
    text = "read in flight: " + text + other +
           " reads it, and that has not been waited for";
    break;
  case Conflict::Unfenced:
    text = "missing proxy fence: " + text + other +
           " wrote it as an ordinary thread, and no fence.proxy.async lies "
           "between";
    break;
  case Conflict::Barrier:
    text = "mbarrier: " + text + "an mbarrier lies there";
    break;
  }
  if (conflict.toucher.site)
    text += format("\n  %s at %s",
                   conflict.other == Access::Read ? "reader" : "writer",
                   conflict.toucher.site);
  return text;
}
