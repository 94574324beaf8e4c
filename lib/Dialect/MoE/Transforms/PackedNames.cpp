//===- PackedNames.cpp - What packed weights are called ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PackedNames.h"

#include "moe/Dialect/MoE/IR/EntryAttributes.h"
#include "moe/Dialect/MoE/Transforms/PackWeights.h"
#include "llvm/ADT/Sequence.h"

using namespace mlir;
using namespace mlir::moe;

static std::string getSuffix(size_t i, size_t count) {
  return count > 1 ? "_" + std::to_string(i) : "";
}

std::string mlir::moe::takeNames(StringRef text, StringRef separator,
                                 size_t count, llvm::StringSet<> &taken) {
  auto isFree = [&](StringRef candidate) {
    return llvm::none_of(llvm::seq(count), [&](size_t i) {
      return taken.contains((candidate + getSuffix(i, count)).str());
    });
  };
  std::string name = text.str();
  for (unsigned number = 2; !isFree(name); ++number)
    name = (text + separator + Twine(number)).str();
  for (size_t i : llvm::seq(count))
    taken.insert(name + getSuffix(i, count));
  return name;
}

llvm::StringSet<> mlir::moe::getNames(func::FuncOp layer, StringRef attribute) {
  llvm::StringSet<> names;
  for (unsigned i : llvm::seq(layer.getNumArguments()))
    if (auto name = layer.getArgAttrOfType<StringAttr>(i, attribute))
      names.insert(name.getValue());
  for (unsigned i : llvm::seq(layer.getNumResults()))
    if (auto name = layer.getResultAttrOfType<StringAttr>(i, attribute))
      names.insert(name.getValue());
  return names;
}

void mlir::moe::setAttributes(func::FuncOp layer,
                              MutableArrayRef<PackedArgument> weights) {
  Builder b(layer.getContext());
  llvm::StringSet<> names = getNames(layer, kNameAttr);
  llvm::StringSet<> params = getNames(layer, kParamAttr);
  for (PackedArgument &weight : weights) {
    NamedAttrList packed(layer.getArgAttrDict(weight.argument.getArgNumber()));
    auto name = dyn_cast_or_null<StringAttr>(packed.get(kNameAttr));
    auto param = dyn_cast_or_null<StringAttr>(packed.get(kParamAttr));
    size_t count = weight.reads.size();
    std::string baseName, baseParam;
    if (name) // One that becomes one keeps its name.
      baseName = count == 1 ? name.getValue().str()
                            : takeNames(name.getValue(), "_", count, names);
    if (param)
      baseParam =
          takeNames(getPackedParam(param.getValue()), ".", count, params);
    for (size_t i : llvm::seq(count)) {
      std::string suffix = getSuffix(i, count);
      if (name)
        packed.set(kNameAttr, b.getStringAttr(baseName + suffix));
      if (param)
        packed.set(kParamAttr, b.getStringAttr(baseParam + suffix));
      weight.attributes.push_back(packed.getDictionary(b.getContext()));
    }
  }
}

std::string mlir::moe::getPackedParam(StringRef param) {
  std::string text = param.str();
  for (StringRef part : {"{expert}.", ".{expert}", "{expert}"})
    for (size_t at; (at = StringRef(text).find(part)) != StringRef::npos;)
      text.erase(at, part.size());
  return text + ".packed";
}
