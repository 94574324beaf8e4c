//===- Machine.h - Threads, warps and blocks of a launch -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATION_MACHINE_H
#define MOE_LIB_EMULATION_MACHINE_H

#include "Fiber.h"
#include "GlobalMemory.h"
#include "Shadow.h"
#include "moe/Emulation/Emulation.h"

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace moe::emulation {

struct Block;
struct Cluster;
class Machine;

constexpr uint32_t kWarpSize = 32;
/// A block's window of shared memory, aligned to its size: the low 18 bits of
/// an address are the offset that a wgmma descriptor holds.
constexpr uint32_t kWindowBytes = 256 << 10;
/// The system keeps the first KiB on sm_90, so that no object has offset 0.
constexpr uint32_t kReservedBytes = 1024;
/// Actors of a block that stand for the copies of its mbarriers.
constexpr uint32_t kBarrierActors = 64;

/// What a thread waits for at an mbarrier; Thread::waitsOn is twice its offset,
/// plus the parity.
inline constexpr char kMBarrierWait[] = "mbarrier wait, parity + 2 * byte:";

/// A piece of an asynchronous copy from global to shared memory.
struct CpAsync {
  char *destination;
  const char *source;
  uint32_t bytes;  // of the destination; what the source has not is zero
  uint32_t copied; // of the source
  const char *site;
  bool landed = false;
  bool tracked = false; // by an mbarrier, which lands it
};

/// A bulk copy from shared to global memory, until it has read.
struct BulkStore {
  uint32_t offset;
  uint32_t bytes;
  const char *site;
  std::function<void()> perform;
};

/// Bytes that an asynchronous unit reads.
struct AsyncRead {
  uint32_t offset;
  uint32_t bytes;
  const char *site;
};

struct Thread {
  Fiber fiber;
  Block *block = nullptr;
  uint32_t index = 0; // in the block, x fastest
  std::array<uint32_t, 3> id = {};
  Actor actor = 0;
  VectorClock clock;
  /// Fences: what it knew at the last one, which relaxed stores release, and
  /// what relaxed loads have seen, which the next one acquires.
  VectorClock fenced, seen;
  bool done = false;
  bool runnable = true;

  /// What it waits for, for the message of a deadlock.
  const char *waitsFor = nullptr;
  const char *site = nullptr;
  uint64_t waitsOn = 0;

  /// Operands and results of operations of a whole warp.
  std::array<uint64_t, 8> in = {};
  std::array<uint64_t, 8> out = {};

  /// cp.async: not committed yet, and committed groups, oldest first.
  std::vector<std::shared_ptr<CpAsync>> copies;
  std::deque<std::vector<std::shared_ptr<CpAsync>>> copyGroups;
  /// The same for bulk stores.
  std::vector<BulkStore> stores;
  std::deque<std::vector<BulkStore>> storeGroups;

  uint32_t lane() const { return index % kWarpSize; }
  uint32_t warpIndex() const { return index / kWarpSize; }
};

/// Lanes of a warp that wait for each other in one operation.
struct Meeting {
  const char *kind;
  const char *site;
  uint32_t mask = 0;
  uint32_t arrived = 0;
  bool ordersMemory = false;
};

struct Warp {
  Block *block = nullptr;
  uint32_t index = 0;
  uint32_t existing = 0; // lanes
  uint32_t exited = 0;
  uint32_t priority = 0;
  std::vector<Meeting> meetings;
  /// wgmma: reads not committed yet, and committed groups, oldest first.
  Actor matrixActor = 0;
  uint32_t matrixClock = 0;
  std::vector<AsyncRead> matrixReads;
  std::deque<std::vector<AsyncRead>> matrixGroups;

  Thread &lane(uint32_t lane);
};

/// bar.sync: one of a block's sixteen barriers.
struct NamedBarrier {
  uint32_t expected = 0; // threads; 0 while nobody waits
  bool all = false;      // whoever has not exited, instead of a number
  uint32_t arrived = 0;
  std::vector<Thread *> waiting;
  VectorClock joined;
  std::map<uint32_t, const char *> sites; // of each warp
  uint32_t ones = 0;                      // of a reduction
};

struct MBarrier {
  uint32_t expected = 0;
  uint32_t pending = 0;
  int64_t bytes = 0;
  bool phase = false;
  Actor copies = 0; // the actor of copies that complete on it
  uint32_t copyClock = 0;
  Toucher initialized;
  bool isFenced = false; // bulk copies know of the initialization
  VectorClock arriving;  // of the phase that is running
  VectorClock completed; // of the last one
  std::vector<Thread *> waiting;

  void expectBytes(int64_t count) { bytes += count; }
  /// Ends the phase if nothing is missing.
  void finishPhase();
  /// Fails if a bulk copy that starts now may find it not initialized.
  void checkFenced(const char *site) const;
  /// A copy of `count` bytes has landed; `epoch` is its own.
  void completeBytes(int64_t count, Epoch epoch);
};

struct Block {
  Cluster *cluster = nullptr;
  std::array<uint32_t, 3> id = {};
  uint32_t rank = 0; // in the cluster
  char *window = nullptr;
  uint32_t sharedEnd = 0; // offset in the window
  std::unique_ptr<Shadow> shadow;
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  std::array<NamedBarrier, 16> barriers;
  std::map<uint32_t, MBarrier> mbarriers; // by offset
  uint32_t barrierActors = 0;             // handed out
  uint32_t live = 0;
  uint32_t copiesInFlight = 0;

  bool contains(const void *address) const {
    return static_cast<const char *>(address) - window >= 0 &&
           static_cast<const char *>(address) - window < kWindowBytes;
  }
  uint32_t offset(const void *address) const {
    return static_cast<const char *>(address) - window;
  }
};

/// Blocks that know each other's clocks: one, a cluster, or all of a
/// cooperative launch.
struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  uint32_t actors = 0;
  uint32_t arrived = 0; // at the cluster barrier
  std::vector<Thread *> waiting;
  VectorClock joined;
  /// What atomics have released: to all, and (rank + 1) to those of a block.
  std::map<std::pair<const void *, uint32_t>, VectorClock> atomics;
  uint32_t live = 0; // blocks
};

/// One launch. `current` is the thread that runs.
class Machine {
public:
  Machine(const MoEEmuKernel &kernel, const MoEEmuLaunch &launch, void **args);
  ~Machine();

  /// Runs all blocks. Returns the error, empty if none.
  std::string run();

  //===--- for operations, on the stack of the running thread ---===//

  /// The first error ends the launch.
  void report(const char *site, const std::string &what);
  /// Reports, and never comes back. Not for landings: they have no thread.
  [[noreturn]] __attribute__((format(printf, 3, 4))) void
  fail(const char *site, const char *format, ...);
  /// Waits until someone wakes this thread.
  void block(const char *waitsFor, const char *site, uint64_t on = 0);
  void wake(Thread *thread);
  /// Lets others run, now and then.
  void maybeYield();
  void yield();
  /// Something moved, so this is no livelock.
  void progress() { idlePicks = 0; }
  uint64_t random(uint64_t bound);
  /// Runs `landing` at some later time.
  void later(std::function<void()> landing);

  /// All of `mask` has to come to the same operation; the last one computes.
  /// Operands are in Thread::in, results in Thread::out.
  using Compute = void (*)(Warp &warp, uint32_t mask, uint64_t extra);
  void meet(const char *kind, uint32_t mask, const char *site, Compute compute,
            uint64_t extra = 0, bool aligned = false,
            bool ordersMemory = false);

  /// A release: what this thread did is before what follows from here on.
  Epoch tick(Thread &thread);

  Block *blockOf(const void *address) const;
  /// An mbarrier that the running thread may use.
  MBarrier &findBarrier(const void *address, const char *site);
  std::string describe(const Block &block, Actor actor) const;
  std::string explain(const char *what, const Block &block,
                      const Conflict &conflict,
                      const char *memory = "shared memory") const;
  /// An access of global memory, where blocks know each other's clocks.
  void touchGlobal(const void *address, uint64_t bytes, Access access,
                   const char *what, const char *site);
  /// A read of it by the async proxy.
  void readGlobalAsync(const void *address, uint64_t bytes, const char *site);
  void checkGlobal(const void *address, uint64_t bytes, bool write,
                   const char *site);

  const MoEEmuKernel &kernel;
  const MoEEmuLaunch &launch;
  void **args;
  uint32_t threadsPerBlock = 0;
  std::array<uint32_t, 3> clusterDims = {1, 1, 1};
  Thread *current = nullptr;

  /// Thread exit changes what barriers wait for.
  void finishNamedBarrier(Block &block, NamedBarrier &barrier);

private:
  std::string checkLaunch();
  void startClusters();
  void removeFinished();
  void startCluster(std::array<uint32_t, 3> first);
  std::unique_ptr<Block> makeBlock(Cluster &cluster, uint32_t rank,
                                   std::array<uint32_t, 3> id);
  void retire(Cluster &cluster);
  static void runThread(void *thread);
  void exitThread(Thread &thread);
  void checkNothingInFlight(const Thread &thread);
  void joinLanes(Warp &warp, uint32_t mask);
  Thread *pick();
  bool landOne(bool force);
  std::string deadlock() const;

  /// Blocks that run together, of the grid.
  std::array<uint32_t, 3> togetherDims() const;
  uint32_t mostBlocks() const;
  void explainGlobal(const char *what, const void *address,
                     const Conflict &conflict, const char *site);

  GlobalShadow global;
  std::vector<std::unique_ptr<Cluster>> clusters; // resident
  std::vector<std::array<uint32_t, 3>> waitingClusters;
  std::vector<Cluster *> finished;
  uint32_t residentBlocks = 0;
  std::vector<Thread *> runnable;
  std::deque<Thread *> inOrder; // with seed 0
  std::vector<std::function<void()>> landings;
  uint64_t landEvery = 1;
  bool skewed = false;
  uint64_t idlePicks = 0;
  std::mt19937_64 engine;
  bool failed = false;
  std::string error;
  std::vector<char *> freeWindows;
};

/// The launch of this process.
extern Machine *machine;

/// The thread that runs.
inline Thread &self() { return *machine->current; }

} // namespace moe::emulation

#endif // MOE_LIB_EMULATION_MACHINE_H
