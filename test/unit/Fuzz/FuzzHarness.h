//===- FuzzHarness.h - Rounds of random tests -------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A test is a number of rounds. Round r draws from the seed plus r alone, so
/// that MOE_TEST_SEED=<seed + r> MOE_TEST_ITERATIONS=1 repeats it. A round that
/// fails, crashes or hangs prints how to repeat it and what its input was.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_UNIT_FUZZ_FUZZHARNESS_H
#define MOE_TEST_UNIT_FUZZ_FUZZHARNESS_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/PassManager.h"
#include "gtest/gtest.h"
#include <random>

namespace mlir::moe::test {

/// Draws numbers; the same ones for the same seed on every machine.
class Random {
public:
  explicit Random(uint64_t seed) : engine(seed) {}

  /// A number in [0, count).
  uint64_t pick(uint64_t count) { return engine() % count; }
  /// A number in [low, high].
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(pick(high - low + 1));
  }
  /// True in one of `n` draws.
  bool oneIn(uint64_t n) { return pick(n) == 0; }
  template <typename Range>
  auto choose(const Range &range) {
    return *std::next(std::begin(range), pick(std::size(range)));
  }
  template <typename T>
  T choose(std::initializer_list<T> list) {
    return *(list.begin() + pick(list.size()));
  }

private:
  std::mt19937_64 engine;
};

/// What the current round works on: printed should it crash or hang, and when
/// the test fails.
void setRoundInput(std::string input);

/// Runs `rounds` rounds (MOE_TEST_ITERATIONS: that many instead) up to the
/// first that fails.
void runRounds(int rounds, llvm::function_ref<void(Random &)> round);

/// A context that knows all dialects of upstream and ours and runs on one
/// thread; only ours is loaded yet.
std::unique_ptr<MLIRContext> createContext();

/// Collects errors of a context instead of printing them.
class ErrorCollector {
public:
  explicit ErrorCollector(MLIRContext *context);
  size_t getCount() const { return errors.size(); }
  /// All messages, one a line; at most a few thousand characters.
  std::string getText() const;

private:
  std::vector<std::string> errors;
  ScopedDiagnosticHandler handler;
};

/// Runs a pipeline and verifies after each pass.
LogicalResult runPasses(ModuleOp module,
                        llvm::function_ref<void(OpPassManager &)> build);

/// The text of a module, in the custom form.
std::string print(ModuleOp module);
/// The bytes of a module as bytecode; empty if it cannot be written.
std::string writeBytecode(ModuleOp module);

/// Parses text or bytecode, without verification.
OwningOpRef<ModuleOp> parse(llvm::StringRef bytes, MLIRContext *context);

} // namespace mlir::moe::test

#endif // MOE_TEST_UNIT_FUZZ_FUZZHARNESS_H
