//===- MutatedIRTest.cpp - Damaged IR through everything --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Whatever comes in: no crash, no hang, and an error for whatever fails. What
// is valid stays valid: it canonicalizes, survives printing and decomposes.
//
//===----------------------------------------------------------------------===//

#include "FuzzHarness.h"
#include "Mutator.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Interfaces/ShapedOpInterfaces.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::test;

namespace {
/// How far the inputs of a test came.
struct Progress {
  int total = 0, parsed = 0, valid = 0, lowered = 0;

  ~Progress() {
    llvm::outs() << total << " inputs: " << parsed << " parsed, " << valid
                 << " valid, " << lowered << " lowered to LLVM\n";
    llvm::outs().flush();
  }
};
} // namespace

/// Expects that a failing step has said why.
static bool check(bool succeeded, const ErrorCollector &errors,
                  StringRef step) {
  if (!succeeded) {
    EXPECT_GT(errors.getCount(), 0u)
        << step.str() << " failed without an error";
  }
  return succeeded;
}

/// Inputs that crash upstream, as narrowly as they can be told apart.
static bool crashesUpstream(StringRef input) {
  // Parser::parseDenseArrayAttr asks index for its width.
  if (llvm::Regex("array<[ \n]*index").match(input))
    return true;
  // linalg.reduce and its kin set the attribute before they look whether its
  // list of i64 could be parsed.
  llvm::Regex isList("^[ \n]*=[ \n]*\\[([ \n]*-?[0-9]{1,18}[ \n]*,)*"
                     "[ \n]*(-?[0-9]{1,18})?[ \n]*\\]");
  for (StringRef word : {"dimensions", "permutation"})
    for (StringRef rest = input.split(word).second; !rest.empty();
         rest = rest.split(word).second)
      if (!isList.match(rest))
        return true;
  return false;
}

/// The same for the general lowering: the analysis of slices in the elimination
/// of empty tensors asks for a dimension that a dim op outside of all
/// dimensions names.
static bool crashesUpstreamBufferization(ModuleOp module) {
  WalkResult result = module.walk([](ShapedDimOpInterface op) {
    auto shape = dyn_cast<ShapedType>(op.getShapedValue().getType());
    std::optional<int64_t> dim = getConstantIntValue(op.getDimension());
    return shape && shape.hasRank() && dim &&
                   (*dim < 0 || *dim >= shape.getRank())
               ? WalkResult::interrupt()
               : WalkResult::advance();
  });
  return result.wasInterrupted();
}

/// Prints and parses again: the same text comes out.
static void checkRoundTrip(ModuleOp module, const ErrorCollector &errors) {
  std::string text = print(module);
  OwningOpRef<ModuleOp> again = parse(text, module.getContext());
  ASSERT_TRUE(again) << errors.getText() << "\nprinted:\n" << text;
  ASSERT_TRUE(succeeded(verify(*again))) << errors.getText();
  EXPECT_EQ(print(*again), text);
}

/// Sizes that casts hid, and that disagree, come to light as casts are folded
/// into their users; nothing else may make valid IR invalid.
static bool canonicalize(ModuleOp module, const ErrorCollector &errors) {
  bool hidesSizes = StringRef(print(module)).contains("tensor.cast");
  bool succeeds = succeeded(runPasses(module, [](OpPassManager &pm) {
    pm.addPass(createCanonicalizerPass());
  }));
  if (!hidesSizes) {
    EXPECT_TRUE(succeeds) << errors.getText();
  }
  return check(succeeds, errors, "canonicalization");
}

static void runValid(Random &random, ModuleOp module,
                     const ErrorCollector &errors, Progress &progress) {
  ASSERT_NO_FATAL_FAILURE(checkRoundTrip(module, errors));
  OwningOpRef<ModuleOp> decomposed = module.clone();
  EXPECT_TRUE(succeeded(runPasses(*decomposed, [](OpPassManager &pm) {
    pm.addPass(createMoEDecompose());
  }))) << errors.getText();
  if (!canonicalize(module, errors))
    return;
  ASSERT_NO_FATAL_FAILURE(checkRoundTrip(module, errors));
  if (crashesUpstreamBufferization(module))
    return;
  bool lowered = succeeded(runPasses(
      module, [](OpPassManager &pm) { buildGeneralLoweringPipeline(pm); }));
  check(lowered, errors, "moe-general-lowering");
  progress.lowered += lowered;
}

static void runInput(Random &random, std::string input, MLIRContext *context,
                     Progress &progress) {
  if (crashesUpstream(input))
    return;
  setRoundInput(input);
  ErrorCollector errors(context);
  ++progress.total;
  OwningOpRef<ModuleOp> module = parse(input, context);
  if (!check(bool(module), errors, "parsing"))
    return;
  ++progress.parsed;
  if (!check(succeeded(verify(*module)), errors, "verification"))
    return;
  ++progress.valid;
  runValid(random, *module, errors, progress);
}

TEST(MutatedIRTest, Text) {
  Progress progress;
  runRounds(3000, [&](Random &random) {
    std::unique_ptr<MLIRContext> context = createContext();
    std::string text = random.choose(getTextCorpus());
    const std::string &other = random.choose(getTextCorpus());
    bool byBytes = random.oneIn(10);
    runInput(random,
             byBytes ? mutateBytes(random, text, other)
                     : mutateText(random, text, other),
             context.get(), progress);
  });
}

/// The files of test/Bytecode, and the text corpus as far as it is valid.
static std::vector<std::string> makeBytecodeCorpus() {
  std::vector<std::string> corpus = getBytecodeCorpus();
  std::unique_ptr<MLIRContext> context = createContext();
  ErrorCollector errors(context.get());
  for (const std::string &text : getTextCorpus()) {
    OwningOpRef<ModuleOp> module = parse(text, context.get());
    if (module && succeeded(verify(*module)))
      corpus.push_back(writeBytecode(*module));
  }
  return corpus;
}

TEST(MutatedIRTest, Bytecode) {
  Progress progress;
  std::vector<std::string> corpus = makeBytecodeCorpus();
  ASSERT_GT(corpus.size(), 20u);
  runRounds(1000, [&](Random &random) {
    std::unique_ptr<MLIRContext> context = createContext();
    runInput(random, mutateBytecode(random, random.choose(corpus)),
             context.get(), progress);
  });
}

TEST(MutatedIRTest, RandomBytes) {
  Progress progress;
  runRounds(1000, [&](Random &random) {
    std::unique_ptr<MLIRContext> context = createContext();
    std::string bytes(random.pick(300), '\0');
    for (char &byte : bytes)
      byte = static_cast<char>(random.pick(256));
    if (random.oneIn(2)) // The magic number of bytecode, and a version.
      bytes = std::string("ML\xefR") + char(random.pick(8)) + bytes;
    runInput(random, bytes, context.get(), progress);
  });
}
