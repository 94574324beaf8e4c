//===- EntrySignature.h - What a layer's entry function takes ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The entry function of a layer as tools and C callers see it: names, element
/// types and shapes of its arguments and results.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_ENTRYSIGNATURE_H
#define MOE_TARGET_ENTRYSIGNATURE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "moe/Dialect/MoE/IR/EntryAttributes.h"
#include "moe/Runtime/moe.h"
#include "moe/Support/ElementType.h"
#include "moe/Target/SizeChecks.h"
#include <optional>
#include <string>
#include <vector>

namespace mlir::moe {

/// An argument or a result.
struct EntryTensor {
  /// `moe.name`; without it arg0, arg1, ... for arguments (parseLayerFile
  /// writes the names of the text into `moe.name`), y or y0, y1, ... for
  /// results.
  std::string name;
  /// `name` as a C identifier, unique among arguments and results.
  std::string cName;
  /// `moe.param`, or empty. "{expert}" in it stands for an expert's number.
  std::string param;
  ElementType elementType = ElementType::Opaque;
  /// ShapedType::kDynamic where the size is not known when it is compiled.
  llvm::SmallVector<int64_t, 4> shape;
  /// How the header calls each size: "2048", "T", "2 * T", or "?" for a size of
  /// a result that depends on the data. Written by lowerToLLVMDialect; empty
  /// before.
  llvm::SmallVector<std::string, 4> sizeNames;

  bool isStatic() const { return !ShapedType::isDynamicShape(shape); }
  /// The type as the IR prints it: "tensor<?x8xf32>".
  std::string getTypeText() const;
};

struct EntrySignature {
  /// The function's symbol.
  std::string name;
  /// The symbol as a C identifier: the artifact exports `cName`,
  /// `cName_packed`, `cName_workspace` and `cName_workspace_packed`.
  std::string cName;
  llvm::SmallVector<EntryTensor, 8> arguments;
  llvm::SmallVector<EntryTensor, 2> results;
  /// What a call checks of sizes, in the order of the checks. Written by
  /// lowerToLLVMDialect; empty before.
  std::vector<SizeCheck> sizeChecks;
  /// Bytes of workspace that a call needs. Written by lowerToLLVMDialect;
  /// without text before.
  SizeFormula workspace;
  /// Whether a call may allocate memory besides. Written by lowerToLLVMDialect.
  bool allocates = false;

  size_t getNumTensors() const { return arguments.size() + results.size(); }
  /// In the order of the C interface: arguments, then results.
  const EntryTensor &getTensor(size_t i) const {
    return i < arguments.size() ? arguments[i] : results[i - arguments.size()];
  }
  EntryTensor &getTensor(size_t i) {
    return i < arguments.size() ? arguments[i] : results[i - arguments.size()];
  }
};

/// The moe_type of an element type; none for those that compiled functions do
/// not take: 8-bit floats, and integers with a sign (the IR's have none).
std::optional<moe_type> getCType(ElementType type);

/// The element type of an MLIR type, none if there is no such.
std::optional<ElementType> getElementType(Type type);

/// `text` as a C and C++ identifier: other characters become '_', a leading
/// digit gets a '_' before it, a keyword one after it.
std::string mangleForC(llvm::StringRef text);

/// The function to compile: the one named `name` or, when `name` is empty, the
/// only public func.func with a body among the symbols of `symbolTable`, apart
/// from those that pack the weights of others (`moe.pack`). Emits an error that
/// lists the candidates when there is none, or more than one.
FailureOr<func::FuncOp> findEntry(Operation *symbolTable, llvm::StringRef name);

/// Reads the signature of `entry`. Emits an error for an argument or result
/// that is not a ranked tensor of a supported element type, and for a name that
/// two of them have.
FailureOr<EntrySignature> readEntrySignature(func::FuncOp entry);

/// Fills the `sizeNames` of `signature` from the function @NAME.shapes that
/// moe-prepare-entry made for it.
void nameSizes(func::FuncOp shapes, EntrySignature &signature);

/// A status of the C interface as an error that names the tensor and, given
/// the `tensors` of the call and the size of its workspace, both numbers;
/// success for MOE_OK.
llvm::Error statusToError(int32_t status, const EntrySignature &signature,
                          llvm::ArrayRef<const moe_tensor *> tensors = {},
                          std::optional<size_t> workspaceBytes = std::nullopt);

} // namespace mlir::moe

#endif // MOE_TARGET_ENTRYSIGNATURE_H
