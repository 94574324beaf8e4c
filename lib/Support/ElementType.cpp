//===- ElementType.cpp - Names and sizes of element types -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/ElementType.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/ErrorHandling.h"

using namespace llvm;
using namespace mlir::moe;

namespace {
enum class Kind : uint8_t { Float, Signed, Unsigned, Other };

struct TypeInfo {
  ElementType type;
  uint8_t size;
  Kind kind;
  StringLiteral name;
  StringLiteral safetensorsName;
  StringLiteral numpyDescr;
};
} // namespace

// In the order of the enum.
static constexpr TypeInfo kTypes[] = {
    {ElementType::F64, 8, Kind::Float, "f64", "F64", "<f8"},
    {ElementType::F32, 4, Kind::Float, "f32", "F32", "<f4"},
    {ElementType::F16, 2, Kind::Float, "f16", "F16", "<f2"},
    {ElementType::BF16, 2, Kind::Float, "bf16", "BF16", ""},
    {ElementType::F8E4M3FN, 1, Kind::Float, "f8E4M3FN", "F8_E4M3", ""},
    {ElementType::F8E5M2, 1, Kind::Float, "f8E5M2", "F8_E5M2", ""},
    {ElementType::I64, 8, Kind::Signed, "i64", "I64", "<i8"},
    {ElementType::I32, 4, Kind::Signed, "i32", "I32", "<i4"},
    {ElementType::I16, 2, Kind::Signed, "i16", "I16", "<i2"},
    {ElementType::I8, 1, Kind::Signed, "i8", "I8", "|i1"},
    {ElementType::U64, 8, Kind::Unsigned, "ui64", "U64", "<u8"},
    {ElementType::U32, 4, Kind::Unsigned, "ui32", "U32", "<u4"},
    {ElementType::U16, 2, Kind::Unsigned, "ui16", "U16", "<u2"},
    {ElementType::U8, 1, Kind::Unsigned, "ui8", "U8", "|u1"},
    {ElementType::Bool, 1, Kind::Other, "i1", "BOOL", "|b1"},
    {ElementType::Opaque, 0, Kind::Other, "opaque", "", ""},
};

static const TypeInfo &getInfo(ElementType type) {
  const TypeInfo &info = kTypes[static_cast<size_t>(type)];
  assert(info.type == type && "kTypes is not in the order of the enum");
  return info;
}

/// The type whose `field` is `name`, which must not be empty: the types that a
/// format lacks have an empty name there.
static std::optional<ElementType>
findByName(StringRef name, const StringLiteral TypeInfo::*field) {
  if (name.empty())
    return std::nullopt;
  const TypeInfo *info = find_if(
      kTypes, [&](const TypeInfo &info) { return info.*field == name; });
  if (info == std::end(kTypes))
    return std::nullopt;
  return info->type;
}

uint64_t mlir::moe::getElementSize(ElementType type) {
  return getInfo(type).size;
}

bool mlir::moe::isFloat(ElementType type) {
  return getInfo(type).kind == Kind::Float;
}

bool mlir::moe::isInteger(ElementType type) {
  Kind kind = getInfo(type).kind;
  return kind == Kind::Signed || kind == Kind::Unsigned;
}

StringRef mlir::moe::getName(ElementType type) { return getInfo(type).name; }

StringRef mlir::moe::getSafetensorsName(ElementType type) {
  return getInfo(type).safetensorsName;
}

std::optional<ElementType> mlir::moe::parseSafetensorsName(StringRef name) {
  return findByName(name, &TypeInfo::safetensorsName);
}

StringRef mlir::moe::getNumpyDescr(ElementType type) {
  return getInfo(type).numpyDescr;
}

std::optional<ElementType> mlir::moe::parseNumpyDescr(StringRef descr) {
  return findByName(descr, &TypeInfo::numpyDescr);
}
