//===- PackLayer.cpp - A layer on packed weights ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/PackLayer.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/PackWeights.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Target/EntrySignature.h"
#include "llvm/ADT/DenseSet.h"

using namespace mlir;
using namespace mlir::moe;

/// An error unless `packed`, the arguments of `entry` that the results of
/// `packing` are for, are arguments of their types.
static LogicalResult checkPacking(func::FuncOp entry, func::FuncOp packing,
                                  ArrayRef<int32_t> packed) {
  auto fail = [&] {
    return entry.emitError() << kPackAttr << " of @" << entry.getName()
                             << " names @" << packing.getName() << ", but ";
  };
  if (packing.isExternal())
    return fail() << "that has no body";
  if (!llvm::hasSingleElement(packing.getBody()))
    return fail() << "that branches";
  if (packed.size() != packing.getNumResults())
    return fail() << kPackedAttr << " has " << packed.size()
                  << " numbers for its " << packing.getNumResults()
                  << " results";
  for (auto [number, result] : llvm::zip(packed, packing.getResultTypes())) {
    if (number < 0 || unsigned(number) >= entry.getNumArguments())
      return fail() << kPackedAttr << " names argument " << number << " of "
                    << entry.getNumArguments();
    Type argument = entry.getArgumentTypes()[number];
    if (failed(verifyCompatibleShape(argument, result)) ||
        getElementTypeOrSelf(argument) != getElementTypeOrSelf(result))
      return fail() << "its result for argument " << number << " is a "
                    << result << ", and the argument a " << argument;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

/// Writes the names that arguments without one have by default, which would be
/// others' after an argument has become two, and in a function of its own.
static LogicalResult nameArguments(func::FuncOp entry) {
  FailureOr<EntrySignature> signature = readEntrySignature(entry);
  if (failed(signature))
    return failure();
  for (auto [i, argument] : llvm::enumerate(signature->arguments))
    entry.setArgAttr(i, kNameAttr,
                     StringAttr::get(entry.getContext(), argument.name));
  return success();
}

/// The argument of a function of one block that `value` is made of; null if it
/// is made of none, or of several.
static BlockArgument findSource(Value value) {
  BlockArgument source;
  SmallVector<Value> work = {value};
  llvm::DenseSet<Value> seen;
  while (!work.empty()) {
    Value next = work.pop_back_val();
    if (!seen.insert(next).second)
      continue;
    if (Operation *op = next.getDefiningOp()) {
      llvm::append_range(work, op->getOperands());
      continue;
    }
    if (source)
      return {};
    source = cast<BlockArgument>(next);
  }
  return source;
}

/// Results are called as the arguments of the layer that they are for, with
/// "_packed" behind, and arguments of `packing` as the first of those that are
/// made of them, unless that begins with their name and "_". What a file of
/// packed weights calls the layer's arguments is their `moe.param`.
static void namePacked(func::FuncOp entry, func::FuncOp packing,
                       ArrayRef<int32_t> packed) {
  MLIRContext *context = entry.getContext();
  Operation *terminator = packing.getBody().front().getTerminator();
  llvm::DenseSet<BlockArgument> named;
  for (auto [i, number] : llvm::enumerate(packed)) {
    auto name = entry.getArgAttrOfType<StringAttr>(number, kNameAttr);
    packing.setResultAttr(
        i, kNameAttr, StringAttr::get(context, name.getValue() + "_packed"));
    if (!entry.getArgAttr(number, kParamAttr))
      entry.setArgAttr(number, kParamAttr,
                       StringAttr::get(context, name.getValue() + ".packed"));

    BlockArgument source = findSource(terminator->getOperand(i));
    if (!source || !named.insert(source).second)
      continue;
    auto own =
        packing.getArgAttrOfType<StringAttr>(source.getArgNumber(), kNameAttr);
    if (!own || !name.getValue().starts_with(own.getValue().str() + "_"))
      packing.setArgAttr(source.getArgNumber(), kNameAttr, name);
  }
}

//===----------------------------------------------------------------------===//
// The packing of a layer
//===----------------------------------------------------------------------===//

/// Packs the weights of `entry` as far as they can be.
static LogicalResult packLayer(ModuleOp module, func::FuncOp entry) {
  if (failed(nameArguments(entry)))
    return failure();
  PassManager pm(module.getContext(), ModuleOp::getOperationName());
  pm.addPass(createInlinerPass());
  buildFusePipeline(pm);
  pm.addPass(createMoEPackWeights());
  return pm.run(module);
}

FailureOr<std::optional<Packing>>
mlir::moe::takePacking(ModuleOp module, StringRef name, bool packs) {
  auto entry = module.lookupSymbol<func::FuncOp>(name);
  if (packs && !entry->hasAttr(kPackAttr) && failed(packLayer(module, entry)))
    return failure();
  auto symbol = dyn_cast_or_null<FlatSymbolRefAttr>(entry->getAttr(kPackAttr));
  if (!symbol && packs)
    return entry.emitError()
           << "there is nothing to pack in @" << name
           << ": it has no weights of experts that are arguments, of one known "
              "shape, and read by grouped matmuls alone; "
              "--remarks-filter-missed=moe-pack-weights says why of each";
  if (!symbol)
    return std::optional<Packing>();
  auto packing = module.lookupSymbol<func::FuncOp>(symbol);
  auto packed = entry->getAttrOfType<DenseI32ArrayAttr>(kPackedAttr);
  if (!packing || !packed)
    return entry.emitError() << kPackAttr << " and " << kPackedAttr << " of @"
                             << name << " are not what moe-pack-weights writes";
  if (failed(checkPacking(entry, packing, packed)) ||
      failed(nameArguments(entry)))
    return failure();
  namePacked(entry, packing, packed);
  entry->removeAttr(kPackAttr);
  entry->removeAttr(kPackedAttr);
  return std::optional<Packing>(
      {packing.getName().str(), SmallVector<int32_t>(packed.asArrayRef())});
}
