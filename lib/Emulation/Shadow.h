//===- Shadow.h - Who touched shared memory last -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATION_SHADOW_H
#define MOE_LIB_EMULATION_SHADOW_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moe::emulation {

/// Something that touches memory in an order of its own: a thread, the wgmma
/// unit as one warp uses it, the copies that complete on one mbarrier.
using Actor = uint32_t;

/// A point in an actor's order. Clocks start at 1, so 0 is never.
struct Epoch {
  Actor actor = 0;
  uint32_t clock = 0;
  explicit operator bool() const { return clock != 0; }
};

/// What an actor knows to have happened: for each actor the last point that
/// lies before. The second half is the same for what a proxy fence has made
/// visible to asynchronous readers.
class VectorClock {
public:
  VectorClock() = default;
  explicit VectorClock(uint32_t actors)
      : actors(actors), points(2 * std::size_t(actors)) {}

  void join(const VectorClock &other);
  /// What both know.
  void meet(const VectorClock &other);
  void clear() { points.assign(points.size(), 0); }
  bool knows(Epoch e) const { return points[e.actor] >= e.clock; }
  bool knowsFenced(Epoch e) const {
    return points[actors + e.actor] >= e.clock;
  }
  uint32_t &operator[](Actor actor) { return points[actor]; }
  /// Points only move on: copies land in any order.
  void set(Epoch e) { advance(points[e.actor], e.clock); }
  /// fence.proxy.async: all that is known is visible to asynchronous readers.
  void fence();
  /// One actor's point becomes visible to asynchronous readers: it was one.
  void setFenced(Epoch e) { advance(points[actors + e.actor], e.clock); }

private:
  static void advance(uint32_t &point, uint32_t clock) {
    point = clock > point ? clock : point;
  }

  uint32_t actors = 0;
  std::vector<uint32_t> points;
};

enum class Access { Read, Write, Atomic };

/// One access of one actor, with where in the kernel it stands.
struct Toucher {
  Epoch epoch;
  const char *site = nullptr;
};

/// What an access collided with.
struct Conflict {
  enum Kind {
    None,
    Race,         ///< no barrier between the two
    InFlight,     ///< the other is an asynchronous copy that nobody waited for
    ReadInFlight, ///< the other is an asynchronous read that nobody waited for
    Unfenced,     ///< ordered, but no proxy fence between the two
    Barrier,      ///< an mbarrier lies there
  };
  Kind kind = None;
  Access other = Access::Read;
  Toucher toucher;
  uint32_t offset = 0;
  explicit operator bool() const { return kind != None; }
};

/// For each two bytes of a block's shared memory: the last writer, and the
/// readers since then. Two bytes, as bf16 elements of different threads are
/// neighbours; single bytes of one granule are told apart only by their
/// writers.
class Shadow {
public:
  explicit Shadow(uint32_t bytes) : cells((bytes + 1) / 2) {}

  /// An access of a thread, as it happens. `known` is what the actor knows.
  Conflict touch(uint32_t offset, uint32_t bytes, Access access,
                 const Toucher &who, const VectorClock &known);

  /// An asynchronous write is issued: like a write, and from now on until
  /// `land` every access collides. `needsFence`: the async proxy does it.
  Conflict issue(uint32_t offset, uint32_t bytes, const Toucher &who,
                 const VectorClock &known, bool needsFence);
  void land(uint32_t offset, uint32_t bytes, const Toucher &who);

  /// An asynchronous read is issued (`delta` 1) or done (-1); in between no one
  /// may write. `issueRead` checks the last write against `known`.
  Conflict issueRead(uint32_t offset, uint32_t bytes, const Toucher &who,
                     const VectorClock &known);
  void finishRead(uint32_t offset, uint32_t bytes, const Toucher &who);

  /// An mbarrier takes these bytes (or leaves them).
  void reserve(uint32_t offset, uint32_t bytes, bool isBarrier);

private:
  struct Cell {
    Toucher writer;
    Toucher reader;
    Toucher asyncReader;      // the last one in flight
    uint32_t moreReaders = 0; // 1 + index into `readers`
    uint16_t readsInFlight = 0;
    uint8_t mask = 3; // which bytes the writer wrote
    bool writeInFlight = false;
    bool atomic = false; // the writer was
    bool barrier = false;
  };

  Conflict checkWrite(Cell &cell, uint8_t mask, bool atomic,
                      const VectorClock &known, bool needsFence);
  void addReader(Cell &cell, const Toucher &who, const VectorClock *known);
  void setWriter(Cell &cell, const Toucher &who, uint8_t mask, bool atomic);

  template <typename Fn>
  Conflict forEach(uint32_t offset, uint32_t bytes, Fn fn) {
    uint32_t last = (offset + bytes - 1) / 2;
    for (uint32_t granule = offset / 2; granule <= last; ++granule) {
      uint8_t mask = 3;
      if (2 * granule < offset)
        mask = 2;
      else if (2 * granule + 2 > offset + bytes)
        mask = 1;
      if (Conflict conflict = fn(cells[granule], granule, mask)) {
        conflict.offset = 2 * granule;
        return conflict;
      }
    }
    return {};
  }

  std::vector<Cell> cells;
  std::vector<std::vector<Toucher>> readers;
};

} // namespace moe::emulation

#endif // MOE_LIB_EMULATION_SHADOW_H
