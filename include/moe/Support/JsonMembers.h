//===- JsonMembers.h - JSON objects, a member at a time ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_SUPPORT_JSONMEMBERS_H
#define MOE_SUPPORT_JSONMEMBERS_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace mlir::moe {

/// Calls `visit` with the name and the text of each member of the JSON object
/// `text`, in their order. The name is unescaped and valid UTF-8; the text of
/// the value is well nested but otherwise unchecked, to be given to
/// llvm::json::parse or to this function again.
///
/// This stands in front of llvm::json::parse where the text comes from a file
/// that may be large or hostile: llvm::json keeps one of two members of the
/// same name without a word, needs many times the memory of the text, and
/// recurses once for every open bracket.
llvm::Error forEachJsonMember(
    llvm::StringRef text,
    llvm::function_ref<llvm::Error(llvm::StringRef name, llvm::StringRef value)>
        visit);

/// The string that the JSON text `value` is. `what` begins the error message.
llvm::Expected<std::string> parseJsonString(llvm::StringRef value,
                                            const llvm::Twine &what);

} // namespace mlir::moe

#endif // MOE_SUPPORT_JSONMEMBERS_H
