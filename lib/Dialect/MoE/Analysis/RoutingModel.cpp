//===- RoutingModel.cpp - How many rows each expert gets --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Analysis/RoutingModel.h"

#include "moe/Support/JsonMembers.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <numeric>
#include <optional>

using namespace mlir::moe;
using llvm::StringRef;

static constexpr llvm::StringLiteral kCounts("tokens_per_expert");

//===----------------------------------------------------------------------===//
// ExpertLoad
//===----------------------------------------------------------------------===//

static double getSum(llvm::ArrayRef<double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

double ExpertLoad::getNumRows() const { return getSum(rows); }
double ExpertLoad::getNumTouched() const { return getSum(touched); }

double ExpertLoad::getMaxRows() const {
  return rows.empty() ? 0 : *llvm::max_element(rows);
}

void ExpertLoad::limit(double capacity) {
  for (auto [count, isTouched] : llvm::zip(rows, touched)) {
    count = std::min(count, std::max(capacity, 0.0));
    if (capacity <= 0)
      isTouched = 0;
  }
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

static llvm::Error makeError(const llvm::Twine &message) {
  return llvm::createStringError(message.str());
}

/// The number of an element of a list of counts.
static llvm::Error append(std::optional<int64_t> count, size_t position,
                          StringRef path, std::vector<int64_t> &counts) {
  constexpr int64_t limit = int64_t(1) << 31;
  if (!count || *count < 0 || *count >= limit)
    return makeError("'" + path + "': count " + llvm::Twine(position) +
                     " is no number of tokens, an integer of 0 to 2^31 - 1");
  counts.push_back(*count);
  return llvm::Error::success();
}

static llvm::Error readArray(StringRef text, StringRef path,
                             std::vector<int64_t> &counts) {
  // What is nested is no array of integers, and could be nested deeply.
  bool isNested = text.drop_front(1).find_first_of("[{") != StringRef::npos;
  if (!text.starts_with("[") || isNested)
    return makeError("'" + path + "': " + kCounts +
                     " has to be an array of integers, one an expert");
  llvm::Expected<llvm::json::Value> value = llvm::json::parse(text);
  if (!value)
    return makeError("'" + path + "': " + llvm::toString(value.takeError()));
  const llvm::json::Array *array = value->getAsArray();
  for (auto [i, element] : llvm::enumerate(*array))
    if (llvm::Error error = append(element.getAsInteger(), i, path, counts))
      return error;
  return llvm::Error::success();
}

/// The counts in what moe-run --stats writes, {"layers": [{"tokens": [...]}]},
/// of the only layer.
static llvm::Error readStatistics(StringRef text, StringRef path,
                                  std::vector<int64_t> &counts) {
  // llvm::json recurses once for every open bracket.
  constexpr unsigned maxDepth = 64;
  unsigned depth = 0;
  for (char c : text) {
    depth += c == '[' || c == '{';
    depth -= depth && (c == ']' || c == '}');
    if (depth > maxDepth)
      return makeError("'" + path + "' is no file of moe-run --stats");
  }
  llvm::Expected<llvm::json::Value> value = llvm::json::parse(text);
  if (!value)
    return makeError("'" + path + "': " + llvm::toString(value.takeError()));
  const llvm::json::Array *layers = value->getAsArray();
  if (!layers || layers->size() != 1)
    return makeError("'" + path + "' has statistics of " +
                     llvm::Twine(layers ? layers->size() : 0) +
                     " layers; write the counts of one of them to a file, as "
                     "an array of integers");
  const llvm::json::Object *layer = layers->front().getAsObject();
  const llvm::json::Array *tokens = layer ? layer->getArray("tokens") : nullptr;
  if (!tokens)
    return makeError("'" + path + "': the layer has no array 'tokens'");
  for (auto [i, element] : llvm::enumerate(*tokens))
    if (llvm::Error error = append(element.getAsInteger(), i, path, counts))
      return error;
  return llvm::Error::success();
}

static llvm::Error readObject(StringRef text, StringRef path,
                              std::vector<int64_t> &counts) {
  bool isFound = false;
  llvm::Error error = forEachJsonMember(
      text, [&](StringRef name, StringRef value) -> llvm::Error {
        if (isFound || (name != kCounts && name != "layers"))
          return llvm::Error::success();
        isFound = true;
        return name == kCounts ? readArray(value, path, counts)
                               : readStatistics(value, path, counts);
      });
  if (error)
    return error;
  if (!isFound)
    return makeError("'" + path + "' has no member '" + kCounts +
                     "', an array of integers, one an expert");
  return llvm::Error::success();
}

static llvm::Error readNumbers(StringRef text, StringRef path,
                               std::vector<int64_t> &counts) {
  llvm::SmallVector<StringRef> words;
  llvm::SplitString(text, words, " \t\r\n,");
  for (auto [i, word] : llvm::enumerate(words)) {
    int64_t count;
    bool isNumber = !word.getAsInteger(10, count);
    if (llvm::Error error =
            append(isNumber ? std::optional<int64_t>(count) : std::nullopt, i,
                   path, counts))
      return error;
  }
  return llvm::Error::success();
}

llvm::Error RoutingModel::readCounts(StringRef path) {
  auto file = llvm::MemoryBuffer::getFile(path);
  if (!file)
    return makeError("cannot read '" + path +
                     "': " + file.getError().message());
  isCounted = true;
  StringRef content = (*file)->getBuffer().trim();
  if (content.starts_with("{"))
    return readObject(content, path, counts);
  if (content.starts_with("["))
    return readArray(content, path, counts);
  return readNumbers(content, path, counts);
}

llvm::Expected<RoutingModel> RoutingModel::parse(StringRef text) {
  RoutingModel model;
  model.text = text.str();
  StringRef rest = text;
  if (rest == "uniform")
    return model;
  if (rest.consume_front("file:")) {
    if (llvm::Error error = model.readCounts(rest))
      return std::move(error);
    return model;
  }
  if (rest.consume_front("zipf:")) {
    if (rest.getAsDouble(model.exponent) || !std::isfinite(model.exponent) ||
        model.exponent < 0)
      return makeError("the exponent of zipf is '" + rest +
                       "', not a number of at least 0: zipf:1.0");
    return model;
  }
  return makeError("'" + text +
                   "' is no routing: uniform, zipf:EXPONENT or file:PATH");
}

//===----------------------------------------------------------------------===//
// Distributing
//===----------------------------------------------------------------------===//

/// Probabilities in proportion to (e + 1)^-exponent that add up to `topK`, none
/// above 1: what is too much for one expert goes to the others.
static llvm::SmallVector<double, 0>
getProbabilities(double exponent, int64_t topK, int64_t numExperts) {
  llvm::SmallVector<double, 0> shares(numExperts);
  for (auto [e, share] : llvm::enumerate(shares))
    share = std::pow(e + 1.0, -exponent);
  double rest = getSum(shares);
  double left = std::min(topK, numExperts);
  // Shares descend: once one fits, all after it do.
  bool fits = false;
  for (double &share : shares) {
    double probability = rest > 0 ? share * left / rest : 0;
    fits |= probability <= 1;
    if (fits) {
      share = probability;
      continue;
    }
    rest -= share;
    left -= 1;
    share = 1;
  }
  return shares;
}

llvm::Expected<ExpertLoad> RoutingModel::distribute(int64_t numTokens,
                                                    int64_t topK,
                                                    int64_t numExperts) const {
  ExpertLoad load;
  if (!isCounted) {
    for (double q : getProbabilities(exponent, topK, numExperts)) {
      load.rows.push_back(numTokens * q);
      load.touched.push_back(1 - std::pow(1 - q, numTokens));
    }
    return load;
  }
  if (static_cast<int64_t>(counts.size()) != numExperts)
    return makeError("'" + text + "' has counts of " +
                     llvm::Twine(counts.size()) +
                     " experts, but the layer has " + llvm::Twine(numExperts));
  for (int64_t count : counts) {
    load.rows.push_back(count);
    load.touched.push_back(count > 0);
  }
  if (load.getNumRows() > double(numTokens) * topK)
    return makeError(
        "'" + text + "' counts " + llvm::Twine(int64_t(load.getNumRows())) +
        " rows, but " + llvm::Twine(numTokens) + " tokens make " +
        llvm::Twine(topK) + " choices each: " + llvm::Twine(numTokens * topK));
  return load;
}
