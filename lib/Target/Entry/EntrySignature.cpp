//===- EntrySignature.cpp - What a layer's entry function takes -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/EntrySignature.h"

#include "mlir/IR/Diagnostics.h"
#include "moe/Dialect/MoE/Transforms/PackWeights.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Element types
//===----------------------------------------------------------------------===//

std::optional<moe_type> mlir::moe::getCType(ElementType type) {
  switch (type) {
  case ElementType::F64:
    return MOE_F64;
  case ElementType::F32:
    return MOE_F32;
  case ElementType::F16:
    return MOE_F16;
  case ElementType::BF16:
    return MOE_BF16;
  case ElementType::I64:
    return MOE_I64;
  case ElementType::I32:
    return MOE_I32;
  case ElementType::I16:
    return MOE_I16;
  case ElementType::I8:
    return MOE_I8;
  case ElementType::Bool:
    return MOE_BOOL;
  default:
    return std::nullopt;
  }
}

std::optional<ElementType> mlir::moe::getElementType(Type type) {
  if (isa<Float64Type>(type))
    return ElementType::F64;
  if (isa<Float32Type>(type))
    return ElementType::F32;
  if (isa<Float16Type>(type))
    return ElementType::F16;
  if (isa<BFloat16Type>(type))
    return ElementType::BF16;
  if (isa<Float8E4M3FNType>(type))
    return ElementType::F8E4M3FN;
  if (isa<Float8E5M2Type>(type))
    return ElementType::F8E5M2;
  auto integer = dyn_cast<IntegerType>(type);
  if (!integer || !integer.isSignless())
    return std::nullopt;
  switch (integer.getWidth()) {
  case 64:
    return ElementType::I64;
  case 32:
    return ElementType::I32;
  case 16:
    return ElementType::I16;
  case 8:
    return ElementType::I8;
  case 1:
    return ElementType::Bool;
  default:
    return std::nullopt;
  }
}

std::string EntryTensor::getTypeText() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "tensor<";
  for (int64_t size : shape) {
    if (ShapedType::isDynamic(size))
      os << "?x";
    else
      os << size << 'x';
  }
  os << getName(elementType) << '>';
  return text;
}

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

/// Names that a parameter or function of the header cannot have: keywords of
/// C99 and C++17, macros that compilers predefine, and the header's own names.
static constexpr llvm::StringLiteral kReservedNames =
    "alignas alignof and and_eq asm auto bitand bitor bool break case "
    "catch char char16_t char32_t class compl const const_cast constexpr "
    "continue decltype default delete do double dynamic_cast else enum "
    "explicit export extern false float for friend goto if inline int "
    "long mutable namespace new noexcept not not_eq nullptr operator or "
    "or_eq private protected public register reinterpret_cast restrict "
    "return short signed sizeof static static_assert static_cast struct "
    "switch template this thread_local throw true try typedef typeid "
    "typename union unsigned using virtual void volatile wchar_t while "
    "xor xor_eq NULL linux unix size_t int32_t int64_t moe_tensor "
    "moe_type workspace workspace_bytes";

static bool isReservedInC(StringRef name) {
  static const llvm::StringSet<> reserved = [] {
    llvm::StringSet<> names;
    for (StringRef word : llvm::split(kReservedNames, ' '))
      names.insert(word);
    return names;
  }();
  return reserved.contains(name);
}

std::string mlir::moe::mangleForC(StringRef text) {
  std::string name;
  for (char c : text)
    name += llvm::isAlnum(c) ? c : '_';
  if (name.empty() || llvm::isDigit(name.front()))
    name.insert(name.begin(), '_');
  if (isReservedInC(name))
    name += '_';
  return name;
}

/// `name`, or `name`_1, `name`_2, ... if it is taken; takes it.
static std::string makeUnique(llvm::StringSet<> &taken, std::string name) {
  std::string candidate = name;
  for (unsigned i = 1; !taken.insert(candidate).second; ++i)
    candidate = name + "_" + std::to_string(i);
  return candidate;
}

//===----------------------------------------------------------------------===//
// The entry function
//===----------------------------------------------------------------------===//

/// "@a, @b, and 3 more".
static std::string listNames(ArrayRef<func::FuncOp> functions) {
  constexpr size_t maxListed = 8;
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleaveComma(
      functions.take_front(maxListed), os,
      [&](func::FuncOp func) { os << '@' << func.getName(); });
  if (functions.size() > maxListed)
    os << ", and " << functions.size() - maxListed << " more";
  return text;
}

/// The functions that pack the weights of others.
static llvm::StringSet<> findPackingFunctions(Operation *symbolTable) {
  llvm::StringSet<> names;
  for (auto func : symbolTable->getRegion(0).getOps<func::FuncOp>())
    if (auto packing = func->getAttrOfType<FlatSymbolRefAttr>(kPackAttr))
      names.insert(packing.getValue());
  return names;
}

FailureOr<func::FuncOp> mlir::moe::findEntry(Operation *symbolTable,
                                             StringRef name) {
  llvm::StringSet<> packing = findPackingFunctions(symbolTable);
  SmallVector<func::FuncOp> candidates;
  for (auto func : symbolTable->getRegion(0).getOps<func::FuncOp>()) {
    if (func.isExternal())
      continue;
    if (!name.empty() && func.getName() == name)
      return func;
    if (func.isPublic() && !packing.contains(func.getName()))
      candidates.push_back(func);
  }
  if (name.empty() && candidates.size() == 1)
    return candidates.front();

  InFlightDiagnostic error = emitError(symbolTable->getLoc());
  if (!name.empty())
    error << "there is no function @" << name << " with a body";
  else if (candidates.empty())
    return error << "there is no public function with a body to compile";
  else
    error << "there are " << candidates.size()
          << " public functions; name the one to compile";
  if (!candidates.empty())
    error << ": " << listNames(candidates);
  return error;
}

/// The string attribute `name`, which the dialect verifies; empty if missing.
static std::string readString(DictionaryAttr attrs, StringRef name) {
  auto text = attrs ? attrs.getAs<StringAttr>(name) : StringAttr();
  return text ? text.str() : std::string();
}

/// Reads all but the names of the header. `what` is "argument 3" or "result 0".
static FailureOr<EntryTensor> readTensor(func::FuncOp entry, StringRef what,
                                         Type type, DictionaryAttr attrs) {
  auto fail = [&] {
    return entry.emitError() << what << " of @" << entry.getName() << " is a "
                             << type << ", but ";
  };
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return fail() << "an entry function takes and returns ranked tensors only";
  if (tensor.getEncoding())
    return fail() << "an entry function takes tensors without encoding only";
  std::optional<ElementType> elementType =
      getElementType(tensor.getElementType());
  if (!elementType || !getCType(*elementType))
    return fail() << "the element types of an entry function are f64, f32, "
                  << "f16, bf16, i64, i32, i16, i8 and i1";

  EntryTensor result;
  result.elementType = *elementType;
  result.shape.assign(tensor.getShape().begin(), tensor.getShape().end());
  result.name = readString(attrs, kNameAttr);
  result.param = readString(attrs, kParamAttr);
  return result;
}

/// Fills the names that the IR does not give, and checks that all differ.
static LogicalResult nameTensors(func::FuncOp entry,
                                 EntrySignature &signature) {
  llvm::StringSet<> names;
  for (size_t i = 0, e = signature.getNumTensors(); i < e; ++i) {
    const std::string &name = signature.getTensor(i).name;
    if (!name.empty() && !names.insert(name).second)
      return entry.emitError() << "two arguments or results of @"
                               << entry.getName() << " have the name '" << name
                               << "'; give one another " << kNameAttr;
  }
  for (auto [i, argument] : llvm::enumerate(signature.arguments))
    if (argument.name.empty())
      argument.name = makeUnique(names, "arg" + std::to_string(i));
  bool isOnly = signature.results.size() == 1;
  for (auto [i, result] : llvm::enumerate(signature.results))
    if (result.name.empty())
      result.name = makeUnique(names, isOnly ? "y" : "y" + std::to_string(i));

  llvm::StringSet<> cNames;
  for (size_t i = 0, e = signature.getNumTensors(); i < e; ++i) {
    EntryTensor &tensor = signature.getTensor(i);
    tensor.cName = makeUnique(cNames, mangleForC(tensor.name));
  }
  return success();
}

FailureOr<EntrySignature> mlir::moe::readEntrySignature(func::FuncOp entry) {
  EntrySignature signature;
  signature.name = entry.getName().str();
  signature.cName = mangleForC(signature.name);
  for (auto [i, type] : llvm::enumerate(entry.getArgumentTypes())) {
    FailureOr<EntryTensor> argument = readTensor(
        entry, "argument " + std::to_string(i), type, entry.getArgAttrDict(i));
    if (failed(argument))
      return failure();
    signature.arguments.push_back(std::move(*argument));
  }
  for (auto [i, type] : llvm::enumerate(entry.getResultTypes())) {
    FailureOr<EntryTensor> result = readTensor(
        entry, "result " + std::to_string(i), type, entry.getResultAttrDict(i));
    if (failed(result))
      return failure();
    signature.results.push_back(std::move(*result));
  }
  if (signature.results.empty())
    return entry.emitError() << "@" << entry.getName()
                             << " returns nothing that a caller could read";
  if (failed(nameTensors(entry, signature)))
    return failure();
  return signature;
}

//===----------------------------------------------------------------------===//
// Statuses
//===----------------------------------------------------------------------===//

static void printSizes(raw_ostream &os, const moe_tensor &tensor,
                       const int64_t *sizes) {
  os << '[';
  llvm::interleaveComma(ArrayRef(sizes, tensor.rank), os);
  os << ']';
}

/// What is wrong with `tensor`, which the signature describes as `expected`.
static void explain(raw_ostream &os, int32_t code, const EntryTensor &expected,
                    const moe_tensor *tensor) {
  switch (code) {
  case MOE_NULL_POINTER:
    os << "the tensor, its data or its shape is NULL";
    return;
  case MOE_BAD_RANK:
    os << "wrong rank";
    if (tensor)
      os << ' ' << tensor->rank;
    return;
  case MOE_BAD_TYPE:
    os << "wrong element type";
    if (tensor)
      os << ' ' << tensor->type;
    return;
  case MOE_BAD_SHAPE:
    os << "the shape";
    if (tensor && tensor->rank) {
      os << ' ';
      printSizes(os, *tensor, tensor->shape);
    }
    os << " differs from the compiled one, or from what other arguments imply";
    return;
  case MOE_BAD_STRIDES:
    os << "the strides";
    if (tensor && tensor->strides) {
      os << ' ';
      printSizes(os, *tensor, tensor->strides);
    }
    os << " are not row-major";
    return;
  case MOE_TOO_MANY_CHOICES:
    os << "tokens times k reaches 2^31";
    return;
  case MOE_BAD_ALIGNMENT:
    os << "data on a GPU is not aligned to 16 bytes";
    return;
  case MOE_BAD_EXPERT:
    os << "there is no slab for this expert";
    if (tensor && tensor->rank)
      os << ", but slabs for " << tensor->shape[0];
    return;
  default:
    os << "status " << code;
  }
}

llvm::Error mlir::moe::statusToError(int32_t status,
                                     const EntrySignature &signature,
                                     ArrayRef<const moe_tensor *> tensors,
                                     std::optional<size_t> workspaceBytes) {
  if (status == MOE_OK)
    return llvm::Error::success();
  std::string text;
  llvm::raw_string_ostream os(text);
  os << '@' << signature.name << ": ";
  int32_t code = MOE_STATUS_CODE(status);
  int32_t index = MOE_STATUS_TENSOR(status);
  std::string reason = explainSizes(status, signature, tensors);
  if (index < 0 || static_cast<size_t>(index) >= signature.getNumTensors()) {
    if (!reason.empty())
      os << reason;
    else if (code == MOE_WORKSPACE_TOO_SMALL)
      os << explainWorkspace(signature, tensors, workspaceBytes);
    else if (code == MOE_TOO_MANY_CHOICES)
      os << "tokens times k reaches 2^31";
    else if (code == MOE_UNSUPPORTED_CPU)
      os << "this machine does not have the instructions that the code needs";
    else if (code == MOE_UNKNOWN_ISA)
      os << "the environment variable MOE_ISA names an instruction set that it "
            "was not compiled for";
    else if (code == MOE_DEVICE_ERROR)
      os << "the GPU or its driver reports an error";
    else
      os << "status " << status;
    return llvm::createStringError(text);
  }
  const EntryTensor &expected = signature.getTensor(index);
  os << '\'' << expected.name << "', a " << expected.getTypeText() << ": ";
  if (!reason.empty())
    return llvm::createStringError(text + reason);
  const moe_tensor *tensor =
      static_cast<size_t>(index) < tensors.size() ? tensors[index] : nullptr;
  explain(os, code, expected, tensor);
  return llvm::createStringError(text);
}
