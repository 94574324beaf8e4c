//===- CheckBinding.cpp - Are the bound tensors there? ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Importer.h"
#include "moe/Support/BoundTensor.h"
#include "moe/Target/EntrySignature.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;
using namespace mlir::moe;

static constexpr StringLiteral kQuantizedAdvice =
    "of quantized weights, moe-import takes fp8 with a scale a block "
    "(_scale_inv) and mxfp4 (_blocks and _scales, all experts in one); import "
    "a copy in bfloat16: load the model in transformers with a "
    "quantization_config whose dequantize is true, then "
    "model.save_pretrained(folder)";

/// Whether weights in this type are codes, to be multiplied by scales that
/// are in another tensor.
static bool isQuantized(ElementType type) {
  switch (type) {
  case ElementType::F64:
  case ElementType::F32:
  case ElementType::F16:
  case ElementType::BF16:
    return false;
  default:
    return true;
  }
}

static std::string describe(const MappedTensor &tensor) {
  return quoteName(tensor.name) + " in " + quoteName(tensor.file->getPath()) +
         " is " + tensor.storedType;
}

/// A tensor may have the type of its argument, or a narrower one: the router
/// of a model may be computed in f32 and stored in bf16.
static Error checkStoredType(const MappedTensor &tensor,
                             const EntryTensor &argument) {
  if (tensor.type == argument.elementType)
    return Error::success();
  if (isFloat(argument.elementType) && isQuantized(tensor.type))
    return createStringError(describe(tensor) + "; " + kQuantizedAdvice);
  Conversion conversion = classifyConversion(tensor.type, argument.elementType);
  if (conversion == Conversion::Exact)
    return Error::success();
  return createStringError(
      describe(tensor) + ", but the layer takes " + argument.getTypeText() +
      "; the model computes in another type than it is stored in: make the "
      "dtype in config.json that of the tensors, or store them in that type");
}

/// Other names under which quantized checkpoints keep what belongs to `name`.
static SmallVector<std::string> listQuantizedNames(StringRef name) {
  SmallVector<std::string> names{(name + "_blocks").str(),
                                 (name + "_packed").str()};
  if (name.consume_back("weight"))
    names.push_back((name + "qweight").str());
  return names;
}

static Error makeMissingError(Checkpoint &checkpoint, StringRef name) {
  for (const std::string &other : listQuantizedNames(name)) {
    if (!checkpoint.contains(other))
      continue;
    Expected<MappedTensor> tensor = checkpoint.lookup(other);
    if (!tensor)
      return tensor.takeError();
    return createStringError("there is no " + quoteName(name) + ", but " +
                             describe(*tensor) + "; " + kQuantizedAdvice);
  }
  return checkpoint.lookup(name).takeError();
}

/// One tensor, which is there or not, and has a type that suits or not.
static Error checkTensor(Checkpoint &checkpoint, StringRef name,
                         const EntryTensor &argument) {
  Expected<bool> quantized =
      QuantizedTensor::isNeeded(checkpoint, name, argument.elementType);
  if (!quantized)
    return quantized.takeError();
  if (*quantized)
    return QuantizedTensor::open(checkpoint, name).takeError();
  if (!checkpoint.contains(name))
    return makeMissingError(checkpoint, name);
  Expected<MappedTensor> tensor = checkpoint.lookup(name);
  if (!tensor)
    return tensor.takeError();
  return checkStoredType(*tensor, argument);
}

/// The types of the experts' tensors. BoundTensor checks afterwards that there
/// are as many as the argument wants.
static Error checkExperts(Checkpoint &checkpoint, const EntryTensor &argument) {
  auto [prefix, suffix] = StringRef(argument.param).split(kExpertPlaceholder);
  for (uint64_t expert = 0;; ++expert) {
    std::string name = (prefix + Twine(expert) + suffix).str();
    if (expert > 0 && !checkpoint.contains(name))
      return Error::success();
    if (Error error = checkTensor(checkpoint, name, argument))
      return error;
  }
}

Error mlir::moe::checkBinding(Checkpoint &checkpoint,
                              const EntryTensor &argument) {
  bool stacked = StringRef(argument.param).contains(kExpertPlaceholder);
  if (Error error = stacked ? checkExperts(checkpoint, argument)
                            : checkTensor(checkpoint, argument.param, argument))
    return error;
  return BoundTensor::bind(checkpoint, argument.param, argument.shape,
                           argument.elementType)
      .takeError();
}
