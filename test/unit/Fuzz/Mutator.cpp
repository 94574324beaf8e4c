//===- Mutator.cpp - Damaged IR ---------------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Mutator.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace mlir::moe::test;

//===----------------------------------------------------------------------===//
// Corpus
//===----------------------------------------------------------------------===//

/// Longer pieces cost time and find nothing that shorter ones do not.
static constexpr size_t kMaxPieceBytes = 6000;
static constexpr size_t kShortPieceBytes = 1500;

/// Contents of all files under the test folder with one ending, by path.
static std::vector<std::string> readTestFiles(StringRef extension) {
  std::vector<std::string> paths;
  std::error_code code;
  sys::fs::recursive_directory_iterator it(MOE_TEST_SOURCE_DIR, code), end;
  for (; it != end && !code; it.increment(code))
    if (sys::path::extension(it->path()) == extension)
      paths.push_back(it->path());
  llvm::sort(
      paths); // The order of a directory differs from machine to machine.
  std::vector<std::string> contents;
  for (const std::string &path : paths)
    if (auto buffer = MemoryBuffer::getFile(path))
      contents.push_back((*buffer)->getBuffer().str());
  return contents;
}

static std::string withoutComments(StringRef text) {
  std::string kept;
  for (StringRef rest = text; !rest.empty();) {
    auto [line, next] = rest.split('\n');
    rest = next;
    if (!line.ltrim().starts_with("//"))
      kept += (line + "\n").str();
  }
  return kept;
}

/// A short piece as it is; of a long one each function, with the aliases
/// (`#map = …`) before it.
static std::vector<std::string> splitFunctions(StringRef piece) {
  if (piece.size() < kShortPieceBytes)
    return {piece.str()};
  std::vector<std::string> functions;
  std::string aliases;
  while (!piece.empty()) {
    auto [line, next] = piece.split('\n');
    if (line.starts_with("#") || line.starts_with("!"))
      aliases += (line + "\n").str();
    else if (line.starts_with("func.func"))
      functions.push_back(aliases + line.str() + "\n");
    else if (!functions.empty())
      functions.back() += (line + "\n").str();
    piece = next;
  }
  return functions;
}

const std::vector<std::string> &mlir::moe::test::getTextCorpus() {
  static const std::vector<std::string> corpus = [] {
    std::vector<std::string> pieces;
    for (StringRef file : readTestFiles(".mlir")) {
      SmallVector<StringRef> parts;
      file.split(parts, "// -----");
      for (StringRef part : parts)
        for (std::string &piece : splitFunctions(withoutComments(part)))
          if (!StringRef(piece).trim().empty() && piece.size() < kMaxPieceBytes)
            pieces.push_back(std::move(piece));
    }
    return pieces;
  }();
  return corpus;
}

const std::vector<std::string> &mlir::moe::test::getBytecodeCorpus() {
  static const std::vector<std::string> corpus = readTestFiles(".mlirbc");
  return corpus;
}

//===----------------------------------------------------------------------===//
// Bytes
//===----------------------------------------------------------------------===//

static void mutateByte(Random &random, std::string &bytes, StringRef other) {
  if (bytes.empty())
    bytes = "x";
  size_t at = random.pick(bytes.size());
  switch (random.pick(7)) {
  case 0:
    bytes[at] ^= char(1 << random.pick(8));
    break;
  case 1:
    bytes[at] = static_cast<char>(random.pick(256));
    break;
  case 2:
    bytes.resize(at);
    break;
  case 3:
    bytes.erase(at, random.pick(8) + 1);
    break;
  case 4:
    bytes.insert(at,
                 bytes.substr(random.pick(bytes.size()), random.pick(64) + 1));
    break;
  case 5: {
    size_t from = random.pick(other.size() + 1);
    bytes.insert(at, other.substr(from, random.pick(64) + 1).str());
    break;
  }
  default:
    std::swap(bytes[at], bytes[random.pick(bytes.size())]);
  }
}

std::string mlir::moe::test::mutateBytes(Random &random, std::string bytes,
                                         StringRef other) {
  for (uint64_t left = random.pick(4) + 1; left > 0; --left)
    mutateByte(random, bytes, other);
  return bytes;
}

//===----------------------------------------------------------------------===//
// Bytecode
//===----------------------------------------------------------------------===//

namespace {
struct Section {
  uint8_t id;
  size_t begin, size;
};
} // namespace

// As in MLIR's documentation of the format (BytecodeFormat.md).
static constexpr uint8_t kStringSection = 0, kPropertiesSection = 8;

/// A number of 1 to 9 bytes; the trailing zeros of the first tell how many.
static uint64_t readVarInt(StringRef bytes, size_t &at) {
  if (at >= bytes.size())
    return 0;
  uint8_t first = bytes[at++];
  unsigned more = first ? llvm::countr_zero(first) : 8;
  uint64_t value = first ? first >> (more + 1) : 0;
  unsigned shift = first ? 7 - more : 0;
  for (; more > 0 && at < bytes.size(); --more, shift += 8)
    value |= uint64_t(uint8_t(bytes[at++])) << shift;
  return value;
}

static SmallVector<Section> findSections(StringRef bytes) {
  SmallVector<Section> sections;
  size_t at = 4; // After the magic number.
  readVarInt(bytes, at);
  at = bytes.find('\0', at); // The producer's name.
  for (at = at == StringRef::npos ? bytes.size() : at + 1; at < bytes.size();) {
    uint8_t id = bytes[at++];
    size_t size = readVarInt(bytes, at);
    if (id & 0x80) { // Aligned: the alignment, then padding.
      readVarInt(bytes, at);
      at = std::min(bytes.find_if_not([](char c) { return c == '\xCB'; }, at),
                    bytes.size());
    }
    size = std::min(size, bytes.size() - at);
    sections.push_back({static_cast<uint8_t>(id & 0x7f), at, size});
    at += size;
  }
  return sections;
}

/// Places of the characters of strings: they stand after all lengths.
static std::vector<size_t> findCharacters(StringRef bytes, Section section) {
  size_t at = section.begin, end = section.begin + section.size, total = 0;
  for (uint64_t left = readVarInt(bytes, at); left > 0 && at < end; --left)
    total += readVarInt(bytes, at);
  std::vector<size_t> places;
  for (size_t i = end - std::min(total, end - at); i < end; ++i)
    if (bytes[i] != '\0')
      places.push_back(i);
  return places;
}

/// Places of the bytes of properties; their lengths stand between them.
static std::vector<size_t> findProperties(StringRef bytes, Section section) {
  size_t at = section.begin, end = section.begin + section.size;
  std::vector<size_t> places;
  for (uint64_t left = readVarInt(bytes, at); left > 0 && at < end; --left)
    for (uint64_t size = readVarInt(bytes, at); size > 0 && at < end; --size)
      places.push_back(at++);
  return places;
}

std::string mlir::moe::test::mutateBytecode(Random &random, std::string bytes) {
  if (random.oneIn(8))
    return bytes.substr(0, random.pick(bytes.size()));
  std::vector<size_t> places;
  for (Section section : findSections(bytes))
    if (section.id == kStringSection)
      llvm::append_range(places, findCharacters(bytes, section));
    else if (section.id == kPropertiesSection)
      llvm::append_range(places, findProperties(bytes, section));
  if (places.empty())
    return bytes;
  for (uint64_t left = random.pick(4) + 1; left > 0; --left) {
    char &byte = bytes[random.choose(places)];
    byte = random.oneIn(2) ? byte ^ char(1 << random.pick(8))
                           : static_cast<char>(random.pick(255) + 1);
  }
  return bytes;
}

//===----------------------------------------------------------------------===//
// Words
//===----------------------------------------------------------------------===//

namespace {
/// A text as words: names, numbers, marks and the blanks between them.
using Words = std::vector<std::string>;
} // namespace

static bool isWordChar(char c) { return isAlnum(c) || c == '_' || c == '.'; }

/// `tensor<4x8xf32>` comes apart into tensor < 4 x 8 x f32 >, so that a size or
/// an element type is a word.
static Words splitWords(StringRef text) {
  Words words;
  while (!text.empty()) {
    size_t length = 1;
    if (isDigit(text[0])) {
      length = text.find_if_not(isDigit);
    } else if (text[0] == 'x' && text.size() > 1 &&
               (isDigit(text[1]) || text[1] == '?' || text.starts_with("xf") ||
                text.starts_with("xbf") || text.starts_with("xi"))) {
      length = 1;
    } else if (isWordChar(text[0])) {
      length = text.find_if_not(isWordChar);
    } else if (StringRef("%#@^").contains(text[0])) {
      length = text.find_if_not(isWordChar, 1);
    } else if (isSpace(text[0])) {
      length = text.find_if_not(isSpace);
    }
    length = std::min(length, text.size());
    words.push_back(text.take_front(length).str());
    text = text.drop_front(length);
  }
  return words;
}

static bool isNumber(StringRef word) { return isDigit(word[0]) || word == "?"; }

static bool isElementType(StringRef word) {
  return StringSwitch<bool>(word)
      .Cases({"f16", "bf16", "f32", "f64", "i1", "i8", "i32", "i64", "index"},
             true)
      .Default(false);
}

/// Words of which one may stand where another does; numbers and types have odd
/// ones as well.
static ArrayRef<StringRef> getKind(StringRef word, bool odd = false) {
  static const StringRef numbers[] = {"0", "1", "2",  "3",  "4", "5",
                                      "7", "8", "16", "64", "?", "?"};
  static const StringRef oddNumbers[] = {
      "2147483647", "2147483648", "4294967296", "9223372036854775807",
      "-1",         "0x7FC00000", "1.0e+40",    "9223372036854775808"};
  static const StringRef types[] = {"f16", "bf16", "f32", "f64",  "i1",
                                    "i8",  "i32",  "i64", "index"};
  static const StringRef oddTypes[] = {
      "f8E4M3FN",     "tf32",          "i4",         "ui8", "i0", "none",
      "complex<f32>", "vector<2xf32>", "tensor<f32>"};
  static const StringRef kinds[][8] = {
      {"softmax", "sigmoid", "sqrt_softplus", "none"},
      {"scores", "logits", "all", "selected"},
      {"max", "top2_sum", "neg_inf", "zero", "add", "clamp"},
      {"token_major", "choice_major"},
      {"bias", "mix", "base", "capacity", "priority", "tokens_per_group"},
      {"tokens", "choices", "rows", "params", "slots", "weights", "offsets"},
      {"ins", "outs", "ids", "in_bounds", "scope", "select_on", "order"},
      {"groups", "renormalize", "scale", "score"},
      {"eps", "mode", "count", "keep", "mask"},
      {"router", "extras", "weight_extras", "id_map", "products", "combine",
       "decode", "source"},
      {"t", "e", "j", "k", "m", "n", "floordiv", "mod"},
      {"moe.gate", "moe.dispatch", "moe.plan", "moe.expert", "moe.combine",
       "moe.yield", "moe.route", "moe.grouped_matmul"},
      {"tensor", "memref", "vector"},
      {"arith.addf", "arith.mulf", "arith.divf", "arith.maximumf", "arith.subf",
       "math.atan2", "math.powf"},
      {"arith.negf", "math.exp", "math.absf", "math.tanh", "math.erf"},
      {"arith.addi", "arith.muli", "arith.subi", "arith.divui", "arith.shli"},
      {"arith.extf", "arith.truncf", "arith.bitcast", "tensor.cast"},
      {"true", "false", "unit", "none"}};
  if (isNumber(word))
    return odd ? ArrayRef(oddNumbers) : ArrayRef(numbers);
  if (isElementType(word))
    return odd ? ArrayRef(oddTypes) : ArrayRef(types);
  for (ArrayRef<StringRef> kind : kinds) {
    kind = kind.take_while([](StringRef other) { return !other.empty(); });
    if (llvm::is_contained(kind, word))
      return kind;
  }
  return {};
}

/// First word from `at` on that is of a kind; the last if there is none.
static size_t findReplaceable(const Words &words, size_t at) {
  while (at + 1 < words.size() && getKind(words[at]).empty())
    ++at;
  return at;
}

static std::string chooseSimilar(Random &random, const std::string &word) {
  ArrayRef<StringRef> kind = getKind(word, /*odd=*/random.oneIn(8));
  return kind.empty() ? word : random.choose(kind).str();
}

/// The same replacement wherever a word stands: a layer of another shape, type
/// or router, which is often valid.
static void replaceEverywhere(Random &random, Words &words, size_t at) {
  std::string from = words[findReplaceable(words, at)];
  llvm::replace(words, from, chooseSimilar(random, from));
}

static void replaceOnce(Random &random, Words &words, size_t at) {
  std::string &word = words[findReplaceable(words, at)];
  word = chooseSimilar(random, word);
}

/// Another value in the place of one: `%x` becomes `%y`.
static void replaceValue(Random &random, Words &words) {
  std::vector<size_t> values;
  for (auto [i, word] : llvm::enumerate(words))
    if (word[0] == '%')
      values.push_back(i);
  if (!values.empty())
    words[random.choose(values)] = words[random.choose(values)];
}

/// First word after the end of line `at` is on.
static size_t endOfLine(const Words &words, size_t at) {
  while (at < words.size() && !StringRef(words[at]).contains('\n'))
    ++at;
  return std::min(at + 1, words.size());
}

static Words takeLines(Random &random, const Words &words) {
  size_t begin = endOfLine(words, random.pick(words.size()));
  size_t end = begin;
  for (uint64_t lines = random.pick(4) + 1; lines > 0; --lines)
    end = endOfLine(words, end);
  return Words(words.begin() + begin, words.begin() + end);
}

static void mutateGently(Random &random, Words &words, size_t at) {
  switch (random.pick(8)) {
  case 0:
    return replaceValue(random, words);
  case 1:
  case 2:
    return replaceOnce(random, words, at);
  default:
    return replaceEverywhere(random, words, at);
  }
}

static void mutateRudely(Random &random, Words &words, size_t at,
                         const Words &other) {
  auto place = words.begin() + at;
  switch (random.pick(6)) {
  case 0:
    words[at] = random.choose(words);
    return;
  case 1:
    words.erase(place);
    return;
  case 2:
    words.insert(place, random.choose(words));
    return;
  case 3:
    words.erase(place, words.begin() + endOfLine(words, at));
    return;
  case 4: {
    Words lines = takeLines(random, random.oneIn(2) ? words : other);
    size_t line = endOfLine(words, at);
    words.insert(words.begin() + line, lines.begin(), lines.end());
    return;
  }
  default:
    std::swap(words[at], words[random.pick(words.size())]);
  }
}

std::string mlir::moe::test::mutateText(Random &random, std::string text,
                                        StringRef other) {
  Words words = splitWords(text), otherWords = splitWords(other);
  for (uint64_t left = random.pick(3) + 1; left > 0; --left) {
    if (words.empty() || otherWords.empty())
      break;
    size_t at = random.pick(words.size());
    if (random.oneIn(5))
      mutateRudely(random, words, at, otherWords);
    else
      mutateGently(random, words, at);
  }
  return llvm::join(words, "");
}
