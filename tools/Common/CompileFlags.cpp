//===- CompileFlags.cpp - The flags of tools that compile a layer -*- C++
//-*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Common/CompileFlags.h"
#include "moe/Target/ISA.h"

using namespace mlir::moe;
namespace cl = llvm::cl;

CompileFlags::CompileFlags(cl::OptionCategory &category)
    : entry("entry", cl::value_desc("NAME"), cl::cat(category),
            cl::desc("Function to compile (default: the only public one)")),
      cpu("target-cpu", cl::value_desc("CPU"), cl::cat(category),
          cl::desc("The only cpu to compile for: an LLVM name such as "
                   "x86-64-v3, or native, this machine's")),
      isa("isa", cl::value_desc("NAME,..."), cl::cat(category),
          cl::desc("Instruction sets to compile for, of which a call takes the "
                   "best that the machine has: generic, avx2, avx512, "
                   "avx512bf16, amx-bf16")),
      lowering(
          "lowering", cl::cat(category), cl::init(LoweringKind::CPU),
          cl::desc("How tensors become code:"),
          cl::values(
              clEnumValN(LoweringKind::General, "general",
                         "simple loops, the reference"),
              clEnumValN(LoweringKind::CPU, "cpu",
                         "fused, with vector code and threads (default)"))),
      relaxedRounding(
          "relaxed-rounding", cl::cat(category),
          cl::desc("Round bf16 and f16 where a matmul stores rows, not after "
                   "each operation as frameworks do: faster, other bits")),
      packWeights(
          "pack-weights", cl::cat(category),
          cl::desc("Let the layer read packed weights, which it is faster on, "
                   "and make the function that packs them")),
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
  if (relaxedRounding && lowering != LoweringKind::CPU)
    return llvm::createStringError(
        "--relaxed-rounding is for --lowering=cpu; the general lowering is the "
        "reference and rounds after each operation");
  if (isa.getNumOccurrences() == 0)
    return llvm::Error::success();
  if (!cpu.empty())
    return llvm::createStringError(
        "--isa and --target-cpu exclude each other: the one chooses when the "
        "layer is called, the other when it is compiled");
  if (lowering != LoweringKind::CPU)
    return llvm::createStringError("--isa is for --lowering=cpu");
  auto parsed = parseISAs(isa);
  if (!parsed)
    return llvm::createStringError("--isa: " +
                                   llvm::toString(parsed.takeError()));
  // LLVM keeps tiles in registers, and nowhere else.
  if (optLevel == 0 && llvm::any_of(*parsed, [](const ISA &isa) {
        return isa.needs & kHasAMXBF16;
      }))
    return llvm::createStringError(
        "--isa: there is no code for amx-bf16 at -O0; use -O1");
  return llvm::Error::success();
}
