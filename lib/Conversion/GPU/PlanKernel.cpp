//===- PlanKernel.cpp - The counting sort of choices by expert ------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The choices lie in order; each warp of each block has a stretch of them, and
// a row of counts in shared memory, one for each expert:
//
//   count    how many choices of each expert the stretch has
//   starts   sums over the warps and blocks before, and over the experts
//   before:
//            where the first of them goes
//   place    the stretch once more: a choice takes its expert's start, plus one
//            for each lane below with the same expert, and raises it
//
// Only the warp itself changes its row, in the order of the choices: what comes
// out is stable and the same every time, without atomics.
//
//===----------------------------------------------------------------------===//

#include "PlanKernel.h"

#include "moe/Dialect/MoE/Utils/DecidingMath.h"

using namespace mlir;
using namespace mlir::moe;

using Values = KernelBuilder::Values;

namespace {

class PlanKernel {
public:
  PlanKernel(KernelBuilder &b, const PlanProblem &problem,
             const IRMapping &toDevice, const PlanSizes &sizes, Value counts,
             Value shared)
      : b(b), problem(problem), toDevice(toDevice), sizes(sizes),
        counts(counts), shared(shared), i32(b.getI32Type()),
        numExperts(problem.numExperts), thread(b.threadId()),
        lane(b.rem(thread, kWarpSize)), warp(b.div(thread, kWarpSize)),
        block(b.blockId()), numBlocks(b.numBlocks()) {}

  void buildCount() {
    clear();
    countChoices(stretchOfWarp(b.add(b.mul(block, problem.numWarps), warp),
                               b.mul(numBlocks, problem.numWarps),
                               sizes.numChoices),
                 [&](Value at) { return loadRouted(at); });
    forEachExpert([&](Value expert) {
      b.store(sumOfWarps(expert), countOfBlock(block, expert));
    });
  }

  void buildPlace() {
    Stretch stretch =
        stretchOfWarp(b.add(b.mul(block, problem.numWarps), warp),
                      b.mul(numBlocks, problem.numWarps), sizes.numChoices);
    auto routed = [&](Value at) { return loadRouted(at); };
    clear();
    countChoices(stretch, routed);
    sumUpBlocks();
    b.barrier();
    b.onlyIf(b.equal(warp, 0), [&] { sumUpExperts(); });
    b.barrier();
    Value isFirst = b.equal(block, 0);
    b.onlyIf(isFirst, [&] { storeOffsets(); });
    forEachExpert([&](Value expert) {
      Value start = b.add(b.load(i32, offsetOf(expert)),
                          b.load(i32, countBefore(expert)));
      startWarps(expert, start);
    });
    b.barrier();
    placeChoices(stretch, routed, [&](Value at, Value routed, Value row) {
      Value none = b.i32(-1);
      Value slot = b.select(routed, row, none);
      b.store(slot, elementOf(problem.slots, at));
      b.onlyIf(routed, [&] { b.store(at, elementOf(problem.source, row)); });
    });
    storeTail();
  }

  /// Block by block of tokens, each with counts of its own.
  void buildMark() {
    Value numGroups = ceilDiv(sizes.numTokens, sizes.tokensPerGroup);
    b.loop(block, numGroups, numBlocks, ValueRange(),
           [&](Value group, ValueRange) -> Values {
             Value lower = b.mul(group, sizes.tokensPerGroup);
             Value size =
                 b.min(b.sub(sizes.numTokens, lower), sizes.tokensPerGroup);
             markGroup(lower, size);
             // The next group clears what this one reads.
             b.barrier();
             return {};
           });
  }

  void buildMarkByPriority() {
    Value first = b.add(b.mul(block, problem.numThreads()), thread);
    Value step = b.mul(numBlocks, problem.numThreads());
    // As i64: the last step may go beyond 2³¹.
    b.loop(b.widen(first), b.widen(sizes.numChoices), b.widen(step),
           ValueRange(), [&](Value at, ValueRange) -> Values {
             markByPriority(arith::TruncIOp::create(b, i32, at));
             return {};
           });
  }

private:
  /// Choices [first, first + 32 · numSteps) of `size`, taken 32 at a time.
  struct Stretch {
    Value first, numSteps, size;
  };
  /// A choice that lies at `at`, or none, and its expert.
  struct Choice {
    Value at, expert, isRouted;
  };
  using LoadChoice = function_ref<Choice(Value)>;

  KernelBuilder &b;
  const PlanProblem &problem;
  const IRMapping &toDevice;
  const PlanSizes &sizes;
  Value counts, shared;
  Type i32;
  int64_t numExperts;
  Value thread, lane, warp, block, numBlocks;

  //===--------------------------------------------------------------------===//
  // Memory
  //===--------------------------------------------------------------------===//

  Value elementOf(Value buffer, Value index) {
    return b.element(toDevice.lookup(buffer), i32, b.widen(index));
  }
  Value countOfWarp(Value warp, Value expert) {
    return b.element(shared, i32, b.add(b.mul(warp, numExperts), expert));
  }
  Value offsetOf(Value expert) {
    return b.element(b.advance(shared, 4 * problem.numWarps * numExperts), i32,
                     expert);
  }
  Value countBefore(Value expert) {
    int64_t first = (problem.numWarps + 1) * numExperts + 1;
    return b.element(b.advance(shared, 4 * first), i32, expert);
  }
  Value countOfBlock(Value block, Value expert) {
    return b.element(counts, i32,
                     b.add(b.widen(b.mul(block, numExperts)), b.widen(expert)));
  }

  //===--------------------------------------------------------------------===//
  // Choices
  //===--------------------------------------------------------------------===//

  /// Of unsigned numbers; x + y may be 2³¹ and more.
  Value ceilDiv(Value x, Value y) { return b.div(b.add(x, b.sub(y, 1)), y); }

  Stretch stretchOfWarp(Value number, Value numWarps, Value size) {
    Value numSteps = ceilDiv(size, b.mul(numWarps, kWarpSize));
    return {b.mul(number, b.mul(numSteps, kWarpSize)), numSteps, size};
  }

  /// The choice at `at`, which is one of T·k; the first if `isThere` does not
  /// hold.
  Choice loadChoice(Value at, Value isThere) {
    Value id = b.load(i32, elementOf(problem.ids, at));
    Value isRouted = b.both(isThere, b.below(id, numExperts));
    return {at, id, isRouted};
  }

  /// Choice `at` as the sort sees it: where there is a capacity, choices that
  /// were marked as dropped have no expert.
  Choice loadRouted(Value at) {
    Value isThere = b.below(at, sizes.numChoices);
    Value clamped = b.select(isThere, at, b.i32(0));
    Choice choice = loadChoice(clamped, isThere);
    if (!problem.capacity)
      return choice;
    Value mark = b.load(i32, elementOf(problem.slots, clamped));
    choice.isRouted = b.both(choice.isRouted, b.equal(mark, 0));
    return choice;
  }

  /// Number `at` of the choices of the tokens [lower, lower + size), in the
  /// order in which they are dropped last.
  Choice loadInGroup(Value at, Value lower, Value size) {
    Value isThere = b.below(at, b.mul(size, problem.topK));
    Value clamped = b.select(isThere, at, b.i32(0));
    if (problem.order == CapacityOrder::ChoiceMajor)
      clamped = b.add(b.mul(b.rem(clamped, size), problem.topK),
                      b.div(clamped, size));
    return loadChoice(b.add(b.mul(lower, problem.topK), clamped), isThere);
  }

  /// Lanes whose choices have this one's expert, as bits, and how many of them
  /// are below. Choices without an expert are alike.
  std::pair<Value, Value> findAlike(const Choice &choice) {
    Value key = b.select(choice.isRouted, choice.expert, b.i32(-1));
    Value alike = b.matchAny(key);
    Value lower = b.sub(arith::ShLIOp::create(b, b.i32(1), lane), 1);
    return {alike, b.countBits(b.bitAnd(alike, lower))};
  }

  /// Calls `visit` with the number of each choice of the stretch.
  void forEachStep(const Stretch &stretch, function_ref<void(Value)> visit) {
    b.loop(b.i32(0), stretch.numSteps, b.i32(1), ValueRange(),
           [&](Value step, ValueRange) -> Values {
             visit(b.add(b.add(stretch.first, b.mul(step, kWarpSize)), lane));
             return {};
           });
  }

  /// Raises the warp's count of `choice`'s expert by the lanes that have it;
  /// one lane does it for all.
  void raise(const Choice &choice, Value alike, Value rank, Value from) {
    Value isFirst = b.both(choice.isRouted, b.equal(rank, 0));
    b.onlyIf(isFirst, [&] {
      Value place = countOfWarp(warp, choice.expert);
      Value old = from ? from : b.load(i32, place);
      b.store(b.add(old, b.countBits(alike)), place);
    });
    b.syncWarp();
  }

  void countChoices(const Stretch &stretch, LoadChoice load) {
    forEachStep(stretch, [&](Value at) {
      Choice choice = load(at);
      auto [alike, rank] = findAlike(choice);
      raise(choice, alike, rank, Value());
    });
    b.barrier();
  }

  /// Calls `place` with each choice of the stretch, whether it has an expert,
  /// and what its expert's count was raised to before it.
  void placeChoices(const Stretch &stretch, LoadChoice load,
                    function_ref<void(Value, Value, Value)> place) {
    forEachStep(stretch, [&](Value at) {
      Choice choice = load(at);
      auto [alike, rank] = findAlike(choice);
      Value expert = b.select(choice.isRouted, choice.expert, b.i32(0));
      Value count =
          numExperts > 0 ? b.load(i32, countOfWarp(warp, expert)) : b.i32(0);
      b.onlyIf(b.below(at, stretch.size), [&, rank = rank] {
        place(choice.at, choice.isRouted, b.add(count, rank));
      });
      // All have read the count.
      b.syncWarp();
      raise(choice, alike, rank, count);
    });
  }

  //===--------------------------------------------------------------------===//
  // Counts
  //===--------------------------------------------------------------------===//

  /// Calls `visit` in parallel.
  void forEachExpert(function_ref<void(Value)> visit) {
    b.loop(thread, b.i32(numExperts), b.i32(problem.numThreads()), ValueRange(),
           [&](Value expert, ValueRange) -> Values {
             visit(expert);
             return {};
           });
  }

  void clear() {
    b.loop(thread, b.i32(problem.numWarps * numExperts),
           b.i32(problem.numThreads()), ValueRange(),
           [&](Value i, ValueRange) -> Values {
             b.store(b.i32(0), b.element(shared, i32, i));
             return {};
           });
    b.barrier();
  }

  Value sumOfWarps(Value expert) {
    return b.loop(b.i32(0), b.i32(problem.numWarps), b.i32(1), b.i32(0),
                  [&](Value warp, ValueRange sum) -> Values {
                    return {
                        b.add(sum[0], b.load(i32, countOfWarp(warp, expert)))};
                  })[0];
  }

  /// Turns the counts of an expert into where each warp starts.
  void startWarps(Value expert, Value start) {
    b.loop(b.i32(0), b.i32(problem.numWarps), b.i32(1), start,
           [&](Value warp, ValueRange next) -> Values {
             Value place = countOfWarp(warp, expert);
             Value count = b.load(i32, place);
             b.store(next[0], place);
             return {b.add(next[0], count)};
           });
  }

  /// The choices of `expert` in all blocks, and in those before this one.
  Values countInBlocks(Value expert) {
    return b.loop(b.i32(0), numBlocks, b.i32(1), {b.i32(0), b.i32(0)},
                  [&](Value other, ValueRange sums) -> Values {
                    Value count = b.load(i32, countOfBlock(other, expert));
                    Value isBefore = b.less(other, block);
                    Value before = b.select(isBefore, count, b.i32(0));
                    return {b.add(sums[0], count), b.add(sums[1], before)};
                  });
  }

  /// Per expert: the choices of all blocks, and of the blocks before.
  void sumUpBlocks() {
    forEachExpert([&](Value expert) {
      auto alone = [&]() -> Values { return {sumOfWarps(expert), b.i32(0)}; };
      Values sums = !counts ? alone()
                            : b.ifElse(b.equal(numBlocks, 1), alone,
                                       [&] { return countInBlocks(expert); });
      b.store(sums[0], offsetOf(expert));
      b.store(sums[1], countBefore(expert));
    });
  }

  /// One warp turns counts of experts into offsets; a lane has neighbours.
  void sumUpExperts() {
    Value perLane = b.i32(llvm::divideCeil(numExperts, kWarpSize));
    Value first = b.min(b.mul(lane, perLane), numExperts);
    Value last = b.min(b.add(first, perLane), numExperts);
    Value own = b.loop(first, last, b.i32(1), b.i32(0),
                       [&](Value expert, ValueRange sum) -> Values {
                         return {b.add(sum[0], b.load(i32, offsetOf(expert)))};
                       })[0];
    Value inclusive = b.sumOfLanesUpTo(own, lane);
    Value total =
        b.shuffle(NVVM::ShflKind::idx, inclusive, b.i32(kWarpSize - 1));
    b.loop(first, last, b.i32(1), b.sub(inclusive, own),
           [&](Value expert, ValueRange next) -> Values {
             Value count = b.load(i32, offsetOf(expert));
             b.store(next[0], offsetOf(expert));
             return {b.add(next[0], count)};
           });
    b.onlyIf(b.equal(lane, 0),
             [&] { b.store(total, offsetOf(b.i32(numExperts))); });
  }

  void storeOffsets() {
    b.loop(thread, b.i32(numExperts + 1), b.i32(problem.numThreads()),
           ValueRange(), [&](Value expert, ValueRange) -> Values {
             b.store(b.load(i32, offsetOf(expert)),
                     elementOf(problem.offsets, expert));
             return {};
           });
  }

  /// Rows that nobody owns have source −1.
  void storeTail() {
    Value used = b.load(i32, offsetOf(b.i32(numExperts)));
    Value number = b.add(b.mul(block, problem.numThreads()), thread);
    // As i64: the last step may go beyond 2³¹.
    Value first = b.add(b.widen(used), b.widen(number));
    Value step = b.widen(b.mul(numBlocks, problem.numThreads()));
    b.loop(first, b.widen(sizes.numRows), step, ValueRange(),
           [&](Value row, ValueRange) -> Values {
             b.store(b.i32(-1),
                     b.element(toDevice.lookup(problem.source), i32, row));
             return {};
           });
  }

  //===--------------------------------------------------------------------===//
  // Capacity
  //===--------------------------------------------------------------------===//

  void mark(Value at, Value isKept) {
    b.store(b.select(isKept, b.i32(0), b.i32(-1)),
            elementOf(problem.slots, at));
  }

  /// The first `capacity` choices of each expert among those of the tokens
  /// [lower, lower + size).
  void markGroup(Value lower, Value size) {
    auto load = [&](Value at) { return loadInGroup(at, lower, size); };
    Stretch stretch =
        stretchOfWarp(warp, b.i32(problem.numWarps), b.mul(size, problem.topK));
    clear();
    countChoices(stretch, load);
    forEachExpert([&](Value expert) { startWarps(expert, b.i32(0)); });
    b.barrier();
    placeChoices(stretch, load, [&](Value at, Value isRouted, Value before) {
      mark(at, b.both(isRouted, b.less(before, sizes.capacity)));
    });
  }

  Value loadPriority(Value at) {
    Value priority =
        b.load(b.getF32Type(), b.element(toDevice.lookup(problem.priority),
                                         b.getF32Type(), b.widen(at)));
    return buildNaNToNegInf(b, b.getLoc(), priority);
  }

  /// Where choice `at` comes in the op's order, to compare by.
  Value placeInOrder(Value at) {
    if (problem.order == CapacityOrder::TokenMajor)
      return at;
    return b.add(b.mul(b.rem(at, problem.topK), sizes.numTokens),
                 b.div(at, problem.topK));
  }

  void markByPriority(Value at) {
    Value id = b.load(i32, elementOf(problem.ids, at));
    Value priority = loadPriority(at), place = placeInOrder(at);
    Value token = b.div(at, problem.topK);
    Value lower =
        b.mul(b.div(token, sizes.tokensPerGroup), sizes.tokensPerGroup);
    Value size = b.min(b.sub(sizes.numTokens, lower), sizes.tokensPerGroup);
    Value first = b.mul(lower, problem.topK);
    Value before = b.loop(
        first, b.add(first, b.mul(size, problem.topK)), b.i32(1), b.i32(0),
        [&](Value other, ValueRange count) -> Values {
          Value precedes = isBefore(other, at, id, priority, place);
          return {b.add(count[0], b.select(precedes, b.i32(1), b.i32(0)))};
        })[0];
    Value isKept =
        b.both(b.below(id, numExperts), b.less(before, sizes.capacity));
    mark(at, isKept);
  }

  /// True if choice `other` is of the same expert and is kept rather.
  Value isBefore(Value other, Value at, Value id, Value priority, Value place) {
    Value otherId = b.load(i32, elementOf(problem.ids, other));
    Value otherPriority = loadPriority(other);
    auto compare = [&](arith::CmpFPredicate predicate) -> Value {
      return arith::CmpFOp::create(b, predicate, otherPriority, priority);
    };
    Value isEarlier = b.below(placeInOrder(other), place);
    Value isFirst = arith::OrIOp::create(
        b, compare(arith::CmpFPredicate::OGT),
        b.both(compare(arith::CmpFPredicate::OEQ), isEarlier));
    return b.both(b.equal(otherId, id), isFirst);
  }
};

} // namespace

void mlir::moe::buildCountKernel(KernelBuilder &b, const PlanProblem &problem,
                                 const IRMapping &toDevice,
                                 const PlanSizes &sizes, Value counts,
                                 Value shared) {
  PlanKernel(b, problem, toDevice, sizes, counts, shared).buildCount();
}

void mlir::moe::buildPlaceKernel(KernelBuilder &b, const PlanProblem &problem,
                                 const IRMapping &toDevice,
                                 const PlanSizes &sizes, Value counts,
                                 Value shared) {
  PlanKernel(b, problem, toDevice, sizes, counts, shared).buildPlace();
}

void mlir::moe::buildMarkKernel(KernelBuilder &b, const PlanProblem &problem,
                                const IRMapping &toDevice,
                                const PlanSizes &sizes, Value shared) {
  PlanKernel kernel(b, problem, toDevice, sizes, Value(), shared);
  if (problem.priority)
    kernel.buildMarkByPriority();
  else
    kernel.buildMark();
}
