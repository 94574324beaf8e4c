//===- CPUMachine.cpp - What is known of the CPU to compile for -----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CPUMachine.h"

#include "mlir/Dialect/DLTI/DLTI.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace mlir::moe;

static constexpr StringLiteral kNames =
    "generic, avx2, avx512, avx512bf16 or amx-bf16";

static std::optional<VectorISA> findISA(StringRef name) {
  using Kernel = CPUKernel;
  return llvm::StringSwitch<std::optional<VectorISA>>(name)
      // Sixteen registers: 12 sums, 3 rows, 1 weight.
      .Case("generic", VectorISA{4, 3, 4, Kernel::Fma})
      .Case("avx2", VectorISA{8, 3, 4, Kernel::Fma})
      // Thirty-two: 24 sums, 4 rows, 1 weight and what the scheduler wants.
      .Case("avx512", VectorISA{16, 4, 6, Kernel::Fma})
      .Case("avx512bf16", VectorISA{16, 4, 6, Kernel::Bf16Dot})
      .Case("amx-bf16", VectorISA{16, 4, 6, Kernel::Bf16Dot, true})
      // Its products of tiles, for machines without; for tests.
      .Case("amx-bf16-emulated", VectorISA{16, 4, 6, Kernel::Fma, true})
      .Default(std::nullopt);
}

/// What the target system says of its CPU under `key`; null where nothing.
static Attribute findInSpec(Operation *op, StringRef key) {
  FailureOr<Attribute> found = dlti::query(op, ArrayRef<StringRef>{"CPU", key});
  return succeeded(found) ? *found : Attribute();
}

static FailureOr<int64_t> findBytes(Operation *op, StringRef key,
                                    int64_t otherwise) {
  Attribute found = findInSpec(op, key);
  if (!found)
    return otherwise;
  auto bytes = dyn_cast<IntegerAttr>(found);
  if (!bytes || !bytes.getValue().isStrictlyPositive() ||
      bytes.getValue().getActiveBits() > 62)
    return op->emitError("the target's \"CPU\" has ")
           << key << " = " << found
           << "; use a positive number of bytes, or leave it out for "
           << otherwise;
  return static_cast<int64_t>(bytes.getValue().getZExtValue());
}

FailureOr<CPUMachine> mlir::moe::describeCPU(Operation *op, StringRef isa) {
  constexpr int64_t kL1Bytes = 48 * 1024, kL2Bytes = 1024 * 1024;
  FailureOr<int64_t> l1Bytes =
      findBytes(op, "L1_cache_size_in_bytes", kL1Bytes);
  FailureOr<int64_t> l2Bytes =
      findBytes(op, "L2_cache_size_in_bytes", kL2Bytes);
  if (failed(l1Bytes) || failed(l2Bytes))
    return failure();
  if (isa.empty()) {
    Attribute found = findInSpec(op, "vector_isa");
    auto named = dyn_cast_or_null<StringAttr>(found);
    if (found && !named)
      return op->emitError("the target's \"CPU\" has vector_isa = ")
             << found << "; use a name in quotes: " << kNames;
    isa = named ? named.getValue() : "generic";
  }
  std::optional<VectorISA> known = findISA(isa);
  if (!known)
    return op->emitError("moe-select-cpu-strategy: unknown isa '")
           << isa << "'; use " << kNames;
  return CPUMachine{isa.str(), *known, *l1Bytes, *l2Bytes};
}
