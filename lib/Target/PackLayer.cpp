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

/// The results are called as the arguments that they are for, with "_packed"
/// behind: so are arguments of `packing`, without it. What a file of packed
/// weights calls the arguments is their `moe.param`.
static void namePacked(func::FuncOp entry, func::FuncOp packing,
                       ArrayRef<int32_t> packed) {
  MLIRContext *context = entry.getContext();
  for (auto [i, number] : llvm::enumerate(packed)) {
    auto name = entry.getArgAttrOfType<StringAttr>(number, kNameAttr);
    if (!name)
      continue;
    packing.setResultAttr(
        i, kNameAttr, StringAttr::get(context, name.getValue() + "_packed"));
    if (!entry.getArgAttr(number, kParamAttr))
      entry.setArgAttr(number, kParamAttr,
                       StringAttr::get(context, name.getValue() + ".packed"));
  }
}

FailureOr<std::optional<Packing>> mlir::moe::takePacking(ModuleOp module,
                                                         StringRef name) {
  auto entry = module.lookupSymbol<func::FuncOp>(name);
  auto symbol = dyn_cast_or_null<FlatSymbolRefAttr>(entry->getAttr(kPackAttr));
  if (!symbol)
    return std::optional<Packing>();
  auto packing = module.lookupSymbol<func::FuncOp>(symbol);
  auto packed = entry->getAttrOfType<DenseI32ArrayAttr>(kPackedAttr);
  if (!packing || !packed)
    return entry.emitError() << kPackAttr << " and " << kPackedAttr << " of @"
                             << name << " are not what moe-pack-weights writes";
  if (failed(checkPacking(entry, packing, packed)))
    return failure();
  namePacked(entry, packing, packed);
  entry->removeAttr(kPackAttr);
  entry->removeAttr(kPackedAttr);
  return std::optional<Packing>(
      {packing.getName().str(), SmallVector<int32_t>(packed.asArrayRef())});
}

FailureOr<Packing> mlir::moe::packLayer(ModuleOp module, StringRef name) {
  if (!module.lookupSymbol(name)->hasAttr(kPackAttr)) {
    PassManager pm(module.getContext(), ModuleOp::getOperationName());
    pm.addPass(createInlinerPass());
    buildFusePipeline(pm);
    pm.addPass(createMoEPackWeights());
    if (failed(pm.run(module)))
      return failure();
  }
  FailureOr<std::optional<Packing>> packing = takePacking(module, name);
  if (failed(packing))
    return failure();
  if (*packing)
    return **packing;
  return module.lookupSymbol(name)->emitError()
         << "there is nothing to pack in @" << name
         << ": it has no weights of experts that are arguments, of one known "
            "shape, and read by grouped matmuls alone; "
            "--remarks-filter-missed=moe-pack-weights says why of each";
}
