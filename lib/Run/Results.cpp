//===- Results.cpp - Where the results of a run go --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Results.h"
#include "moe/Run/Arguments.h"
#include "moe/Support/OutputFile.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace mlir::moe;

static Expected<size_t> findResult(const EntrySignature &signature,
                                   StringRef flag, StringRef name) {
  for (auto [i, result] : enumerate(signature.results))
    if (result.name == name)
      return i;
  return createStringError(flag + " names " + quoteName(name) +
                           ", which is no result of @" + signature.name +
                           "; its results are " +
                           listNames(getNames(signature.results)));
}

Expected<SmallVector<size_t, 2>>
mlir::moe::findResults(const EntrySignature &signature, StringRef flag,
                       const NamedFile &file) {
  if (!file.name.empty()) {
    Expected<size_t> i = findResult(signature, flag, file.name);
    if (!i)
      return i.takeError();
    return SmallVector<size_t, 2>{*i};
  }
  size_t numResults = signature.results.size();
  if (numResults != 1 && (!file.isSafetensors() || !file.tensor.empty()))
    return createStringError(
        flag + "=" + file.file + " is one array, but @" + signature.name +
        " has " + Twine(numResults) + " results; write NAME=FILE with one of " +
        listNames(getNames(signature.results)) + ", or a .safetensors file");
  return to_vector<2>(seq<size_t>(0, numResults));
}

Expected<std::vector<OutputFilePlan>>
mlir::moe::planOutputs(const EntrySignature &signature,
                       ArrayRef<NamedFile> outputs) {
  std::vector<OutputFilePlan> plans;
  for (const NamedFile &output : outputs) {
    if (!output.tensor.empty())
      return createStringError("--output=" + output.file + ":" + output.tensor +
                               ": tensors are called as the results are "
                               "(moe.name); leave out the name after the ':'");
    Expected<SmallVector<size_t, 2>> results =
        findResults(signature, "--output", output);
    if (!results)
      return results.takeError();
    if (Error error = checkOutputPath("--output", output.file))
      return std::move(error);
    auto plan = find_if(plans, [&](const OutputFilePlan &plan) {
      return plan.file == output.file;
    });
    if (plan == plans.end())
      plan = plans.insert(plan, {output.file, {}});
    for (size_t i : *results) {
      bool isTaken = output.isSafetensors() ? is_contained(plan->results, i)
                                            : !plan->results.empty();
      if (isTaken)
        return createStringError("--output is given twice for " +
                                 quoteName(output.file) +
                                 "; name another file");
      plan->results.push_back(i);
    }
  }
  return plans;
}

Error mlir::moe::writeOutputs(const EntrySignature &signature,
                              ArrayRef<OutputFilePlan> plans,
                              ArrayRef<HostTensor> results) {
  for (const OutputFilePlan &plan : plans) {
    std::vector<TensorView> views;
    for (size_t i : plan.results)
      views.push_back(results[i].getView(signature.results[i].name));
    bool isSafetensors = NamedFile{"", plan.file, ""}.isSafetensors();
    if (Error error = isSafetensors ? writeSafetensors(plan.file, views)
                                    : writeNpy(plan.file, views.front()))
      return error;
  }
  return Error::success();
}
