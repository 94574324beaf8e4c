//===- ResidentMemory.h - What a process keeps in memory --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_RESIDENTMEMORY_H
#define MOE_RUN_RESIDENTMEMORY_H

#include <cstdint>

namespace mlir::moe {

/// The most bytes that this process had in memory at once, files that it maps
/// among them. 0 where the system does not say.
uint64_t getPeakResidentBytes();

/// The machine's memory; 0 where the system does not say.
uint64_t getPhysicalMemoryBytes();

/// Gives back what compiling left: free pages of the heap, and code and
/// constants of libraries, which come back from their files when they are used.
/// After it, the peak of a run is the memory of its tensors and little else.
/// Does nothing where there is no such system call.
void releaseCompilerMemory();

} // namespace mlir::moe

#endif // MOE_RUN_RESIDENTMEMORY_H
