//===- RemarkFlags.cpp - The remark flags of mlir-opt -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Common/RemarkFlags.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Remark/RemarkStreamer.h"
#include "llvm/Support/Regex.h"

using namespace mlir;
using namespace mlir::moe;
namespace cl = llvm::cl;

RemarkFlags::RemarkFlags(cl::OptionCategory &category)
    : format("remark-format", cl::desc("Where remarks go:"),
             cl::init(Format::Print),
             cl::values(clEnumValN(Format::Print, "emitRemark",
                                   "to standard error, as diagnostics"),
                        clEnumValN(Format::YAML, "yaml", "to a YAML file"),
                        clEnumValN(Format::Bitstream, "bitstream",
                                   "to a bitstream file")),
             cl::cat(category)),
      policy("remark-policy", cl::desc("Which remarks to show:"),
             cl::init(Policy::All),
             cl::values(clEnumValN(Policy::All, "all", "all remarks"),
                        clEnumValN(Policy::Final, "final",
                                   "the last one of each place and kind")),
             cl::cat(category)),
      filterAll("remarks-filter", cl::value_desc("REGEX"), cl::cat(category),
                cl::desc("Show all remarks of matching categories")),
      filterPassed("remarks-filter-passed", cl::value_desc("REGEX"),
                   cl::cat(category), cl::desc("Show what was done")),
      filterMissed("remarks-filter-missed", cl::value_desc("REGEX"),
                   cl::cat(category), cl::desc("Show what was not done")),
      filterFailed("remarks-filter-failed", cl::value_desc("REGEX"),
                   cl::cat(category), cl::desc("Show what was tried in vain")),
      filterAnalysis("remarks-filter-analyse", cl::value_desc("REGEX"),
                     cl::cat(category), cl::desc("Show what was found out")),
      file("remarks-output-file", cl::value_desc("FILE"), cl::cat(category),
           cl::desc("File of --remark-format=yaml or bitstream (default: "
                    "mlir-remarks.yaml, mlir-remarks.bitstream)")) {}

static llvm::Error checkFilter(StringRef filter) {
  std::string problem;
  if (filter.empty() || llvm::Regex(filter).isValid(problem))
    return llvm::Error::success();
  return llvm::createStringError("the filter of remarks '" + filter +
                                 "' is no regular expression: " + problem);
}

static std::optional<std::string> getFilter(const std::string &filter) {
  if (filter.empty())
    return std::nullopt;
  return filter;
}

llvm::Error RemarkFlags::enable(MLIRContext &context) const {
  remark::RemarkCategories categories{
      getFilter(filterAll), getFilter(filterPassed), getFilter(filterMissed),
      getFilter(filterAnalysis), getFilter(filterFailed)};
  if (!categories.all && !categories.passed && !categories.missed &&
      !categories.analysis && !categories.failed)
    return llvm::Error::success();
  for (const Filter *filter : {&filterAll, &filterPassed, &filterMissed,
                               &filterAnalysis, &filterFailed})
    if (llvm::Error error = checkFilter(filter->getValue()))
      return error;
  std::unique_ptr<remark::detail::RemarkEmittingPolicyBase> emitting;
  if (policy == Policy::All)
    emitting = std::make_unique<remark::RemarkEmittingPolicyAll>();
  else
    emitting = std::make_unique<remark::RemarkEmittingPolicyFinal>();
  if (format == Format::Print) {
    // Fails only when there is a streamer.
    (void)remark::enableOptimizationRemarks(context, /*streamer=*/nullptr,
                                            std::move(emitting), categories,
                                            /*printAsEmitRemarks=*/true);
    return llvm::Error::success();
  }
  bool isYAML = format == Format::YAML;
  std::string path = file;
  if (path.empty())
    path = isYAML ? "mlir-remarks.yaml" : "mlir-remarks.bitstream";
  if (mlir::failed(remark::enableOptimizationRemarksWithLLVMStreamer(
          context, path,
          isYAML ? llvm::remarks::Format::YAML
                 : llvm::remarks::Format::Bitstream,
          std::move(emitting), categories)))
    return llvm::createStringError(
        "--remarks-output-file: cannot write remarks to '" + path +
        "'; the folder must exist and be writable");
  return llvm::Error::success();
}
