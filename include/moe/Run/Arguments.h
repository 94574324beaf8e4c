//===- Arguments.h - Where a run takes its arguments from -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Every argument of an entry function gets its values from the first of
///
///   1. a file named for it (--input),
///   2. a fill named for it (--fill),
///   3. the checkpoint, when it has a `moe.param` (--weights),
///   4. random values: normal ones where a shape is asked for (--shape) and for
///      the first argument without `moe.param`, weights elsewhere
///      (--random-weights).
///
/// Binding looks at names, types and shapes, and reads no values; loading does.
/// So whatever can be said against the arguments is said before anything is
/// compiled or copied.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_ARGUMENTS_H
#define MOE_RUN_ARGUMENTS_H

#include "moe/Run/NamedValues.h"
#include "moe/Target/EntrySignature.h"

namespace mlir::moe {

/// The flags of a run that are about arguments.
struct ArgumentSources {
  std::vector<NamedFile> inputs;
  std::vector<NamedShape> shapes;
  std::vector<NamedFill> fills;
  /// A checkpoint (see Checkpoint::open), or a folder of .npy files; or empty.
  std::string weights;
  bool randomWeights = false;
  uint64_t seed = 0;
};

/// An argument whose shape is known and whose values are not read yet.
class BoundArgument {
public:
  BoundArgument(const EntryTensor &argument, BoundTensor file,
                std::string source)
      : argument(&argument), shape(file.getShape()), file(std::move(file)),
        source(std::move(source)) {}
  BoundArgument(const EntryTensor &argument, llvm::ArrayRef<int64_t> shape,
                const FillRule &rule)
      : argument(&argument), shape(shape), rule(rule), source(rule.describe()) {
  }

  const EntryTensor &getArgument() const { return *argument; }
  llvm::ArrayRef<int64_t> getShape() const { return shape; }
  /// "model.safetensors", "x.npy", "random normal".
  llvm::StringRef getSource() const { return source; }
  /// How the values of a file are converted; empty when they are not.
  llvm::StringRef getNote() const { return file ? file->getNote() : ""; }

  /// The memory that loading it takes, besides the file.
  uint64_t getCopiedBytes() const;

  /// Reads or makes the values; once only.
  llvm::Expected<HostTensor> load(uint64_t seed);

private:
  const EntryTensor *argument;
  llvm::SmallVector<int64_t, 4> shape;
  std::optional<BoundTensor> file;
  FillRule rule;
  std::string source;
};

/// Binds all arguments of `signature`, which must outlive the result. Errors
/// name the argument, what was found, and what to do.
llvm::Expected<std::vector<BoundArgument>>
bindArguments(const EntrySignature &signature, const ArgumentSources &sources);

/// The names of the arguments, or of the results, of `signature`.
std::vector<std::string> getNames(llvm::ArrayRef<EntryTensor> tensors);

} // namespace mlir::moe

#endif // MOE_RUN_ARGUMENTS_H
