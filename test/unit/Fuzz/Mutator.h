//===- Mutator.h - Damaged IR -----------------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_UNIT_FUZZ_MUTATOR_H
#define MOE_TEST_UNIT_FUZZ_MUTATOR_H

#include "FuzzHarness.h"
#include "llvm/ADT/StringRef.h"

namespace mlir::moe::test {

/// The IR of the repository's own tests: every test/**/*.mlir, cut at
/// `// -----`, without comments and without pieces that are very long.
const std::vector<std::string> &getTextCorpus();

/// Files test/**/*.mlirbc.
const std::vector<std::string> &getBytecodeCorpus();

/// Changes bytes: flips, other values, cuts, repeats, pieces of `other`.
std::string mutateBytes(Random &random, std::string bytes,
                        llvm::StringRef other);

/// Cuts bytecode off, or changes bytes of what dialects decode themselves (the
/// attributes, the properties) and of the strings. The rest belongs to
/// upstream, whose reader trusts what it finds there: other operations and
/// regions, or other places for attributes, overwrite its memory.
std::string mutateBytecode(Random &random, std::string bytes);

/// Changes words of IR: another size or type, everywhere or once; lines and
/// words that go, repeat, swap, or come from `other`. Much of what it makes is
/// still valid.
std::string mutateText(Random &random, std::string text, llvm::StringRef other);

} // namespace mlir::moe::test

#endif // MOE_TEST_UNIT_FUZZ_MUTATOR_H
