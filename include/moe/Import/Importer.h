//===- Importer.h - Checkpoints to layers -----------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IMPORT_IMPORTER_H
#define MOE_IMPORT_IMPORTER_H

#include "mlir/IR/MLIRContext.h"
#include "moe/Import/FamilyLibrary.h"
#include "llvm/ADT/ArrayRef.h"

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace mlir::moe {

class Checkpoint;
struct EntryTensor;

/// One MoE layer of a model as MLIR text.
struct ImportedLayer {
  int64_t layer;
  std::string text;
};

struct ImportedModel {
  std::string modelType;
  /// Of the library that it was imported with.
  const Family *family = nullptr;
  /// All layers of the model, with and without experts.
  int64_t numLayers = 0;
  /// Ascending.
  std::vector<ImportedLayer> layers;
};

struct ImportOptions {
  /// The layers to import; all that have experts if empty.
  llvm::SmallVector<int64_t> layers;
  /// The function gives the ids of the experts (T×k, i32) as a second result.
  bool routing = false;
};

/// The dialects that a layer may be written in.
void registerImportDialects(DialectRegistry &registry);

/// Renders the MoE layers of the checkpoint in `folder` (config.json and
/// safetensors) that `options` ask for. Each text was parsed and verified, and
/// each tensor that it binds is in the checkpoint with the shape and type of
/// its argument. Reads no data of a tensor. `context` has the dialects of
/// `registerImportDialects`.
llvm::Expected<ImportedModel> importModel(llvm::StringRef folder,
                                          FamilyLibrary &library,
                                          const ImportOptions &options,
                                          MLIRContext &context);

/// Checks that `checkpoint` has the tensors that `argument` is bound to, and
/// that they have its shape and a type that it takes without rounding. The
/// error for one that is quantized says what to do.
llvm::Error checkBinding(Checkpoint &checkpoint, const EntryTensor &argument);

/// The model types that `library` knows, for a message: "mixtral, olmoe".
std::string describeModelTypes(const FamilyLibrary &library);

/// Writes each layer to `<folder>/layer_<n>.mlir`, making the folder if need
/// be: all of the files, or on an error none. Returns their paths.
llvm::Expected<std::vector<std::string>>
writeLayers(llvm::ArrayRef<ImportedLayer> layers, llvm::StringRef folder);

} // namespace mlir::moe

#endif // MOE_IMPORT_IMPORTER_H
