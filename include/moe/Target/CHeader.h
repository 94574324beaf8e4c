//===- CHeader.h - The C header of an artifact ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_CHEADER_H
#define MOE_TARGET_CHEADER_H

#include "moe/Target/EntrySignature.h"
#include "moe/Target/EntryStatistic.h"

namespace mlir::moe {

/// What a header says about the artifact besides its signature.
struct CHeaderInfo {
  /// Name of the file that was compiled, without folders.
  std::string source;
  /// What it was compiled for: "x86_64-pc-linux-gnu, znver4".
  std::string target;
  /// The instruction sets that it chooses from, the best first; empty if it has
  /// code for `target` alone.
  std::vector<std::string> isas;
  /// The GPU, if that runs the layer: "sm_80".
  std::string chip;
  /// What the artifact fills of moe_stats; empty if its functions do not take
  /// it.
  std::vector<EntryStatistic> statistics;
  /// What packs weights of the layer; none if the artifact does not.
  std::optional<EntrySignature> packing;
};

/// Writes a header for C99 and C++ that stands alone (it repeats moe.h under
/// the same include guard, and moe_stats.h if it has statistics) and documents
/// and declares the functions of the artifact.
void writeCHeader(const EntrySignature &signature, const CHeaderInfo &info,
                  llvm::raw_ostream &os);

} // namespace mlir::moe

#endif // MOE_TARGET_CHEADER_H
