//===- MoEBytecode.h - Bytecode of the moe dialect -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_IR_MOEBYTECODE_H
#define MOE_LIB_DIALECT_MOE_IR_MOEBYTECODE_H

namespace mlir::moe {
class MoEDialect;

/// Registers how attributes and the dialect's version are written to bytecode.
void addBytecodeInterface(MoEDialect *dialect);
} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_IR_MOEBYTECODE_H
