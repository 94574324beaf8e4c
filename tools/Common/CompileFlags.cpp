//===- CompileFlags.cpp - The flags of tools that compile a layer -*- C++
//-*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Common/CompileFlags.h"

using namespace mlir::moe;
namespace cl = llvm::cl;

CompileFlags::CompileFlags(cl::OptionCategory &category)
    : entry("entry", cl::value_desc("NAME"), cl::cat(category),
            cl::desc("Function to compile (default: the only public one)")),
      cpu("target-cpu", cl::value_desc("CPU"), cl::cat(category),
          cl::desc("cpu to compile for: an LLVM name such as x86-64-v3, or "
                   "native, this machine's (default; generic for another "
                   "target triple)")),
      lowering(
          "lowering", cl::cat(category), cl::init(LoweringKind::CPU),
          cl::desc("How tensors become code:"),
          cl::values(
              clEnumValN(LoweringKind::General, "general",
                         "simple loops, the reference"),
              clEnumValN(LoweringKind::CPU, "cpu",
                         "fused, with vector code and threads (default)"))),
      optLevel("O", cl::Prefix, cl::init(3), cl::value_desc("0-3"),
               cl::cat(category), cl::desc("Optimization level (default: 3)")),
      dumpStages("dump-stages", cl::value_desc("FOLDER"), cl::cat(category),
                 cl::desc("Write the IR after each stage to numbered files in "
                          "FOLDER")),
      remarks(category) {}

void mlir::moe::removeForeignOption(llvm::StringRef name) {
  if (cl::Option *option = cl::getRegisteredOptions().lookup(name))
    option->removeArgument();
}

llvm::Error CompileFlags::check() const {
  if (optLevel > 3)
    return llvm::createStringError("-O goes from 0 to 3");
  return llvm::Error::success();
}
