//===- EmulationTest.h - Kernels from text, launched in memory --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_UNIT_EMULATION_EMULATIONTEST_H
#define MOE_TEST_UNIT_EMULATION_EMULATIONTEST_H

#include "moe/Emulation/Emulation.h"
#include "gtest/gtest.h"
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace mlir::moe {

/// A module of kernels as machine code of this process.
class Kernels {
public:
  /// Lowers `text` to LLVM, runs moe-emulate-nvvm, compiles. Null, with a
  /// failed expectation, if that does not work.
  static std::unique_ptr<Kernels> compile(const std::string &text);
  ~Kernels();

  const MoEEmuKernel *find(const std::string &name) const;

  /// Launches with `config` and returns the error, "" if none.
  std::string launch(const std::string &name, const MoEEmuLaunch &config,
                     std::vector<void *> args) const;

private:
  struct Code;
  std::unique_ptr<Code> code;
};

/// test/unit/Emulation/Inputs/NAME.
std::string readInput(const std::string &name);

/// `text` without the line that is marked `// MARK name`, or with `replacement`
/// in place of `part` in it. Fails the test if there is not exactly one such
/// line.
std::string mutate(const std::string &text, const std::string &mark,
                   const std::string &part = "",
                   const std::string &replacement = "");

/// A line of a kernel that is left out, or a part of it that is replaced, and
/// what is then said of it.
struct Bug {
  const char *mark;
  const char *part;
  const char *replacement;
  const char *message;
};

inline void PrintTo(const Bug &bug, std::ostream *os) { *os << bug.mark; }

/// Expects that `problem` finds the bug in the kernels of `input`, whatever the
/// schedule.
template <typename Problem>
void expectCaught(const Bug &bug, const std::string &input, Problem &problem) {
  auto kernels = Kernels::compile(
      mutate(readInput(input), bug.mark, bug.part, bug.replacement));
  ASSERT_TRUE(kernels);
  for (uint64_t seed = 0; seed < 10; ++seed) {
    std::string error = problem.run(*kernels, seed);
    EXPECT_NE(error.find(bug.message), std::string::npos)
        << "seed " << seed << ": '" << error << "'";
  }
}

/// A launch in one dimension.
inline MoEEmuLaunch config(uint32_t grid, uint32_t block, uint32_t shared = 0,
                           uint64_t seed = 0) {
  MoEEmuLaunch launch = {};
  launch.grid[0] = grid;
  launch.block[0] = block;
  for (int i = 1; i < 3; ++i)
    launch.grid[i] = launch.block[i] = 1;
  launch.dynamic_shared = shared;
  launch.seed = seed;
  return launch;
}

/// The bits of a value that bf16 has exactly.
inline uint16_t toBfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits >> 16;
}

/// Small whole numbers, whose sums of products are exact.
inline int smallNumber(uint32_t i) {
  return static_cast<int>((i * 2654435761u >> 13) % 7) - 3;
}

} // namespace mlir::moe

#endif // MOE_TEST_UNIT_EMULATION_EMULATIONTEST_H
