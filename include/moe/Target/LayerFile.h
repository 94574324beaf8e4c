//===- LayerFile.h - Reads a layer from a file ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_LAYERFILE_H
#define MOE_TARGET_LAYERFILE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/SourceMgr.h"

namespace mlir::moe {

/// Opens `path` ("-": standard input) into `sourceMgr`, which is empty; parses
/// and verifies it as a module, text or bytecode; and gives each argument of a
/// public function that has no `moe.name` the name that it has in the text
/// (%tokens becomes "tokens"; %0 and bytecode leave it without). Null after an
/// error, which goes to the diagnostics of `context`; so register a
/// SourceMgrDiagnosticHandler on `sourceMgr` first.
OwningOpRef<ModuleOp> parseLayerFile(llvm::StringRef path,
                                     llvm::SourceMgr &sourceMgr,
                                     MLIRContext *context);

} // namespace mlir::moe

#endif // MOE_TARGET_LAYERFILE_H
