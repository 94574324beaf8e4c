//===- CostText.cpp - Costs as text and as JSON -----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Analysis/Cost.h"

#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using llvm::formatv;
namespace json = llvm::json;

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

std::optional<double> Cost::getIntensity() const {
  if (getBytes() == 0)
    return std::nullopt;
  return getSum(operations) / getBytes();
}

void Cost::add(const Cost &other, double times) {
  for (auto [sum, count] : llvm::zip(operations, other.operations))
    sum += times * count;
  weightBytes += times * other.weightBytes;
  readBytes += times * other.readBytes;
  writtenBytes += times * other.writtenBytes;
}

Cost LayerCost::getTotal() const {
  Cost total;
  for (const Op &op : ops)
    total.add(op.cost);
  return total;
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

/// An expectation as an integer: no unit hides digits that one wants to check.
static std::string formatCount(double count) {
  return formatv("{0:f0}", std::round(count));
}

/// "64", "63.98".
static std::string formatMean(double mean) {
  std::string text = formatv("{0:f2}", mean);
  if (StringRef(text).ends_with(".00"))
    text.resize(text.size() - 3);
  return text;
}

static void printRow(llvm::raw_ostream &os, StringRef name, const Cost &cost) {
  std::optional<double> intensity = cost.getIntensity();
  os << formatv("  {0,-28}{1,18}{2,16}{3,16}{4,16}{5,12}\n", name,
                formatCount(getSum(cost.operations)),
                formatCount(cost.weightBytes), formatCount(cost.readBytes),
                formatCount(cost.writtenBytes),
                intensity ? std::string(formatv("{0:f2}", *intensity)) : "-");
}

void LayerCost::print(llvm::raw_ostream &os) const {
  os << "cost of @" << function << ": ";
  if (numTokens)
    os << *numTokens << " tokens, ";
  os << "routing " << routing << '\n';
  for (const Routing &each : routings)
    os << "  " << formatMean(each.numRows) << " rows on "
       << formatMean(each.numTouched) << " of " << formatMean(each.numExperts)
       << " experts, at most " << formatMean(each.maxRows) << " on one\n";
  os << formatv("  {0,-28}{1,18}{2,16}{3,16}{4,16}{5,12}\n", "op", "FLOP",
                "weight bytes", "bytes read", "bytes written", "FLOP/byte");
  for (const Op &op : ops) {
    std::string name = op.name;
    if (op.line)
      name += ":" + std::to_string(*op.line);
    printRow(os, name, op.cost);
  }
  Cost total = getTotal();
  printRow(os, "total", total);
  for (auto [type, count] : llvm::enumerate(total.operations))
    if (count != 0)
      os << "  " << formatCount(count) << " FLOP on "
         << getName(WorkClass(type)) << '\n';
  os << "  " << formatCount(intermediateBytes)
     << " bytes between the ops, each tensor in memory of its own\n";
  if (numUncounted)
    os << "  " << numUncounted
       << " contractions or calls inside control flow are not counted\n";
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

static json::Object toObject(const Cost &cost) {
  json::Object byType;
  for (auto [type, count] : llvm::enumerate(cost.operations))
    byType[getName(WorkClass(type))] = count;
  json::Object object{{"contraction_flops", getSum(cost.operations)},
                      {"contraction_flops_by_type", std::move(byType)},
                      {"weight_bytes", cost.weightBytes},
                      {"read_bytes", cost.readBytes},
                      {"written_bytes", cost.writtenBytes},
                      {"flops_per_byte", nullptr}};
  if (std::optional<double> intensity = cost.getIntensity())
    object["flops_per_byte"] = *intensity;
  return object;
}

json::Value LayerCost::toJSON() const {
  json::Array opArray, routingArray;
  for (const Op &op : ops) {
    json::Object object = toObject(op.cost);
    object["op"] = op.name;
    object["line"] = op.line ? json::Value(*op.line) : json::Value(nullptr);
    opArray.push_back(std::move(object));
  }
  for (const Routing &each : routings)
    routingArray.push_back(json::Object{{"experts", each.numExperts},
                                        {"experts_with_rows", each.numTouched},
                                        {"rows", each.numRows},
                                        {"most_rows", each.maxRows}});
  return json::Object{
      {"function", json::fixUTF8(function)},
      {"tokens", numTokens ? json::Value(*numTokens) : json::Value(nullptr)},
      {"routing", json::fixUTF8(routing)},
      {"routings", std::move(routingArray)},
      {"ops", std::move(opArray)},
      {"total", toObject(getTotal())},
      {"intermediate_bytes", intermediateBytes},
      {"uncounted", numUncounted}};
}
