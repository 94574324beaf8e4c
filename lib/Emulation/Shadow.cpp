//===- Shadow.cpp - Who touched shared memory last -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Shadow.h"

#include <algorithm>

using namespace moe::emulation;

void VectorClock::join(const VectorClock &other) {
  if (points.size() < other.points.size())
    *this = VectorClock(other.actors);
  const uint32_t *from = other.points.data();
  uint32_t *to = points.data();
  for (size_t i = 0, e = other.points.size(); i < e; ++i)
    to[i] = std::max(to[i], from[i]);
}

void VectorClock::meet(const VectorClock &other) {
  const uint32_t *from = other.points.data();
  uint32_t *to = points.data();
  for (size_t i = 0, e = points.size(); i < e; ++i)
    to[i] = std::min(to[i], from[i]);
}

void VectorClock::fence() {
  std::copy(points.begin(), points.begin() + actors, points.begin() + actors);
}

static Conflict conflict(Conflict::Kind kind, Access other,
                         const Toucher &toucher) {
  return {kind, other, toucher, 0};
}

Conflict Shadow::checkWrite(Cell &cell, uint8_t mask, bool atomic,
                            const VectorClock &known, bool needsFence) {
  if (cell.barrier)
    return conflict(Conflict::Barrier, Access::Write, cell.writer);
  if (cell.writeInFlight)
    return conflict(Conflict::InFlight, Access::Write, cell.writer);
  if (cell.readsInFlight)
    return conflict(Conflict::ReadInFlight, Access::Read, cell.asyncReader);
  const Epoch &written = cell.writer.epoch;
  if (written && (mask & cell.mask) && !(atomic && cell.atomic)) {
    if (!known.knows(written))
      return conflict(Conflict::Race, Access::Write, cell.writer);
    if (needsFence && !known.knowsFenced(written))
      return conflict(Conflict::Unfenced, Access::Write, cell.writer);
  }
  if (cell.reader.epoch && !known.knows(cell.reader.epoch))
    return conflict(Conflict::Race, Access::Read, cell.reader);
  if (cell.moreReaders)
    for (const Toucher &reader : readers[cell.moreReaders - 1])
      if (!known.knows(reader.epoch))
        return conflict(Conflict::Race, Access::Read, reader);
  return {};
}

void Shadow::setWriter(Cell &cell, const Toucher &who, uint8_t mask,
                       bool atomic) {
  cell.writer = who;
  cell.mask = mask;
  cell.atomic = atomic;
  cell.reader = {};
  if (cell.moreReaders)
    readers[cell.moreReaders - 1].clear();
}

// Readers that the new one knows are covered by it: whoever is ordered after
// the new one is ordered after them. So is an earlier read of the same actor.
void Shadow::addReader(Cell &cell, const Toucher &who,
                       const VectorClock *known) {
  auto covered = [&](const Toucher &reader) {
    return reader.epoch.actor == who.epoch.actor ||
           (known && known->knows(reader.epoch));
  };
  bool first = !cell.reader.epoch || covered(cell.reader);
  if (first)
    cell.reader = who;
  if (!cell.moreReaders) {
    if (first)
      return;
    readers.emplace_back();
    cell.moreReaders = readers.size();
  }
  std::vector<Toucher> &more = readers[cell.moreReaders - 1];
  more.erase(std::remove_if(more.begin(), more.end(), covered), more.end());
  if (!first)
    more.push_back(who);
}

Conflict Shadow::touch(uint32_t offset, uint32_t bytes, Access access,
                       const Toucher &who, const VectorClock &known) {
  return forEach(
      offset, bytes, [&](Cell &cell, uint32_t, uint8_t mask) -> Conflict {
        bool atomic = access == Access::Atomic;
        if (access == Access::Read) {
          if (cell.barrier)
            return conflict(Conflict::Barrier, Access::Write, cell.writer);
          if (cell.writeInFlight)
            return conflict(Conflict::InFlight, Access::Write, cell.writer);
          const Epoch &written = cell.writer.epoch;
          if (written && (mask & cell.mask) && !known.knows(written))
            return conflict(Conflict::Race, Access::Write, cell.writer);
          addReader(cell, who, &known);
          return {};
        }
        if (Conflict found = checkWrite(cell, mask, atomic, known, false))
          return found;
        setWriter(cell, who, mask, atomic);
        return {};
      });
}

Conflict Shadow::issue(uint32_t offset, uint32_t bytes, const Toucher &who,
                       const VectorClock &known, bool needsFence) {
  return forEach(
      offset, bytes, [&](Cell &cell, uint32_t, uint8_t mask) -> Conflict {
        if (Conflict found = checkWrite(cell, mask, false, known, needsFence))
          return found;
        setWriter(cell, who, mask, false);
        cell.writeInFlight = true;
        return {};
      });
}

void Shadow::land(uint32_t offset, uint32_t bytes, const Toucher &who) {
  forEach(offset, bytes, [&](Cell &cell, uint32_t, uint8_t mask) -> Conflict {
    cell.writeInFlight = false;
    cell.writer = who;
    cell.mask = mask;
    return {};
  });
}

Conflict Shadow::issueRead(uint32_t offset, uint32_t bytes, const Toucher &who,
                           const VectorClock &known) {
  return forEach(
      offset, bytes, [&](Cell &cell, uint32_t, uint8_t mask) -> Conflict {
        if (cell.barrier)
          return conflict(Conflict::Barrier, Access::Write, cell.writer);
        if (cell.writeInFlight)
          return conflict(Conflict::InFlight, Access::Write, cell.writer);
        const Epoch &written = cell.writer.epoch;
        if (written && !known.knows(written))
          return conflict(Conflict::Race, Access::Write, cell.writer);
        if (written && !known.knowsFenced(written))
          return conflict(Conflict::Unfenced, Access::Write, cell.writer);
        ++cell.readsInFlight;
        cell.asyncReader = who;
        return {};
      });
}

void Shadow::finishRead(uint32_t offset, uint32_t bytes, const Toucher &who) {
  forEach(offset, bytes, [&](Cell &cell, uint32_t, uint8_t) -> Conflict {
    --cell.readsInFlight;
    addReader(cell, who, nullptr);
    return {};
  });
}

void Shadow::reserve(uint32_t offset, uint32_t bytes, bool isBarrier) {
  forEach(offset, bytes, [&](Cell &cell, uint32_t, uint8_t) -> Conflict {
    cell.barrier = isBarrier;
    return {};
  });
}
