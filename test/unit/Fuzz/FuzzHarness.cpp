//===- FuzzHarness.cpp - Rounds of random tests -----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FuzzHarness.h"

#include "Common/Registration.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/Parser/Parser.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/PrettyStackTrace.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"
#include <csignal>
#include <cstdlib>
#include <unistd.h>

using namespace mlir;
using namespace mlir::moe::test;
using llvm::errs;

/// A round that takes longer than this hangs; the slowest take a second.
static constexpr unsigned kSecondsPerRound = 60;

static std::string roundInput;

void mlir::moe::test::setRoundInput(std::string input) {
  roundInput = std::move(input);
}

static uint64_t getNumber(const char *variable, uint64_t otherwise) {
  const char *text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// The command to repeat one round.
static std::string repeatCommand(uint64_t roundSeed) {
  const testing::TestInfo *info =
      testing::UnitTest::GetInstance()->current_test_info();
  return "MOE_TEST_SEED=" + std::to_string(roundSeed) +
         " MOE_TEST_ITERATIONS=1 MoEFuzzTests --gtest_filter=" +
         info->test_suite_name() + "." + info->name();
}

namespace {
/// Prints the round when the process crashes.
struct RoundStackEntry : llvm::PrettyStackTraceEntry {
  explicit RoundStackEntry(uint64_t roundSeed) : roundSeed(roundSeed) {}
  void print(llvm::raw_ostream &os) const override {
    os << "to repeat: " << repeatCommand(roundSeed) << "\ninput:\n";
    os.write_escaped(roundInput, /*UseHexEscapes=*/true) << "\n";
  }
  uint64_t roundSeed;
};
} // namespace

static void installSignalHandlers() {
  llvm::EnablePrettyStackTrace();
  llvm::sys::PrintStackTraceOnErrorSignal("MoEFuzzTests");
  // A hang ends as a crash, which prints the round.
  std::signal(SIGALRM, [](int) { std::abort(); });
}

void mlir::moe::test::runRounds(int rounds,
                                llvm::function_ref<void(Random &)> round) {
  static bool installed = (installSignalHandlers(), true);
  (void)installed;
  uint64_t seed = getNumber("MOE_TEST_SEED", 20261122);
  uint64_t count = getNumber("MOE_TEST_ITERATIONS", rounds);
  llvm::outs() << "MOE_TEST_SEED=" << seed << " MOE_TEST_ITERATIONS=" << count
               << "\n";
  llvm::outs().flush();
  for (uint64_t i = 0; i < count; ++i) {
    RoundStackEntry entry(seed + i);
    roundInput.clear();
    Random random(seed + i);
    alarm(kSecondsPerRound);
    round(random);
    alarm(0);
    if (testing::Test::HasFailure()) {
      errs() << "to repeat: " << repeatCommand(seed + i) << "\ninput:\n"
             << roundInput << "\n";
      return;
    }
  }
}

static DialectRegistry &getRegistry() {
  static DialectRegistry registry = [] {
    DialectRegistry all;
    moe::registerToolDialects(all);
    return all;
  }();
  return registry;
}

std::unique_ptr<MLIRContext> mlir::moe::test::createContext() {
  auto context = std::make_unique<MLIRContext>(
      getRegistry(), MLIRContext::Threading::DISABLED);
  // Else moe.name and moe.param would go unchecked where no moe op is read.
  context->loadDialect<MoEDialect>();
  return context;
}

ErrorCollector::ErrorCollector(MLIRContext *context)
    : handler(context, [this](Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
          errors.push_back(diagnostic.str());
        return success();
      }) {}

std::string ErrorCollector::getText() const {
  return llvm::join(errors, "\n").substr(0, 4000);
}

LogicalResult
mlir::moe::test::runPasses(ModuleOp module,
                           llvm::function_ref<void(OpPassManager &)> build) {
  PassManager pm(module->getName());
  build(pm);
  return pm.run(module);
}

std::string mlir::moe::test::print(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream os(text);
  module.print(os);
  return text;
}

std::string mlir::moe::test::writeBytecode(ModuleOp module) {
  std::string bytes;
  llvm::raw_string_ostream os(bytes);
  if (failed(writeBytecodeToFile(module, os)))
    return {};
  return bytes;
}

OwningOpRef<ModuleOp> mlir::moe::test::parse(llvm::StringRef bytes,
                                             MLIRContext *context) {
  ParserConfig config(context, /*verifyAfterParse=*/false);
  return parseSourceString<ModuleOp>(bytes, config);
}
