//===- BoundTensor.cpp - Tensors of files as function arguments -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/BoundTensor.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CheckedArithmetic.h"
#include <algorithm>

using namespace llvm;
using namespace mlir::moe;

/// What is copied before its pages are dropped, in bytes of the file.
static constexpr uint64_t kCopyChunk = 4 << 20;

/// Whether the bytes of one type are those of the other. Integers of the IR
/// have no sign.
static bool haveSameBits(ElementType a, ElementType b) {
  bool integers = isInteger(a) && isInteger(b);
  return a == b || (integers && getElementSize(a) == getElementSize(b));
}

static std::string describe(const MappedTensor &tensor) {
  std::string type = formatTensorType(tensor.shape, tensor.type);
  if (tensor.type == ElementType::Opaque)
    type += " (" + tensor.storedType + ")";
  return quoteName(tensor.name) + " in " + quoteName(tensor.file->getPath()) +
         " is " + type;
}

/// Whether `shape` is `expected`, where a negative dimension is any.
static bool matches(ArrayRef<int64_t> shape, ArrayRef<int64_t> expected) {
  return shape.size() == expected.size() &&
         all_of(zip(shape, expected), [](const auto &pair) {
           auto [have, want] = pair;
           return want < 0 || have == want;
         });
}

static Error checkType(const MappedTensor &tensor, ElementType type) {
  if (classifyConversion(tensor.type, type) != Conversion::Unsupported)
    return Error::success();
  return createStringError(
      describe(tensor) + ", which cannot become " + getName(type) +
      ": only floats are converted to floats, and integers to integers; store "
      "it in another type or change the type of the argument");
}

/// Compiled code reads a bool as one bit, and may do anything when the byte
/// holds more.
static Error checkBools(const MappedTensor &tensor) {
  if (tensor.type != ElementType::Bool)
    return Error::success();
  const uint8_t *bad =
      find_if(tensor.getBytes(), [](uint8_t byte) { return byte > 1; });
  if (bad == tensor.getBytes().end())
    return Error::success();
  return createStringError(
      describe(tensor) + ", but element " + Twine(bad - tensor.data) + " is " +
      Twine(unsigned(*bad)) + ", and a bool is 0 or 1; store it again as bool");
}

static Error makeUnlikeError(const Twine &part, const Twine &first) {
  return createStringError(part + ", but " + first +
                           "; all experts of one argument must have one "
                           "shape and one type");
}

//===----------------------------------------------------------------------===//
// Binding
//===----------------------------------------------------------------------===//

ArrayRef<int64_t> BoundTensor::getPartShape() const {
  return parts.empty() ? quantizedParts.front().getShape()
                       : ArrayRef<int64_t>(parts.front().shape);
}

/// What to do about a part of another shape than `expected`.
static std::string describeMisfit(ArrayRef<int64_t> expected, ElementType type,
                                  bool stacked) {
  return (Twine(", but ") + (stacked ? "each expert of " : "") +
          "the argument is " + formatTensorType(expected, type) +
          "; bind another tensor or change the type of the argument")
      .str();
}

/// Takes `name`, in whichever layout it is there, as the next part, which must
/// be `expected` in shape.
Error BoundTensor::adopt(Checkpoint &checkpoint, StringRef name,
                         ArrayRef<int64_t> expected) {
  Expected<bool> quantized = QuantizedTensor::isNeeded(checkpoint, name, type);
  if (!quantized)
    return quantized.takeError();
  if (*quantized) {
    Expected<QuantizedTensor> tensor = QuantizedTensor::open(checkpoint, name);
    return tensor ? adopt(std::move(*tensor), expected) : tensor.takeError();
  }
  Expected<MappedTensor> tensor = checkpoint.lookup(name);
  return tensor ? adopt(std::move(*tensor), expected) : tensor.takeError();
}

Error BoundTensor::adopt(QuantizedTensor tensor, ArrayRef<int64_t> expected) {
  if (!matches(tensor.getShape(), expected))
    return createStringError(tensor.describe() +
                             describeMisfit(expected, type, stacked));
  if (!parts.empty())
    return makeUnlikeError(tensor.describe(), describe(parts.front()));
  if (!quantizedParts.empty() &&
      tensor.getShape() != quantizedParts.front().getShape())
    return makeUnlikeError(tensor.describe(),
                           quantizedParts.front().describe());
  quantizedParts.push_back(std::move(tensor));
  return Error::success();
}

Error BoundTensor::adopt(MappedTensor tensor, ArrayRef<int64_t> expected) {
  if (Error error = checkType(tensor, type))
    return error;
  if (!matches(tensor.shape, expected))
    return createStringError(describe(tensor) +
                             describeMisfit(expected, type, stacked));
  if (!quantizedParts.empty())
    return makeUnlikeError(describe(tensor), quantizedParts.front().describe());
  if (!parts.empty() && (tensor.shape != parts.front().shape ||
                         tensor.type != parts.front().type))
    return makeUnlikeError(describe(tensor), describe(parts.front()));
  if (Error error = checkBools(tensor))
    return error;
  parts.push_back(std::move(tensor));
  return Error::success();
}

/// Says what converting does to the values, if anything.
void BoundTensor::writeNote(StringRef name) {
  if (!quantizedParts.empty()) {
    const QuantizedTensor &part = quantizedParts.front();
    note = (quoteName(name) + " (" + part.describeLayout() + " in " +
            quoteName(part.getPath()) + ") is dequantized to " + getName(type))
               .str();
    return;
  }
  if (parts.empty() || haveSameBits(parts.front().type, type))
    return;
  const MappedTensor &part = parts.front();
  std::string how = " is widened without loss to ";
  Conversion conversion = classifyConversion(part.type, type);
  if (conversion == Conversion::Rounds)
    how = " is rounded to nearest even to ";
  if (conversion == Conversion::Checked)
    how = " is narrowed, every value checked, to ";
  note = (quoteName(name) + " (" + getName(part.type) + " in " +
          quoteName(part.file->getPath()) + ")" + how + getName(type))
             .str();
}

/// Once all parts are there: what follows from them.
Error BoundTensor::finish(StringRef name) {
  shape.clear();
  if (stacked)
    shape.push_back(parts.size() + quantizedParts.size());
  append_range(shape, getPartShape());
  std::optional<uint64_t> bytes = getTensorBytes(shape, type);
  if (!bytes)
    return createStringError(quoteName(name) + " is " +
                             formatTensorType(shape, type) +
                             " as an argument, more than 2^63 bytes");
  byteSize = *bytes;
  writeNote(name);
  return Error::success();
}

Expected<BoundTensor> BoundTensor::bind(MappedTensor tensor,
                                        ArrayRef<int64_t> shape,
                                        ElementType type) {
  BoundTensor bound;
  bound.type = type;
  std::string name = tensor.name;
  if (Error error = bound.adopt(std::move(tensor), shape))
    return error;
  if (Error error = bound.finish(name))
    return error;
  return bound;
}

namespace {
/// The names of the experts' tensors: a number between two fixed parts.
struct ExpertPattern {
  StringRef prefix;
  StringRef suffix;

  std::string getName(uint64_t expert) const {
    return (prefix + Twine(expert) + suffix).str();
  }
  std::optional<uint64_t> parse(StringRef name) const {
    uint64_t expert;
    if (!name.consume_front(prefix) || !name.consume_back(suffix) ||
        name.getAsInteger(10, expert) || utostr(expert) != name)
      return std::nullopt;
    return expert;
  }
};
} // namespace

/// The numbers of the experts that `names`, which are sorted, hold; ascending.
static std::vector<uint64_t> listExperts(ArrayRef<std::string> names,
                                         const ExpertPattern &pattern) {
  std::vector<uint64_t> experts;
  auto first = llvm::lower_bound(
      names, pattern.prefix,
      [](StringRef name, StringRef prefix) { return name < prefix; });
  for (const std::string &name : ArrayRef(first, names.end())) {
    if (!StringRef(name).starts_with(pattern.prefix))
      break;
    if (std::optional<uint64_t> expert = pattern.parse(name))
      experts.push_back(*expert);
  }
  llvm::sort(experts);
  return experts;
}

/// Checks that `experts` are 0 ... E-1, where a negative `expected` is any E.
static Error checkExperts(ArrayRef<uint64_t> experts, int64_t expected,
                          const ExpertPattern &pattern) {
  for (uint64_t number = 0; number < experts.size(); ++number)
    if (experts[number] != number)
      return createStringError(
          "there is no " + quoteName(pattern.getName(number)) + " among the " +
          Twine(experts.size()) + " experts, of which the last is " +
          quoteName(pattern.getName(experts.back())) +
          "; the checkpoint is not complete: download it again");
  if (expected >= 0 && experts.size() != static_cast<uint64_t>(expected))
    return createStringError("the checkpoint has " + Twine(experts.size()) +
                             " experts, but the " + "argument has " +
                             Twine(expected) + "; make its first dimension " +
                             Twine(experts.size()) + " or '?'");
  return Error::success();
}

Expected<BoundTensor> BoundTensor::bindExperts(Checkpoint &checkpoint,
                                               StringRef name,
                                               ArrayRef<int64_t> shape,
                                               ElementType type) {
  auto [prefix, suffix] = name.split(kExpertPlaceholder);
  ExpertPattern pattern{prefix, suffix};
  if (suffix.contains(kExpertPlaceholder))
    return createStringError("it has more than one " + kExpertPlaceholder +
                             "; one argument stacks one tensor an expert");
  if (shape.empty())
    return createStringError("the argument is a scalar, but experts are "
                             "stacked along its first dimension; make it "
                             "?x" +
                             getName(type));
  std::vector<uint64_t> experts = listExperts(checkpoint.getNames(), pattern);
  if (experts.empty()) // For its error, with the nearest names.
    return checkpoint.lookup(pattern.getName(0)).takeError();
  if (Error error = checkExperts(experts, shape.front(), pattern))
    return error;

  BoundTensor bound;
  bound.type = type;
  bound.stacked = true;
  for (uint64_t expert : experts)
    if (Error error = bound.adopt(checkpoint, pattern.getName(expert),
                                  shape.drop_front()))
      return error;
  if (Error error = bound.finish(name))
    return error;
  return bound;
}

Expected<BoundTensor> BoundTensor::bind(Checkpoint &checkpoint, StringRef name,
                                        ArrayRef<int64_t> shape,
                                        ElementType type) {
  if (name.contains(kExpertPlaceholder)) {
    Expected<BoundTensor> bound = bindExperts(checkpoint, name, shape, type);
    if (!bound)
      return createStringError("experts " + quoteName(name) + ": " +
                               toString(bound.takeError()));
    return bound;
  }
  BoundTensor bound;
  bound.type = type;
  if (Error error = bound.adopt(checkpoint, name, shape))
    return error;
  if (Error error = bound.finish(name))
    return error;
  return bound;
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

const uint8_t *BoundTensor::getMappedData() const {
  if (stacked || parts.empty() || !haveSameBits(parts.front().type, type) ||
      !parts.front().isAligned())
    return nullptr;
  return parts.front().data;
}

/// Copies `part` to `destination` as `type`, dropping its pages on the way.
static Error copyPart(const MappedTensor &part, ElementType type,
                      uint8_t *destination) {
  ElementType from = haveSameBits(part.type, type) ? type : part.type;
  uint64_t width = getElementSize(from);
  uint64_t count = part.byteSize / width;
  uint64_t chunk = kCopyChunk / width;
  for (uint64_t done = 0; done < count; done += chunk) {
    uint64_t n = std::min(chunk, count - done);
    ArrayRef<uint8_t> source = part.getBytes().slice(done * width, n * width);
    if (Error error =
            convertElements(from, source.data(), type,
                            destination + done * getElementSize(type), n, done))
      return createStringError(describe(part) + ": " +
                               toString(std::move(error)));
    part.file->dropPages(source);
  }
  return Error::success();
}

Error BoundTensor::copyTo(MutableArrayRef<uint8_t> destination) const {
  if (destination.size() != byteSize)
    return createStringError("the tensor " + formatTensorType(shape, type) +
                             " has " + Twine(byteSize) +
                             " bytes, but its place has " +
                             Twine(destination.size()));
  uint64_t partBytes = byteSize / (parts.size() + quantizedParts.size());
  for (const MappedTensor &part : parts) {
    if (Error error = copyPart(part, type, destination.data()))
      return error;
    destination = destination.drop_front(partBytes);
  }
  for (const QuantizedTensor &part : quantizedParts) {
    if (Error error = part.copyTo(type, destination.take_front(partBytes)))
      return error;
    destination = destination.drop_front(partBytes);
  }
  return Error::success();
}
