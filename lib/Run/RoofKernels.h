//===- RoofKernels.h - Machine code that does nothing but work --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_RUN_ROOFKERNELS_H
#define MOE_LIB_RUN_ROOFKERNELS_H

#include "moe/Target/CodeGen.h"
#include <memory>

namespace llvm::orc {
class LLJIT;
} // namespace llvm::orc

namespace mlir::moe {

/// The kernels of MachineRoof.h, compiled.
class RoofKernels {
public:
  static llvm::Expected<std::unique_ptr<RoofKernels>>
  compile(const CodeGenOptions &options);
  ~RoofKernels();

  static constexpr size_t kBlockBytes = 512;
  /// Where kernels take their first values and leave their last.
  struct alignas(64) Sink {
    char bytes[32 * 64] = {};
  };

  /// Runs `iterations` rounds in registers.
  using Arithmetic = void (*)(int64_t iterations, Sink *sink);
  /// Reads `blocks` blocks of kBlockBytes.
  using Read = void (*)(int64_t blocks, const void *data, Sink *sink);
  struct ArithmeticKernel {
    Arithmetic function = nullptr; ///< Null when the target cannot.
    double operations = 0;         ///< Of one iteration.
  };
  ArithmeticKernel f64, f32, bf16;
  Read read = nullptr;
  unsigned vectorBits = 0;

private:
  RoofKernels();

  std::unique_ptr<llvm::orc::LLJIT> jit;
};

} // namespace mlir::moe

#endif // MOE_LIB_RUN_ROOFKERNELS_H
