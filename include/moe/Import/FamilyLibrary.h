//===- FamilyLibrary.h - The families that are known ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IMPORT_FAMILYLIBRARY_H
#define MOE_IMPORT_FAMILYLIBRARY_H

#include "moe/Import/Family.h"
#include "moe/Import/Template.h"
#include "llvm/ADT/StringMap.h"
#include <memory>

namespace mlir::moe {

/// Families by the `model_type` of `config.json`, and the partials that their
/// templates use.
///
/// What is added first wins: a user's family files come before the ones that
/// are installed, so that they can take the place of one.
class FamilyLibrary {
public:
  /// Adds the family file `path`. Its partials are in the folder `partials`
  /// beside it, as `<name>.mustache`.
  llvm::Error addFile(llvm::StringRef path);

  /// Adds all `*.family` files in the folder `path`, which must be there. Two
  /// of them for one model type are an error.
  llvm::Error addFolder(llvm::StringRef path);

  /// The family for `modelType`, or null.
  const Family *find(llvm::StringRef modelType) const;

  /// All families that `find` can return, in the order of their names.
  std::vector<const Family *> getFamilies() const;

  /// The text of one layer. Partials come from the folder of the family, and
  /// after that from the folders that were added, in their order.
  llvm::Expected<std::string> render(const Family &family, const Names &names);

private:
  llvm::Expected<const Family *> load(llvm::StringRef path);
  const TemplateSource *findPartial(const Family &family, llvm::StringRef name);

  std::vector<std::unique_ptr<Family>> families;
  llvm::StringMap<const Family *> byModelType;
  std::vector<std::string> folders;
  llvm::StringMap<std::unique_ptr<TemplateSource>> partials; // By path.
};

} // namespace mlir::moe

#endif // MOE_IMPORT_FAMILYLIBRARY_H
