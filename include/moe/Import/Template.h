//===- Template.h - Mustache templates, checked -----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Mustache renders an unknown name as nothing and ignores a section that does
/// not end; in a generator such slips are bugs of the template. So a template
/// is checked before llvm::mustache renders it. It has these tags:
///
///   {{name}}                  the value
///   {{#name}} ... {{/name}}   the text between, if the boolean is true; or,
///   for
///                             a record, always, with the record's names inside
///   {{^name}} ... {{/name}}   the text between, if the boolean is false
///   {{>name}}                 the partial of that name
///   {{! ... }}                a comment
///
/// A tag for a section, a partial or a comment that is alone on its line takes
/// the line with it; a partial is indented as its tag is.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_IMPORT_TEMPLATE_H
#define MOE_IMPORT_TEMPLATE_H

#include "moe/Import/Value.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>

namespace mlir::moe {

/// A template or a partial.
struct TemplateSource {
  std::string path; ///< For messages.
  std::string text;
  unsigned firstLine = 1; ///< The line of the file on which `text` starts.
};

/// Finds the partial `name`; null when there is none.
using FindPartial =
    llvm::function_ref<const TemplateSource *(llvm::StringRef name)>;

/// The text of `source` with the values of `names`. The error names the file
/// and line of a tag that is not in the list above, an unknown name or partial,
/// a section that is not closed, and partials that contain themselves.
llvm::Expected<std::string> renderTemplate(const TemplateSource &source,
                                           const Names &names,
                                           FindPartial findPartial);

} // namespace mlir::moe

#endif // MOE_IMPORT_TEMPLATE_H
