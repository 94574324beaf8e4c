//===- InitAll.h - Registration of everything the project has -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_INITALL_H
#define MOE_INITALL_H

namespace mlir {
class DialectRegistry;

namespace moe {

/// The moe dialect and the upstream dialects that layers are written in and that
/// their lowerings produce.
void registerAllDialects(DialectRegistry &registry);

/// External models: decomposition, bufferization, runtime verification, and what
/// the lowerings ask of those upstream dialects. Without them the dialect
/// parses, prints and verifies, but does not lower.
void registerAllExtensions(DialectRegistry &registry);

/// All passes and pipelines, under their command line names. The only function
/// here with a global effect; call it once a process.
void registerAllPasses();

} // namespace moe
} // namespace mlir

#endif // MOE_INITALL_H
