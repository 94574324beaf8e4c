//===- Machine.cpp - How blocks of a launch start, run and end ------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Machine.h"

#include "Format.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>

using namespace moe::emulation;

Machine *moe::emulation::machine = nullptr;

static StackPool &stacks() {
  static StackPool pool;
  return pool;
}

/// Picks in a row that moved nothing: threads that spin for ever.
static constexpr uint64_t kMostIdlePicks = 4'000'000;
/// After so many of them copies land.
static constexpr uint64_t kPatience = 10'000;

//===----------------------------------------------------------------------===//
// Launch
//===----------------------------------------------------------------------===//

Machine::Machine(const MoEEmuKernel &kernel, const MoEEmuLaunch &launch,
                 void **args)
    : kernel(kernel), launch(launch), args(args), engine(launch.seed) {
  for (int i = 0; i < 3; ++i) {
    uint32_t asked = launch.cluster[i] ? launch.cluster[i] : kernel.cluster[i];
    clusterDims[i] = std::max(1u, asked);
  }
  // What a schedule is like differs from seed to seed: copies that land at once
  // or at the last moment, warps that run on equally or far apart.
  static constexpr uint64_t kLandEvery[] = {1, 4, 64, 1024, 1 << 20};
  if (launch.seed) {
    landEvery = kLandEvery[launch.seed % 5];
    skewed = launch.seed % 2 || (launch.cooperative && launch.seed % 4 >= 2);
  }
}

Machine::~Machine() {
  for (auto &cluster : clusters)
    retire(*cluster);
  for (char *window : freeWindows)
    munmap(window, kWindowBytes);
}

std::string Machine::checkLaunch() {
  const char *axes = "xyz";
  for (int i = 0; i < 3; ++i) {
    if (!launch.grid[i] || !launch.block[i])
      return format("%s dimension %c is 0", launch.grid[i] ? "block" : "grid",
                    axes[i]);
    if (launch.grid[i] % clusterDims[i])
      return format("grid dimension %c is %u, no multiple of the cluster's %u",
                    axes[i], launch.grid[i], clusterDims[i]);
  }
  uint64_t blocks = uint64_t(launch.grid[0]) * launch.grid[1] * launch.grid[2];
  if (launch.cooperative && blocks > mostBlocks())
    return format("a cooperative launch of %llu blocks, of which %u run at the "
                  "same time",
                  static_cast<unsigned long long>(blocks), mostBlocks());
  if (launch.cooperative && clusterDims != std::array<uint32_t, 3>{1, 1, 1})
    return "a cooperative launch of clusters, which is not modelled";
  uint64_t threads =
      uint64_t(launch.block[0]) * launch.block[1] * launch.block[2];
  if (threads > 1024)
    return format("%llu threads a block; a GPU takes 1024 at most",
                  static_cast<unsigned long long>(threads));
  if (kernel.max_threads && threads > kernel.max_threads)
    return format("%llu threads a block, but the kernel was compiled for %u at "
                  "most (nvvm.maxntid)",
                  static_cast<unsigned long long>(threads), kernel.max_threads);
  threadsPerBlock = threads;
  uint32_t clusterBlocks = clusterDims[0] * clusterDims[1] * clusterDims[2];
  if (clusterBlocks > 16)
    return format("%u blocks a cluster; a GPU takes 16 at most", clusterBlocks);
  uint64_t shared =
      uint64_t(kernel.dynamic_offset) - kReservedBytes + launch.dynamic_shared;
  uint64_t limit = launch.shared_limit ? launch.shared_limit : 227 << 10;
  if (shared > limit)
    return format("%llu bytes of shared memory a block, but the limit is %llu; "
                  "use fewer stages or smaller tiles",
                  static_cast<unsigned long long>(shared),
                  static_cast<unsigned long long>(limit));
  return {};
}

std::string Machine::run() {
  if (std::string problem = checkLaunch(); !problem.empty())
    return format("launch of '%s': %s", kernel.name, problem.c_str());
  std::array<uint32_t, 3> step = togetherDims();
  for (uint32_t z = 0; z < launch.grid[2]; z += step[2])
    for (uint32_t y = 0; y < launch.grid[1]; y += step[1])
      for (uint32_t x = 0; x < launch.grid[0]; x += step[0])
        waitingClusters.push_back({x, y, z});
  // Blocks start in no promised order.
  if (launch.seed)
    std::shuffle(waitingClusters.begin(), waitingClusters.end(), engine);
  std::reverse(waitingClusters.begin(), waitingClusters.end());
  startClusters();
  while (!failed && !clusters.empty()) {
    // However long a copy takes, threads that spin meanwhile do not stop it.
    landOne(/*force=*/idlePicks > kPatience);
    Thread *thread = pick();
    if (!thread) {
      if (landOne(/*force=*/true))
        continue;
      error = deadlock();
      break;
    }
    if (++idlePicks > kMostIdlePicks) {
      error =
          "no progress: threads spin, and what they wait for never comes\n" +
          deadlock();
      break;
    }
    current = thread;
    thread->fiber.resume();
    current = nullptr;
    if (!finished.empty())
      removeFinished();
  }
  return error.empty() ? error
                       : format("kernel '%s', seed %llu: ", kernel.name,
                                static_cast<unsigned long long>(launch.seed)) +
                             error;
}

uint32_t Machine::mostBlocks() const {
  return launch.resident_blocks ? launch.resident_blocks : 8;
}

std::array<uint32_t, 3> Machine::togetherDims() const {
  if (!launch.cooperative)
    return clusterDims;
  return {launch.grid[0], launch.grid[1], launch.grid[2]};
}

void Machine::startClusters() {
  std::array<uint32_t, 3> dims = togetherDims();
  uint32_t blocks = dims[0] * dims[1] * dims[2];
  while (!waitingClusters.empty() &&
         (clusters.empty() || residentBlocks + blocks <= mostBlocks())) {
    startCluster(waitingClusters.back());
    waitingClusters.pop_back();
    residentBlocks += blocks;
  }
}

void Machine::startCluster(std::array<uint32_t, 3> first) {
  auto cluster = std::make_unique<Cluster>();
  std::array<uint32_t, 3> dims = togetherDims();
  uint32_t blocks = dims[0] * dims[1] * dims[2];
  uint32_t warps = (threadsPerBlock + kWarpSize - 1) / kWarpSize;
  cluster->actors = blocks * (threadsPerBlock + warps + kBarrierActors);
  cluster->live = blocks;
  for (uint32_t rank = 0; rank < blocks; ++rank) {
    uint32_t x = rank % dims[0];
    uint32_t y = rank / dims[0] % dims[1];
    uint32_t z = rank / dims[0] / dims[1];
    cluster->blocks.push_back(
        makeBlock(*cluster, rank, {first[0] + x, first[1] + y, first[2] + z}));
  }
  clusters.push_back(std::move(cluster));
}

/// Shared memory in the low 4 GiB, where 32-bit shared addresses are enough.
static char *mapWindow() {
  static uintptr_t hint = 0x10000000;
  for (; hint < 0x70000000; hint += kWindowBytes) {
    void *memory =
        mmap(reinterpret_cast<void *>(hint), kWindowBytes,
             PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == reinterpret_cast<void *>(hint)) {
      hint += kWindowBytes;
      return static_cast<char *>(memory);
    }
    if (memory != MAP_FAILED)
      munmap(memory, kWindowBytes);
  }
  fprintf(stderr, "emulation: no free address space below 2 GiB for shared "
                  "memory\n");
  exit(1);
}

std::unique_ptr<Block> Machine::makeBlock(Cluster &cluster, uint32_t rank,
                                          std::array<uint32_t, 3> id) {
  auto block = std::make_unique<Block>();
  block->cluster = &cluster;
  block->id = id;
  block->rank = rank;
  if (freeWindows.empty()) {
    block->window = mapWindow();
  } else {
    block->window = freeWindows.back();
    freeWindows.pop_back();
  }
  memset(block->window, 0xff, kWindowBytes); // NaN in every float type
  block->sharedEnd = kernel.dynamic_offset + launch.dynamic_shared;
  block->shadow = std::make_unique<Shadow>(block->sharedEnd);
  block->live = threadsPerBlock;
  uint32_t warps = (threadsPerBlock + kWarpSize - 1) / kWarpSize;
  block->warps.resize(warps);
  // Where blocks wait for each other, whole blocks are far apart, too.
  bool apart = launch.cooperative && launch.seed % 4 >= 2;
  uint32_t priority = random(1 << 20);
  for (uint32_t i = 0; i < warps; ++i) {
    uint32_t lanes = std::min(kWarpSize, threadsPerBlock - i * kWarpSize);
    block->warps[i].block = block.get();
    block->warps[i].index = i;
    block->warps[i].existing = lanes == kWarpSize ? ~0u : (1u << lanes) - 1;
    block->warps[i].priority = apart ? priority : random(1 << 20);
    block->warps[i].matrixActor =
        cluster.live * threadsPerBlock + rank * warps + i;
  }
  for (uint32_t i = 0; i < threadsPerBlock; ++i) {
    auto thread = std::make_unique<Thread>();
    thread->block = block.get();
    thread->index = i;
    thread->id = {i % launch.block[0], i / launch.block[0] % launch.block[1],
                  i / launch.block[0] / launch.block[1]};
    thread->actor = rank * threadsPerBlock + i;
    thread->clock = VectorClock(cluster.actors);
    tick(*thread);
    thread->fiber.start(stacks().take(), runThread, thread.get());
    thread->runnable = false;
    wake(thread.get());
    block->threads.push_back(std::move(thread));
  }
  return block;
}

void Machine::retire(Cluster &cluster) {
  for (auto &block : cluster.blocks) {
    for (auto &thread : block->threads)
      stacks().giveBack(thread->fiber.getStack());
    freeWindows.push_back(block->window);
  }
}

void Machine::runThread(void *argument) {
  auto &thread = *static_cast<Thread *>(argument);
  machine->kernel.entry(machine->args);
  machine->exitThread(thread);
}

void Machine::checkNothingInFlight(const Thread &thread) {
  auto moving = [&](const std::vector<std::shared_ptr<CpAsync>> &copies,
                    const char *advice) {
    for (const auto &copy : copies)
      if (!copy->landed && !copy->tracked)
        fail(copy->site, "the thread ends while its copy is in flight: %s",
             advice);
  };
  for (const auto &group : thread.copyGroups)
    moving(group, "wait for all groups before the end");
  moving(thread.copies, "commit it and wait");
  for (const auto &group : thread.storeGroups)
    for (const BulkStore &store : group)
      fail(store.site, "the thread ends while its bulk store reads shared "
                       "memory: wait for all groups before the end");
  for (const BulkStore &store : thread.stores)
    fail(store.site, "the thread ends while its bulk store reads shared "
                     "memory: commit it and wait");
}

void Machine::exitThread(Thread &thread) {
  Block &block = *thread.block;
  Warp &warp = block.warps[thread.warpIndex()];
  checkNothingInFlight(thread);
  uint32_t bit = 1u << thread.lane();
  for (const Meeting &meeting : warp.meetings)
    if (meeting.mask & bit)
      fail(meeting.site, "%s waits for a lane that has ended", meeting.kind);
  warp.exited |= bit;
  thread.done = true;
  progress();
  for (NamedBarrier &barrier : block.barriers)
    finishNamedBarrier(block, barrier);
  if (--block.live)
    return;
  if (block.copiesInFlight)
    fail(nullptr, "the block ends while %u of its bulk copies are in flight",
         block.copiesInFlight);
  for (const Warp &other : block.warps)
    if (!other.matrixReads.empty() || !other.matrixGroups.empty())
      fail(nullptr, "the block ends while a wgmma of warp %u is in flight",
           other.index);
  if (--block.cluster->live)
    return;
  finished.push_back(
      block.cluster); // its stacks are in use until this suspends
}

void Machine::removeFinished() {
  for (Cluster *cluster : finished) {
    residentBlocks -= cluster->blocks.size();
    retire(*cluster);
    clusters.erase(std::find_if(
        clusters.begin(), clusters.end(),
        [&](const auto &candidate) { return candidate.get() == cluster; }));
  }
  finished.clear();
  startClusters();
}

//===----------------------------------------------------------------------===//
// What operations are made of
//===----------------------------------------------------------------------===//

Epoch Machine::tick(Thread &thread) {
  uint32_t now = ++thread.clock[thread.actor];
  return {thread.actor, now};
}

Block *Machine::blockOf(const void *address) const {
  if (current->block->contains(address))
    return current->block;
  // Only blocks of a cluster see each other's.
  if (!launch.cooperative)
    for (const auto &block : current->block->cluster->blocks)
      if (block->contains(address))
        return block.get();
  return nullptr;
}

//===----------------------------------------------------------------------===//
// C interface
//===----------------------------------------------------------------------===//

static std::string &lastError() {
  static std::string text;
  return text;
}

int32_t moe_emu_launch(const MoEEmuKernel *kernel, const MoEEmuLaunch *launch,
                       void **args) {
  if (machine) {
    lastError() = "a launch of this process has not ended";
    return 1;
  }
  Machine now(*kernel, *launch, args);
  machine = &now;
  lastError() = now.run();
  machine = nullptr;
  return !lastError().empty();
}

int32_t moe_emu_launch_simple(const MoEEmuKernel *kernel, uint32_t gridX,
                              uint32_t gridY, uint32_t gridZ, uint32_t blockX,
                              uint32_t blockY, uint32_t blockZ,
                              uint32_t dynamicShared, uint64_t seed,
                              void **args) {
  MoEEmuLaunch launch = {};
  launch.grid[0] = gridX;
  launch.grid[1] = gridY;
  launch.grid[2] = gridZ;
  launch.block[0] = blockX;
  launch.block[1] = blockY;
  launch.block[2] = blockZ;
  launch.dynamic_shared = dynamicShared;
  launch.seed = seed;
  int32_t status = moe_emu_launch(kernel, &launch, args);
  if (status)
    fprintf(stderr, "emulation: %s\n", lastError().c_str());
  return status;
}

const char *moe_emu_error(void) { return lastError().c_str(); }
