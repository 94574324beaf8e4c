//===- MoEBytecode.cpp - Bytecode of the moe dialect -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Codes are append-only: files written by any 0.x release are read by all later
// ones (test/Bytecode holds one file a version).
//
//===----------------------------------------------------------------------===//

#include "MoEBytecode.h"

#include "mlir/Bytecode/BytecodeImplementation.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// First word of every attribute of the dialect.
enum AttributeCode : uint64_t {
  kScore = 0,
  kSelectOn = 1,
  kSoftmaxScope = 2,
  kCapacityOrder = 3,
  kGroups = 4,
  kRenormalize = 5,
  kCPUMatmul = 6,
  kGPUMatmul = 7,
  kGPUWgmma = 8,
  kCPURouting = 9,
  // Those of GPUs with permuted = true.
  kGPUMatmulPermuted = 10,
  kGPUWgmmaPermuted = 11,
};

struct Version : DialectVersion {
  Version(uint64_t major, uint64_t minor) : major(major), minor(minor) {}
  uint64_t major, minor;
};

constexpr uint64_t kMajor = 0, kMinor = 2;

/// Reads an enum code; `symbolize` knows which ones exist.
template <typename Enum>
FailureOr<Enum> readEnum(DialectBytecodeReader &reader,
                         std::optional<Enum> (*symbolize)(uint32_t),
                         StringRef what) {
  uint64_t code;
  if (failed(reader.readVarInt(code)))
    return failure();
  std::optional<Enum> value = code <= UINT32_MAX
                                  ? symbolize(static_cast<uint32_t>(code))
                                  : std::nullopt;
  if (!value)
    return reader.emitError()
               << "moe: unknown code " << code << " for " << what,
           failure();
  return *value;
}

template <typename AttrTy, typename Enum>
Attribute readEnumAttr(DialectBytecodeReader &reader, MLIRContext *context,
                       std::optional<Enum> (*symbolize)(uint32_t),
                       StringRef what) {
  FailureOr<Enum> value = readEnum(reader, symbolize, what);
  return failed(value) ? Attribute() : AttrTy::get(context, *value);
}

struct MoEBytecodeInterface : BytecodeDialectInterface {
  explicit MoEBytecodeInterface(Dialect *dialect)
      : BytecodeDialectInterface(dialect) {}

  Attribute readAttribute(DialectBytecodeReader &reader) const override {
    uint64_t code;
    if (failed(reader.readVarInt(code)))
      return Attribute();
    MLIRContext *context = getContext();
    switch (code) {
    case kScore:
      return readEnumAttr<ScoreAttr>(reader, context, symbolizeScore, "score");
    case kSelectOn:
      return readEnumAttr<SelectOnAttr>(reader, context, symbolizeSelectOn,
                                        "select_on");
    case kSoftmaxScope:
      return readEnumAttr<SoftmaxScopeAttr>(
          reader, context, symbolizeSoftmaxScope, "softmax_scope");
    case kCapacityOrder:
      return readEnumAttr<CapacityOrderAttr>(
          reader, context, symbolizeCapacityOrder, "capacity_order");
    case kGroups:
      return readGroups(reader);
    case kRenormalize:
      return readRenormalize(reader);
    case kCPUMatmul:
      return readCPUMatmul(reader);
    case kCPURouting:
      return readCPURouting(reader);
    case kGPUMatmul:
    case kGPUMatmulPermuted:
      return readGPUMatmul(reader, code == kGPUMatmulPermuted);
    case kGPUWgmma:
    case kGPUWgmmaPermuted:
      return readGPUWgmma(reader, code == kGPUWgmmaPermuted);
    default:
      reader.emitError() << "moe: unknown attribute code " << code
                         << "; the file was written by a newer release";
      return Attribute();
    }
  }

  LogicalResult writeAttribute(Attribute attr,
                               DialectBytecodeWriter &writer) const override {
    auto writeEnum = [&](AttributeCode code, auto value) {
      writer.writeVarInt(code);
      writer.writeVarInt(static_cast<uint64_t>(value));
      return success();
    };
    return TypeSwitch<Attribute, LogicalResult>(attr)
        .Case([&](ScoreAttr a) { return writeEnum(kScore, a.getValue()); })
        .Case(
            [&](SelectOnAttr a) { return writeEnum(kSelectOn, a.getValue()); })
        .Case([&](SoftmaxScopeAttr a) {
          return writeEnum(kSoftmaxScope, a.getValue());
        })
        .Case([&](CapacityOrderAttr a) {
          return writeEnum(kCapacityOrder, a.getValue());
        })
        .Case([&](GroupsAttr a) {
          writer.writeVarInt(kGroups);
          writer.writeVarInt(a.getCount());
          writer.writeVarInt(a.getKeep());
          writer.writeVarInt(static_cast<uint64_t>(a.getScore()));
          writer.writeVarInt(static_cast<uint64_t>(a.getMask()));
          return success();
        })
        .Case([&](RenormalizeAttr a) {
          writer.writeVarInt(kRenormalize);
          writer.writeOptionalAttribute(a.getEps());
          writer.writeVarInt(static_cast<uint64_t>(a.getMode()));
          return success();
        })
        .Case([&](CPUMatmulAttr a) {
          writer.writeVarInt(kCPUMatmul);
          for (int64_t size :
               {a.getTileRows(), a.getTileColumns(), a.getBlockRows(),
                a.getBlockColumns(), a.getBlockSum(), a.getLanes()})
            writer.writeVarInt(size);
          writer.writeVarInt(static_cast<uint64_t>(a.getKernel()));
          return success();
        })
        .Case([&](CPURoutingAttr a) {
          writer.writeVarInt(kCPURouting);
          writer.writeVarInt(a.getBlockTokens());
          return success();
        })
        .Case([&](GPUMatmulAttr a) {
          writer.writeVarInt(a.getPermuted() ? kGPUMatmulPermuted : kGPUMatmul);
          for (int64_t size :
               {a.getTileRows(), a.getTileColumns(), a.getTileSum(),
                a.getWarpRows(), a.getWarpColumns(), a.getStages()})
            writer.writeVarInt(size);
          return success();
        })
        .Case([&](GPUWgmmaAttr a) {
          writer.writeVarInt(a.getPermuted() ? kGPUWgmmaPermuted : kGPUWgmma);
          for (int64_t size : {a.getTileRows(), a.getTileColumns(),
                               a.getTileSum(), a.getGroups(), a.getStages()})
            writer.writeVarInt(size);
          writer.writeVarInt(a.getSwapped());
          return success();
        })
        .Default([](Attribute) { return failure(); });
  }

  void writeVersion(DialectBytecodeWriter &writer) const override {
    writer.writeVarInt(kMajor);
    writer.writeVarInt(kMinor);
  }

  std::unique_ptr<DialectVersion>
  readVersion(DialectBytecodeReader &reader) const override {
    uint64_t major, minor;
    if (failed(reader.readVarInt(major)) || failed(reader.readVarInt(minor)))
      return nullptr;
    if (major > kMajor || (major == kMajor && minor > kMinor)) {
      reader.emitError() << "moe: bytecode of version " << major << "." << minor
                         << " is newer than this reader (" << kMajor << "."
                         << kMinor << "); use a newer release";
      return nullptr;
    }
    return std::make_unique<Version>(major, minor);
  }

private:
  Attribute readGroups(DialectBytecodeReader &reader) const {
    uint64_t count, keep;
    if (failed(reader.readVarInt(count)) || failed(reader.readVarInt(keep)))
      return Attribute();
    auto score = readEnum(reader, symbolizeGroupScore, "the score of groups");
    if (failed(score))
      return Attribute();
    auto mask = readEnum(reader, symbolizeGroupMask, "the mask of groups");
    if (failed(mask))
      return Attribute();
    return GroupsAttr::getChecked([&] { return reader.emitError(); },
                                  getContext(), static_cast<int64_t>(count),
                                  static_cast<int64_t>(keep), *score, *mask);
  }

  /// The six sizes that each lowering configuration begins with.
  static LogicalResult readSizes(DialectBytecodeReader &reader,
                                 SmallVectorImpl<int64_t> &sizes) {
    for (uint64_t size; sizes.size() < 6;
         sizes.push_back(static_cast<int64_t>(size)))
      if (failed(reader.readVarInt(size)))
        return failure();
    return success();
  }

  Attribute readCPUMatmul(DialectBytecodeReader &reader) const {
    SmallVector<int64_t> sizes;
    if (failed(readSizes(reader, sizes)))
      return Attribute();
    auto kernel = readEnum(reader, symbolizeCPUKernel, "the kernel of a CPU");
    if (failed(kernel))
      return Attribute();
    // Before kernels had names, products of bf16 with a register of AMX for a
    // tile meant AMX; no vector kernel has such a tile.
    constexpr int64_t kAMXTile = 16;
    if (*kernel == CPUKernel::Bf16Dot && sizes[0] == kAMXTile &&
        sizes[1] == kAMXTile && sizes[5] == kAMXTile)
      kernel = CPUKernel::Amx;
    return CPUMatmulAttr::getChecked([&] { return reader.emitError(); },
                                     getContext(), sizes[0], sizes[1], sizes[2],
                                     sizes[3], sizes[4], sizes[5], *kernel);
  }

  Attribute readCPURouting(DialectBytecodeReader &reader) const {
    uint64_t blockTokens;
    if (failed(reader.readVarInt(blockTokens)))
      return Attribute();
    return CPURoutingAttr::getChecked([&] { return reader.emitError(); },
                                      getContext(),
                                      static_cast<int64_t>(blockTokens));
  }

  Attribute readGPUMatmul(DialectBytecodeReader &reader, bool permuted) const {
    SmallVector<int64_t> sizes;
    if (failed(readSizes(reader, sizes)))
      return Attribute();
    return GPUMatmulAttr::getChecked([&] { return reader.emitError(); },
                                     getContext(), sizes[0], sizes[1], sizes[2],
                                     sizes[3], sizes[4], sizes[5], permuted);
  }

  Attribute readGPUWgmma(DialectBytecodeReader &reader, bool permuted) const {
    SmallVector<int64_t> sizes;
    if (failed(readSizes(reader, sizes)))
      return Attribute();
    return GPUWgmmaAttr::getChecked(
        [&] { return reader.emitError(); }, getContext(), sizes[0], sizes[1],
        sizes[2], sizes[3], sizes[4], sizes[5] != 0, permuted);
  }

  Attribute readRenormalize(DialectBytecodeReader &reader) const {
    FloatAttr eps;
    if (failed(reader.readOptionalAttribute(eps)))
      return Attribute();
    auto mode = readEnum(reader, symbolizeEpsMode, "the mode of epsilon");
    if (failed(mode))
      return Attribute();
    return RenormalizeAttr::getChecked([&] { return reader.emitError(); },
                                       getContext(), eps, *mode);
  }
};

} // namespace

void mlir::moe::addBytecodeInterface(MoEDialect *dialect) {
  dialect->addInterfaces<MoEBytecodeInterface>();
}
