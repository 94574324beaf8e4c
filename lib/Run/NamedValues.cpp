//===- NamedValues.cpp - Flags that name a tensor ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/NamedValues.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace llvm;
using namespace mlir::moe;

static constexpr StringLiteral kSafetensors = ".safetensors";

//===----------------------------------------------------------------------===//
// Texts
//===----------------------------------------------------------------------===//

std::string mlir::moe::listNames(ArrayRef<std::string> names) {
  constexpr size_t maxListed = 16;
  std::string text;
  raw_string_ostream os(text);
  interleaveComma(names.take_front(maxListed), os,
                  [&](const std::string &name) { os << quoteName(name); });
  if (names.size() > maxListed)
    os << ", and " << names.size() - maxListed << " more";
  return text;
}

std::string mlir::moe::formatShape(ArrayRef<int64_t> shape) {
  if (shape.empty())
    return "scalar";
  std::string text;
  raw_string_ostream os(text);
  interleave(
      shape, os, [&](int64_t size) { size < 0 ? os << '?' : os << size; }, "x");
  return text;
}

bool NamedFile::isSafetensors() const {
  return StringRef(file).ends_with(kSafetensors);
}

/// The name before the first '=', unless `text` is a path as a whole.
static std::pair<StringRef, StringRef> splitName(StringRef text) {
  auto [name, rest] = text.split('=');
  if (!text.contains('=') || name.contains('/') || sys::fs::exists(text))
    return {"", text};
  return {name, rest};
}

Expected<NamedFile> mlir::moe::parseNamedFile(StringRef text) {
  auto [name, file] = splitName(text);
  NamedFile parsed;
  parsed.name = name.str();
  size_t colon = file.find((kSafetensors + ":").str());
  if (colon != StringRef::npos) {
    size_t end = colon + kSafetensors.size();
    parsed.tensor = file.substr(end + 1).str();
    file = file.take_front(end);
  }
  parsed.file = file.str();
  if (!file.ends_with(".npy") && !parsed.isSafetensors())
    return createStringError(quoteName(text) +
                             " does not name a .npy or .safetensors file; "
                             "write FILE, NAME=FILE or "
                             "NAME=FILE.safetensors:TENSOR");
  return parsed;
}

Expected<NamedShape> mlir::moe::parseNamedShape(StringRef text) {
  auto [name, rest] = text.split('=');
  NamedShape parsed;
  parsed.name = name.str();
  SmallVector<StringRef> sizes;
  rest.split(sizes, 'x');
  for (StringRef size : sizes) {
    int64_t value;
    if (name.empty() || size.getAsInteger(10, value) || value < 0)
      return createStringError(quoteName(text) +
                               " is no shape; write NAME=64x2048");
    parsed.shape.push_back(value);
  }
  return parsed;
}

Expected<NamedFill> mlir::moe::parseNamedFill(StringRef text) {
  auto [name, rest] = text.split('=');
  NamedFill parsed;
  parsed.name = name.str();
  parsed.rule.kind = FillRule::Uniform;
  auto [low, high] = rest.split("..");
  if (!rest.contains(".."))
    high = low;
  auto isNumber = [](StringRef text, double &value) {
    return !text.getAsDouble(value) && std::isfinite(value);
  };
  if (name.empty() || !isNumber(low, parsed.rule.low) ||
      !isNumber(high, parsed.rule.high) || parsed.rule.low > parsed.rule.high)
    return createStringError(quoteName(text) +
                             " is no fill; write NAME=VALUE or NAME=LOW..HIGH "
                             "with LOW <= HIGH");
  return parsed;
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

/// The tensor of `file` that is called `wanted` or, if `wanted` is empty, the
/// one called `defaultName` or the only one.
static Expected<MappedTensor> pick(const SafetensorsFile &file,
                                   StringRef wanted, StringRef defaultName) {
  if (const MappedTensor *tensor =
          file.find(wanted.empty() ? defaultName : wanted))
    return *tensor;
  if (wanted.empty() && file.getTensors().size() == 1)
    return file.getTensors().front();
  std::vector<std::string> names;
  for (const MappedTensor &tensor : file.getTensors())
    names.push_back(tensor.name);
  return createStringError(
      quoteName(file.getPath()) + " has no tensor " +
      quoteName(wanted.empty() ? defaultName : wanted) +
      (names.empty()
           ? "; it has none at all"
           : "; name one as FILE.safetensors:TENSOR of " + listNames(names)));
}

Expected<MappedTensor> mlir::moe::openTensor(const NamedFile &source,
                                             StringRef defaultName) {
  if (!source.isSafetensors())
    return readNpy(source.file);
  Expected<SafetensorsFile> file = SafetensorsFile::open(source.file);
  if (!file)
    return file.takeError();
  return pick(*file, source.tensor, defaultName);
}
