//===- FamilyLibrary.cpp - The families that are known ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/FamilyLibrary.h"
#include "moe/Import/Expression.h"
#include "moe/Support/TensorFile.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace mlir::moe;

static constexpr size_t kMaxFileSize = 1 << 20;

static Expected<std::string> readText(StringRef path) {
  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  StringRef text = toStringRef((*file)->getBytes());
  if (text.size() > kMaxFileSize)
    return createFileError(
        path, createStringError("has " + Twine(text.size()) +
                                " bytes, more than any family file"));
  return text.str();
}

Expected<const Family *> FamilyLibrary::load(StringRef path) {
  Expected<std::string> text = readText(path);
  if (!text)
    return text.takeError();
  Expected<Family> family = parseFamily(*text, path);
  if (!family)
    return family.takeError();
  families.push_back(std::make_unique<Family>(std::move(*family)));
  return families.back().get();
}

Error FamilyLibrary::addFile(StringRef path) {
  Expected<const Family *> family = load(path);
  if (!family)
    return family.takeError();
  for (StringRef type : (*family)->modelTypes)
    byModelType.try_emplace(type, *family);
  return Error::success();
}

Error FamilyLibrary::addFolder(StringRef path) {
  std::vector<std::string> files;
  std::error_code code;
  for (sys::fs::directory_iterator it(path, code), end; it != end && !code;
       it.increment(code))
    if (StringRef(it->path()).ends_with(".family"))
      files.push_back(it->path());
  if (code)
    return createFileError(path, code);
  llvm::sort(files);
  StringMap<const Family *> ofThisFolder;
  for (const std::string &file : files) {
    Expected<const Family *> family = load(file);
    if (!family)
      return family.takeError();
    for (StringRef type : (*family)->modelTypes) {
      auto [it, isNew] = ofThisFolder.try_emplace(type, *family);
      if (!isNew)
        return createFileError(
            file,
            createStringError("is for the model type " + quoteName(type) +
                              ", and so is " + quoteName(it->second->path) +
                              "; remove one of them"));
      byModelType.try_emplace(type, *family);
    }
  }
  folders.push_back(path.str());
  return Error::success();
}

const Family *FamilyLibrary::find(StringRef modelType) const {
  return byModelType.lookup(modelType);
}

std::vector<const Family *> FamilyLibrary::getFamilies() const {
  std::vector<const Family *> found;
  for (const std::unique_ptr<Family> &family : families)
    if (any_of(family->modelTypes,
               [&](StringRef type) { return find(type) == family.get(); }))
      found.push_back(family.get());
  llvm::sort(found, [](const Family *a, const Family *b) {
    return std::tie(a->name, a->path) < std::tie(b->name, b->path);
  });
  return found;
}

const TemplateSource *FamilyLibrary::findPartial(const Family &family,
                                                 StringRef name) {
  SmallVector<StringRef> places{sys::path::parent_path(family.path)};
  append_range(places, folders);
  for (StringRef folder : places) {
    SmallString<128> path(folder);
    sys::path::append(path, "partials", name + ".mustache");
    std::unique_ptr<TemplateSource> &partial = partials[path];
    if (partial)
      return partial.get();
    Expected<std::string> text = readText(path);
    if (!text) {
      consumeError(text.takeError());
      continue;
    }
    partial = std::make_unique<TemplateSource>();
    partial->path = std::string(path);
    partial->text = std::move(*text);
    return partial.get();
  }
  return nullptr;
}

Expected<std::string> FamilyLibrary::render(const Family &family,
                                            const Names &names) {
  TemplateSource source{family.path, family.templateText, family.templateLine};
  return renderTemplate(
      source, names, [&](StringRef name) { return findPartial(family, name); });
}
