//===- moe-import.cpp - A checkpoint in, its MoE layers out -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Common/Version.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/MLIRContext.h"
#include "moe/Import/Importer.h"
#include "moe/Support/OutputFile.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/WithColor.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace mlir::moe;

static constexpr StringLiteral kOverview =
    R"(Writes the MoE layers of a checkpoint as MLIR

DIR is the folder of a Hugging Face checkpoint: config.json and either
model.safetensors or its shards with their index. Each MoE layer becomes one
file OUT/layer_<n>.mlir with a function @layer, whose weights are bound to the
checkpoint's tensors by name: moe-run and moe-compile take it from there. Only
the headers of the tensor files are read.

A family file says how a kind of model computes a layer. --list-families shows
those that come with moe-import; docs/Import.md shows how to write one.

  moe-import OLMoE-1B-7B-0924 -o layers
  moe-import OLMoE-1B-7B-0924 --layer 3 -o -
  moe-import my-model --family my-model.family -o layers
)";

//===----------------------------------------------------------------------===//
// Options
//===----------------------------------------------------------------------===//

namespace {
struct Options {
  cl::OptionCategory category{"moe-import options"};
  cl::opt<std::string> folder{cl::Positional, cl::value_desc("DIR"),
                              cl::desc("DIR"), cl::cat(category)};
  cl::opt<std::string> output{
      "o", cl::value_desc("OUT"),
      cl::desc("Folder for the files, made if need be; '-' is standard output"),
      cl::cat(category)};
  cl::list<int64_t> layers{
      "layer", cl::value_desc("N"), cl::CommaSeparated,
      cl::desc("Only layer N, from 0; may be given several times"),
      cl::cat(category)};
  cl::list<std::string> familyFiles{
      "family", cl::value_desc("FILE"),
      cl::desc("A family file; it comes before the installed ones"),
      cl::cat(category)};
  cl::list<std::string> familyFolders{
      "families", cl::value_desc("DIR"),
      cl::desc("A folder of *.family files, before the installed ones"),
      cl::cat(category)};
  cl::opt<bool> routing{
      "routing",
      cl::desc("The function also gives the ids of each token's experts"),
      cl::cat(category)};
  cl::opt<bool> listFamilies{"list-families",
                             cl::desc("List the families that are known"),
                             cl::cat(category)};
  cl::opt<bool> dryRun{"dry-run", cl::desc("Check everything, write nothing"),
                       cl::cat(category)};
};
} // namespace

//===----------------------------------------------------------------------===//
// Families
//===----------------------------------------------------------------------===//

/// The families that come with this program: beside its bin folder, in the
/// build tree as in the installed one.
static std::string findInstalledFamilies(const char *argv0) {
  // The address of any function of this program will do.
  std::string program = sys::fs::getMainExecutable(
      argv0, reinterpret_cast<void *>(&findInstalledFamilies));
  SmallString<128> folder = sys::path::parent_path(program);
  sys::path::append(folder, MOE_FAMILIES_FROM_BIN);
  sys::path::remove_dots(folder, /*remove_dot_dot=*/true);
  return std::string(folder);
}

static Error loadFamilies(FamilyLibrary &library, const Options &options,
                          const char *argv0) {
  for (const std::string &file : options.familyFiles)
    if (Error error = library.addFile(file))
      return error;
  for (const std::string &folder : options.familyFolders)
    if (Error error = library.addFolder(folder))
      return error;
  return library.addFolder(findInstalledFamilies(argv0));
}

static void printFamilies(const FamilyLibrary &library) {
  for (const Family *family : library.getFamilies())
    outs() << left_justify(family->name, 14) << " model_type "
           << left_justify(join(family->modelTypes, ", "), 14) << " "
           << family->path << '\n';
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

static void printSummary(const ImportedModel &model, StringRef verb) {
  outs() << model.family->name << ", " << model.numLayers << " layers: " << verb
         << " MoE layer" << (model.layers.size() > 1 ? "s " : " ")
         << model.layers.front().layer;
  if (model.layers.size() > 1)
    outs() << " to " << model.layers.back().layer << " (" << model.layers.size()
           << ")";
}

static Error write(const ImportedModel &model, const Options &options) {
  if (options.dryRun) {
    printSummary(model, "could import");
    outs() << '\n';
    return Error::success();
  }
  if (options.output == "-")
    return writeFileAtomically("-", [&](raw_ostream &os) {
      ListSeparator separator("\n// -----\n\n");
      for (const ImportedLayer &layer : model.layers)
        os << separator << layer.text;
      return Error::success();
    });
  Expected<std::vector<std::string>> paths =
      writeLayers(model.layers, options.output);
  if (!paths)
    return paths.takeError();
  printSummary(model, "wrote");
  outs() << " as " << paths->front()
         << (paths->size() > 1 ? " ... " + paths->back() : "") << '\n';
  return Error::success();
}

static Error run(const Options &options, const char *argv0) {
  FamilyLibrary library;
  if (Error error = loadFamilies(library, options, argv0))
    return error;
  if (options.listFamilies) {
    printFamilies(library);
    return Error::success();
  }
  if (options.folder.empty())
    return createStringError("there is no DIR, the folder of a checkpoint; "
                             "moe-import --help shows the usage");
  if (options.output.empty() && !options.dryRun)
    return createStringError("there is no -o OUT, the folder to write to ('-' "
                             "for standard output)");
  mlir::DialectRegistry registry;
  registerImportDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  ImportOptions importOptions;
  importOptions.layers.assign(options.layers.begin(), options.layers.end());
  importOptions.routing = options.routing;
  Expected<ImportedModel> model =
      importModel(options.folder, library, importOptions, context);
  if (!model)
    return model.takeError();
  return write(*model, options);
}

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  addVersionPrinter();
  Options options;
  cl::HideUnrelatedOptions(options.category);
  cl::ParseCommandLineOptions(argc, argv, kOverview);
  if (Error error = run(options, argv[0])) {
    WithColor::error(errs(), "moe-import")
        << toString(std::move(error)) << '\n';
    return 1;
  }
  return 0;
}
