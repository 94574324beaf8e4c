//===- Family.h - What a family of models looks like ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A family file is a JSON header, a line `---`, and a Mustache template that
/// renders one MoE layer as MLIR text. `docs/Import.md` is its reference.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_IMPORT_FAMILY_H
#define MOE_IMPORT_FAMILY_H

#include "moe/Import/Value.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <optional>
#include <string>
#include <vector>

namespace mlir::moe {

/// A field of `config.json` that a family reads.
struct ConfigField {
  enum class Type {
    Integer, ///< 0 ... 2^31 - 1
    Number,  ///< any finite number
    Boolean,
    String,
    Integers, ///< a list of integers
    Strings,  ///< a list of texts
    Element,  ///< "float32", "float16" or "bfloat16"; its value is "f32", ...
  };

  std::string name;
  /// Other names of the same field, in files of other versions.
  std::vector<std::string> aliases;
  Type type = Type::Integer;
  /// The value of an absent field; without one the field is required.
  std::optional<llvm::json::Value> fallback;
  /// The least value of an integer.
  int64_t minimum = 0;
  /// The values that the template is right for; empty: all.
  std::vector<llvm::json::Value> allowed;
};

/// A name that the family defines: an expression, or a record of expressions,
/// whose names stand for themselves in the section of the record's name.
struct Definition {
  std::string name;
  std::string expression;
  std::vector<Definition> members; ///< Not empty for a record.
};

struct Family {
  std::string path;
  /// For people: "DeepSeek-V3".
  std::string name;
  /// The values of `model_type` in `config.json` that it is for.
  std::vector<std::string> modelTypes;
  std::vector<ConfigField> fields;
  /// In order: each may use the fields, `layer`, and those before it.
  std::vector<Definition> definitions;
  /// Conditions that every MoE layer must meet.
  std::vector<std::string> requirements;
  /// How many layers the model has, an expression over the fields.
  std::string layerCount;
  /// Whether `layer` is an MoE layer, a condition over the fields and `layer`.
  std::string isMoELayer = "true";
  std::string templateText;
  /// The line of the file on which the template starts, from 1.
  unsigned templateLine = 1;
};

/// Reads the family file `text`; errors begin with `path`.
llvm::Expected<Family> parseFamily(llvm::StringRef text, llvm::StringRef path);

/// What the family `family` reads from the `config.json` at `path`: a value
/// for each of its fields, under the field's name. An error names all fields
/// that are missing, or the first that is wrong.
llvm::Expected<Names> readFields(const Family &family,
                                 const llvm::json::Object &config,
                                 llvm::StringRef path);

/// The JSON object in the file `path`: `config.json`. Safe for any bytes.
llvm::Expected<llvm::json::Object> readJsonFile(llvm::StringRef path);

/// `fields` with `layer` and all that the family defines for that layer.
/// Fails when a definition does, or when a requirement is not met.
llvm::Expected<Names> defineNames(const Family &family, const Names &fields,
                                  int64_t layer);

} // namespace mlir::moe

#endif // MOE_IMPORT_FAMILY_H
