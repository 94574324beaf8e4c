//===- Registration.h - Dialects and passes of the tools -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_COMMON_REGISTRATION_H
#define MOE_TOOLS_COMMON_REGISTRATION_H

namespace mlir {
class DialectRegistry;

namespace moe {

/// All dialects and extensions, upstream's and ours, and the translations to
/// LLVM IR that code generation needs.
void registerToolDialects(DialectRegistry &registry);

/// All passes and pipelines, upstream's and ours; once a process.
void registerToolPasses();

} // namespace moe
} // namespace mlir

#endif // MOE_TOOLS_COMMON_REGISTRATION_H
