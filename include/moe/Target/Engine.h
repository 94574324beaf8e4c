//===- Engine.h - Compiles a layer in memory --------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The JIT of moe-run:
///
///   auto module = parseLayerFile(path, sourceMgr, context);
///   EntryOptions entry;
///   entry.exportShapes = true;
///   auto signature = lowerToLLVMDialect(*module, entry, stages);
///   auto engine = Engine::create(*module, *signature, CodeGenOptions());
///   (*engine)->inferResultShapes(arguments, shapes);   // allocate results
///   auto workspace =
///       Workspace::allocate((*engine)->getWorkspaceBytes(arguments));
///   (*engine)->call(tensors, *workspace);              // arguments, results
///
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_ENGINE_H
#define MOE_TARGET_ENGINE_H

#include "moe/Target/CodeGen.h"
#include "moe/Target/EntrySignature.h"
#include <memory>

namespace llvm::orc {
class LLJIT;
} // namespace llvm::orc

namespace mlir::moe {

class StageDumper;

/// Memory for calls, aligned to 64 bytes. One call at a time may use it.
class Workspace {
public:
  /// None of it is touched yet. An error if there is not so much memory.
  static llvm::Expected<Workspace> allocate(size_t numBytes);

  void *getData() const { return data.get(); }
  size_t getNumBytes() const { return data.get_deleter().numBytes; }

private:
  struct Free {
    size_t numBytes;
    void operator()(void *memory) const;
  };
  explicit Workspace(std::unique_ptr<void, Free> data)
      : data(std::move(data)) {}

  std::unique_ptr<void, Free> data;
};

/// A layer as machine code in this process.
class Engine {
public:
  /// NAME_packed of moe.h.
  using PackedFunction = int32_t (*)(const moe_tensor *const *tensors,
                                     void *workspace, size_t workspaceBytes);

  /// Compiles a module that lowerToLLVMDialect lowered with `exportShapes`.
  /// With `stages`, LLVM IR and assembly are dumped as well.
  static llvm::Expected<std::unique_ptr<Engine>>
  create(ModuleOp module, const EntrySignature &signature,
         const CodeGenOptions &options, StageDumper *stages = nullptr);
  ~Engine();

  const EntrySignature &getSignature() const { return signature; }
  /// Seconds that LLVM took: translation, optimization, code generation, link.
  double getCompileSeconds() const { return compileSeconds; }

  /// Checks `arguments` as a call does and gives the shape of each result; a
  /// size that depends on the data is ShapedType::kDynamic. The data of the
  /// arguments is not read.
  llvm::Error inferResultShapes(
      llvm::ArrayRef<const moe_tensor *> arguments,
      llvm::SmallVectorImpl<llvm::SmallVector<int64_t>> &shapes) const;

  /// Bytes of workspace that a call on these arguments needs; 0 if it would
  /// refuse them.
  size_t getWorkspaceBytes(llvm::ArrayRef<const moe_tensor *> tensors) const;

  /// Calls the layer on arguments and results; the status, as an error. Safe
  /// from several threads at once, each with its workspace.
  llvm::Error call(llvm::ArrayRef<const moe_tensor *> tensors,
                   const Workspace &workspace) const;
  /// The same with a workspace for this call.
  llvm::Error call(llvm::ArrayRef<const moe_tensor *> tensors) const;

  /// The same for a layer that was compiled for a GPU: data and workspace are
  /// the device's, and the call is put into `stream`, a CUstream.
  llvm::Error callOnDevice(llvm::ArrayRef<const moe_tensor *> tensors,
                           void *workspace, size_t workspaceBytes,
                           void *stream) const;

  /// For a caller that times the bare function.
  PackedFunction getFunction() const { return packed; }

private:
  /// NAME_shapes of EntryOptions::exportShapes.
  using ShapesFunction = int32_t (*)(const moe_tensor *const *arguments,
                                     int64_t *sizes);

  /// NAME_workspace_packed.
  using WorkspaceFunction = size_t (*)(const moe_tensor *const *tensors);

  Engine(const EntrySignature &signature);

  EntrySignature signature;
  std::unique_ptr<llvm::orc::LLJIT> jit;
  PackedFunction packed = nullptr;
  ShapesFunction shapes = nullptr;
  WorkspaceFunction workspace = nullptr;
  double compileSeconds = 0;
};

} // namespace mlir::moe

#endif // MOE_TARGET_ENGINE_H
