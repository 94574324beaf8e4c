//===- Importer.cpp - Checkpoints to layers ---------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Importer.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Parser/Parser.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Import/Expression.h"
#include "moe/Support/Checkpoint.h"
#include "moe/Target/EntrySignature.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"

using namespace llvm;
using namespace mlir;
using namespace mlir::moe;

/// Several times the deepest model.
static constexpr int64_t kMaxLayers = 10'000;

void mlir::moe::registerImportDialects(DialectRegistry &registry) {
  registry.insert<MoEDialect, affine::AffineDialect, arith::ArithDialect,
                  func::FuncDialect, index::IndexDialect, linalg::LinalgDialect,
                  math::MathDialect, scf::SCFDialect, tensor::TensorDialect>();
}

std::string mlir::moe::describeModelTypes(const FamilyLibrary &library) {
  std::vector<std::string> types;
  for (const Family *family : library.getFamilies())
    for (const std::string &type : family->modelTypes)
      if (library.find(type) == family)
        types.push_back(type);
  llvm::sort(types);
  return join(types, ", ");
}

//===----------------------------------------------------------------------===//
// One layer
//===----------------------------------------------------------------------===//

/// Parses and verifies `text`, and reads what its entry function takes.
static Expected<EntrySignature> readSignature(StringRef text, StringRef name,
                                              MLIRContext &context) {
  SourceMgr sources;
  sources.AddNewSourceBuffer(MemoryBuffer::getMemBuffer(text, name), SMLoc());
  std::string messages;
  raw_string_ostream stream(messages);
  SourceMgrDiagnosticHandler handler(sources, &context, stream);
  OwningOpRef<ModuleOp> module =
      parseSourceFile<ModuleOp>(sources, ParserConfig(&context));
  if (!module)
    return createStringError("renders text that is not valid:\n" + messages);
  FailureOr<func::FuncOp> entry = findEntry(*module, "");
  if (failed(entry))
    return createStringError("renders no entry function:\n" + messages);
  FailureOr<EntrySignature> signature = readEntrySignature(*entry);
  if (failed(signature))
    return createStringError("renders a function that is no layer:\n" +
                             messages);
  return std::move(*signature);
}

namespace {
/// What one run of the importer holds.
class Importer {
public:
  Importer(StringRef folder, FamilyLibrary &library,
           const ImportOptions &options, MLIRContext &context)
      : library(library), options(options), context(context) {
    SmallString<128> path(folder);
    sys::path::append(path, "config.json");
    configPath = std::string(path);
  }

  Error readConfig();
  Error importLayers(Checkpoint &checkpoint);
  ImportedModel takeModel() { return std::move(model); }

private:
  Error findFamily(const json::Object &config);
  Error countLayers();
  Expected<bool> isMoELayer(int64_t layer) const;
  Expected<std::vector<int64_t>> listMoELayers() const;
  Expected<std::vector<int64_t>> selectLayers() const;
  Expected<std::string> importLayer(Checkpoint &checkpoint, int64_t layer);

  FamilyLibrary &library;
  const ImportOptions &options;
  MLIRContext &context;
  std::string configPath;
  Names fields;
  ImportedModel model;
};
} // namespace

Error Importer::findFamily(const json::Object &config) {
  std::optional<StringRef> type = config.getString("model_type");
  if (!type)
    return createFileError(configPath,
                           createStringError("has no string \"model_type\", "
                                             "which names the family"));
  model.modelType = type->str();
  model.family = library.find(*type);
  if (model.family)
    return Error::success();
  std::string known = describeModelTypes(library);
  return createFileError(
      configPath,
      createStringError("the model_type " + quoteName(*type) +
                        " is of no known family; known are: " +
                        (known.empty() ? "none" : known) +
                        ". To add one, write a family file and give it with "
                        "--family FILE: docs/Import.md shows how"));
}

Error Importer::countLayers() {
  const Family &family = *model.family;
  Expected<moe::Value> count = evaluateExpression(family.layerCount, fields);
  if (!count)
    return createFileError(family.path, count.takeError());
  const int64_t *number = count->getAs<int64_t>();
  if (!number || *number < 1 || *number > kMaxLayers)
    return createFileError(configPath,
                           createStringError("the number of layers, " +
                                             quoteName(family.layerCount) +
                                             ", is " + formatValue(*count) +
                                             ", but must be from 1 to " +
                                             Twine(kMaxLayers)));
  model.numLayers = *number;
  return Error::success();
}

Error Importer::readConfig() {
  Expected<json::Object> config = readJsonFile(configPath);
  if (!config)
    return config.takeError();
  if (Error error = findFamily(*config))
    return error;
  Expected<Names> values = readFields(*model.family, *config, configPath);
  if (!values)
    return values.takeError();
  fields = std::move(*values);
  fields.set("family", model.family->name);
  fields.set("model_type", model.modelType);
  return countLayers();
}

Expected<bool> Importer::isMoELayer(int64_t layer) const {
  Names names = fields;
  names.set("layer", layer);
  Expected<bool> isMoE = evaluateCondition(model.family->isMoELayer, names);
  if (!isMoE)
    return createFileError(model.family->path, isMoE.takeError());
  return isMoE;
}

Expected<std::vector<int64_t>> Importer::listMoELayers() const {
  std::vector<int64_t> layers;
  for (int64_t layer : seq(model.numLayers)) {
    Expected<bool> isMoE = isMoELayer(layer);
    if (!isMoE)
      return isMoE.takeError();
    if (*isMoE)
      layers.push_back(layer);
  }
  return layers;
}

Expected<std::vector<int64_t>> Importer::selectLayers() const {
  Expected<std::vector<int64_t>> layers = listMoELayers();
  if (!layers)
    return layers.takeError();
  if (layers->empty())
    return createFileError(
        configPath, createStringError("none of the " + Twine(model.numLayers) +
                                      " layers has experts: " +
                                      quoteName(model.family->isMoELayer) +
                                      " is false for all of them"));
  if (options.layers.empty())
    return layers;
  std::vector<int64_t> selected(options.layers.begin(), options.layers.end());
  llvm::sort(selected);
  selected.erase(llvm::unique(selected), selected.end());
  for (int64_t layer : selected) {
    if (layer >= model.numLayers || layer < 0)
      return createFileError(
          configPath,
          createStringError("the model has " + Twine(model.numLayers) +
                            " layers, numbered from 0; there is "
                            "no layer " +
                            Twine(layer)));
    if (!is_contained(*layers, layer))
      return createFileError(
          configPath,
          createStringError("layer " + Twine(layer) + " is dense: of the " +
                            Twine(model.numLayers) + " layers, " +
                            Twine(layers->size()) + " have experts, from " +
                            Twine(layers->front()) + " to " +
                            Twine(layers->back())));
  }
  return selected;
}

Expected<std::string> Importer::importLayer(Checkpoint &checkpoint,
                                            int64_t layer) {
  const Family &family = *model.family;
  Expected<Names> names = defineNames(family, fields, layer);
  if (!names)
    return names.takeError();
  names->set("routing", options.routing);
  Expected<std::string> text = library.render(family, *names);
  if (!text)
    return text.takeError();
  std::string fileName = ("layer_" + Twine(layer) + ".mlir").str();
  Expected<EntrySignature> signature = readSignature(*text, fileName, context);
  if (!signature)
    return createFileError(family.path, signature.takeError());
  for (const EntryTensor &argument : signature->arguments)
    if (!argument.param.empty())
      if (Error error = checkBinding(checkpoint, argument))
        return createStringError("layer " + Twine(layer) + ": " +
                                 toString(std::move(error)));
  return text;
}

Error Importer::importLayers(Checkpoint &checkpoint) {
  Expected<std::vector<int64_t>> layers = selectLayers();
  if (!layers)
    return layers.takeError();
  for (int64_t layer : *layers) {
    Expected<std::string> text = importLayer(checkpoint, layer);
    if (!text)
      return text.takeError();
    model.layers.push_back({layer, std::move(*text)});
  }
  return Error::success();
}

Expected<ImportedModel> mlir::moe::importModel(StringRef folder,
                                               FamilyLibrary &library,
                                               const ImportOptions &options,
                                               MLIRContext &context) {
  Importer importer(folder, library, options, context);
  if (Error error = importer.readConfig())
    return std::move(error);
  Expected<Checkpoint> checkpoint = Checkpoint::open(folder);
  if (!checkpoint)
    return checkpoint.takeError();
  if (Error error = importer.importLayers(*checkpoint))
    return std::move(error);
  return importer.takeModel();
}
