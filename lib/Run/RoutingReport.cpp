//===- RoutingReport.cpp - What a run tells of its routing ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/RoutingReport.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/Support/Format.h"
#include <cmath>

using namespace mlir::moe;
namespace json = llvm::json;

/// Experts that the table shows at most.
static constexpr size_t kMaxListed = 32;

//===----------------------------------------------------------------------===//
// Figures
//===----------------------------------------------------------------------===//

double LayerRouting::getShare(size_t i) const {
  return routed ? static_cast<double>(tokens[i]) / routed : 0;
}

double LayerRouting::getEntropy() const {
  double entropy = 0;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (double share = getShare(i); share > 0)
      entropy -= share * std::log2(share);
  return std::abs(entropy); // Not −0.
}

std::optional<double> LayerRouting::getMaxOverMean() const {
  if (!routed)
    return std::nullopt;
  double mean = static_cast<double>(routed) / tokens.size();
  return *llvm::max_element(tokens) / mean;
}

template <typename T>
static std::vector<T> readElements(const HostTensor &tensor) {
  auto *data = reinterpret_cast<const T *>(tensor.getData());
  return std::vector<T>(data, data + tensor.getByteSize() / sizeof(T));
}

std::vector<LayerRouting>
mlir::moe::readRouting(llvm::ArrayRef<AppendedStatistic> appended,
                       llvm::ArrayRef<HostTensor> results) {
  std::vector<LayerRouting> layers;
  for (auto [what, tensor] : llvm::zip_equal(appended, results)) {
    if (what.layer >= layers.size())
      layers.resize(what.layer + 1);
    LayerRouting &layer = layers[what.layer];
    switch (what.statistic) {
    case RoutingStatistic::Tokens:
      layer.tokens = readElements<int64_t>(tensor);
      break;
    case RoutingStatistic::Choices: {
      std::vector<int64_t> choices = readElements<int64_t>(tensor);
      layer.routed = choices[0];
      layer.dropped = choices[1];
      layer.nowhere = choices[2];
      break;
    }
    case RoutingStatistic::Contribution:
      layer.contribution = readElements<double>(tensor);
      break;
    case RoutingStatistic::Ids:
      break;
    }
  }
  return layers;
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

static void printExpert(const LayerRouting &layer, size_t expert,
                        llvm::raw_ostream &os) {
  os << llvm::format("routing: %8zu %9lld %6.2f %%", expert,
                     static_cast<long long>(layer.tokens[expert]),
                     layer.getShare(expert) * 100);
  if (layer.contribution)
    os << llvm::format(" %13.6g", (*layer.contribution)[expert]);
  os << '\n';
}

/// The experts to list, in ascending order: all, or those with the most rows.
static std::vector<size_t> chooseExperts(const LayerRouting &layer) {
  auto experts = llvm::to_vector(llvm::seq<size_t>(0, layer.tokens.size()));
  if (experts.size() > kMaxListed) {
    llvm::sort(experts, [&](size_t a, size_t b) {
      return std::make_pair(-layer.tokens[a], a) <
             std::make_pair(-layer.tokens[b], b);
    });
    experts.resize(kMaxListed);
    llvm::sort(experts);
  }
  return {experts.begin(), experts.end()};
}

static void print(const LayerRouting &layer, size_t number,
                  llvm::raw_ostream &os) {
  size_t numExperts = layer.tokens.size();
  os << "routing: layer " << number << ": "
     << layer.routed + layer.dropped + layer.nowhere << " choices, "
     << layer.routed << " routed to " << numExperts << " experts, "
     << layer.dropped << " dropped, " << layer.nowhere << " nowhere\n"
     << "routing: layer " << number << ": entropy "
     << llvm::format("%.3f of %.3f bits", layer.getEntropy(),
                     numExperts ? std::log2(numExperts) : 0.0)
     << ", max/mean load ";
  if (std::optional<double> ratio = layer.getMaxOverMean())
    os << llvm::format("%.3f", *ratio);
  else
    os << "undefined, as nothing is routed";
  os << ", " << llvm::count(layer.tokens, 0) << " experts without tokens\n";
  if (layer.contribution)
    os << "routing:   expert    tokens    share  contribution\n";
  else
    os << "routing:   expert    tokens    share\n";
  std::vector<size_t> experts = chooseExperts(layer);
  for (size_t expert : experts)
    printExpert(layer, expert, os);
  if (experts.size() == numExperts)
    return;
  int64_t listed = 0;
  for (size_t expert : experts)
    listed += layer.tokens[expert];
  os << "routing: the other " << numExperts - experts.size() << " experts have "
     << layer.routed - listed
     << " tokens together; --stats=FILE.json has all\n";
}

void mlir::moe::printRouting(llvm::ArrayRef<LayerRouting> layers,
                             llvm::raw_ostream &os) {
  for (auto [i, layer] : llvm::enumerate(layers))
    print(layer, i, os);
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

/// JSON has no infinity: null.
static json::Value toNumber(double value) {
  if (!std::isfinite(value))
    return nullptr;
  return value;
}

static json::Value toJSON(const LayerRouting &layer) {
  json::Array shares;
  for (size_t i = 0; i < layer.tokens.size(); ++i)
    shares.push_back(layer.getShare(i));
  json::Object object{{"experts", layer.tokens.size()},
                      {"tokens", json::Array(layer.tokens)},
                      {"share", std::move(shares)},
                      {"routed", layer.routed},
                      {"dropped", layer.dropped},
                      {"nowhere", layer.nowhere},
                      {"entropy_bits", layer.getEntropy()},
                      {"max_over_mean", nullptr},
                      {"contribution", nullptr}};
  if (std::optional<double> ratio = layer.getMaxOverMean())
    object["max_over_mean"] = *ratio;
  if (layer.contribution) {
    json::Array norms;
    for (double norm : *layer.contribution)
      norms.push_back(toNumber(norm));
    object["contribution"] = std::move(norms);
  }
  return object;
}

json::Array mlir::moe::toJSON(llvm::ArrayRef<LayerRouting> layers) {
  json::Array array;
  for (const LayerRouting &layer : layers)
    array.push_back(::toJSON(layer));
  return array;
}
