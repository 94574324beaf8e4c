//===- Arguments.cpp - Where a run takes its arguments from -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Arguments.h"
#include "moe/Run/Weights.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"

using namespace llvm;
using namespace mlir;
using namespace mlir::moe;

std::vector<std::string> mlir::moe::getNames(ArrayRef<EntryTensor> tensors) {
  std::vector<std::string> names;
  for (const EntryTensor &tensor : tensors)
    names.push_back(tensor.name);
  return names;
}

uint64_t BoundArgument::getCopiedBytes() const {
  if (file)
    return file->getMappedData() ? 0 : file->getByteSize();
  return getTensorBytes(shape, argument->elementType).value_or(UINT64_MAX);
}

Expected<HostTensor> BoundArgument::load(uint64_t seed) {
  if (file) {
    Expected<HostTensor> tensor =
        HostTensor::load(argument->name, std::move(*file));
    file.reset();
    return tensor;
  }
  Expected<HostTensor> tensor =
      HostTensor::allocate(argument->name, shape, argument->elementType);
  if (tensor)
    fillRandom(*tensor, rule, seed, argument->name);
  return tensor;
}

namespace {

/// What the flags say of one argument.
struct Request {
  const NamedFile *input = nullptr;
  const NamedShape *shape = nullptr;
  const NamedFill *fill = nullptr;
};

/// Matches flags to arguments, then binds one argument after the other.
class ArgumentBinder {
public:
  ArgumentBinder(const EntrySignature &signature,
                 const ArgumentSources &sources)
      : signature(signature), sources(sources),
        requests(signature.arguments.size()) {}

  Error collectRequests();
  Expected<std::vector<BoundArgument>> bindAll();

private:
  Expected<size_t> find(StringRef flag, StringRef name) const;
  Expected<size_t> findForInput(const NamedFile &input) const;
  template <typename Value>
  Error request(StringRef flag, const Value &value, size_t i,
                const Value *Request::*member);

  Error checkShape(const EntryTensor &argument, const Request &request) const;
  Expected<BoundArgument> bind(const EntryTensor &argument,
                               const Request &request);
  Expected<BoundArgument> bindFile(const EntryTensor &argument,
                                   const Request &request);
  Expected<BoundArgument> bindWeight(const EntryTensor &argument,
                                     const Request &request);
  Expected<BoundArgument> bindRandom(const EntryTensor &argument,
                                     const Request &request);
  Error makeUnboundError(const EntryTensor &argument) const;

  const EntrySignature &signature;
  const ArgumentSources &sources;
  SmallVector<Request> requests;
  std::optional<Weights> weights;
};

} // namespace

/// `error` with the argument that it is about before it.
static Error inArgument(const EntryTensor &argument, Error error) {
  return createStringError("argument " + quoteName(argument.name) + " (" +
                           argument.getTypeText() +
                           "): " + toString(std::move(error)));
}

/// The sizes that a flag asks for, or else those of the type.
static ArrayRef<int64_t> getWantedShape(const EntryTensor &argument,
                                        const Request &request) {
  return request.shape ? ArrayRef<int64_t>(request.shape->shape)
                       : ArrayRef<int64_t>(argument.shape);
}

//===----------------------------------------------------------------------===//
// Flags to arguments
//===----------------------------------------------------------------------===//

Expected<size_t> ArgumentBinder::find(StringRef flag, StringRef name) const {
  for (auto [i, argument] : enumerate(signature.arguments))
    if (argument.name == name)
      return i;
  return createStringError(flag + " names " + quoteName(name) +
                           ", which is no argument of @" + signature.name +
                           "; its arguments are " +
                           listNames(getNames(signature.arguments)));
}

/// The argument that a file without a name is for: the first that no checkpoint
/// gives. As many as there are arguments when there is none.
static size_t findInput(const EntrySignature &signature) {
  const auto *input =
      find_if(signature.arguments, [](const EntryTensor &argument) {
        return argument.param.empty();
      });
  return input - signature.arguments.begin();
}

Expected<size_t> ArgumentBinder::findForInput(const NamedFile &input) const {
  if (!input.name.empty())
    return find("--input", input.name);
  if (size_t i = findInput(signature); i < signature.arguments.size())
    return i;
  return createStringError("--input=" + input.file +
                           " does not say which argument it is for, and "
                           "all of @" +
                           signature.name +
                           " have a moe.param; write NAME=FILE, with "
                           "one of " +
                           listNames(getNames(signature.arguments)));
}

template <typename Value>
Error ArgumentBinder::request(StringRef flag, const Value &value, size_t i,
                              const Value *Request::*member) {
  if (requests[i].*member)
    return createStringError(flag + " is given twice for argument " +
                             quoteName(signature.arguments[i].name));
  requests[i].*member = &value;
  if (requests[i].input && requests[i].fill)
    return createStringError("argument " +
                             quoteName(signature.arguments[i].name) +
                             " has both an --input and a --fill; give one");
  return Error::success();
}

Error ArgumentBinder::collectRequests() {
  for (const NamedFile &input : sources.inputs) {
    Expected<size_t> i = findForInput(input);
    if (!i)
      return i.takeError();
    if (Error error = request("--input", input, *i, &Request::input))
      return error;
  }
  for (const NamedFill &fill : sources.fills) {
    Expected<size_t> i = find("--fill", fill.name);
    if (!i)
      return i.takeError();
    if (Error error = request("--fill", fill, *i, &Request::fill))
      return error;
  }
  for (const NamedShape &shape : sources.shapes) {
    Expected<size_t> i = find("--shape", shape.name);
    if (!i)
      return i.takeError();
    if (Error error = request("--shape", shape, *i, &Request::shape))
      return error;
  }
  return Error::success();
}

/// Whether a shape that was asked for is one of the argument's type.
Error ArgumentBinder::checkShape(const EntryTensor &argument,
                                 const Request &request) const {
  if (!request.shape)
    return Error::success();
  ArrayRef<int64_t> wanted = request.shape->shape;
  bool fits = wanted.size() == argument.shape.size();
  for (auto [want, have] : zip(wanted, argument.shape))
    fits &= ShapedType::isDynamic(have) || want == have;
  if (fits)
    return Error::success();
  return inArgument(
      argument, createStringError("--shape asks for " + formatShape(wanted) +
                                  ", but only sizes "
                                  "that the type leaves open ('?') can be "
                                  "chosen; the others are fixed"));
}

//===----------------------------------------------------------------------===//
// Binding
//===----------------------------------------------------------------------===//

/// Whether `file` holds `name` as codes, and their scales: the codes alone
/// would be other values.
static bool hasQuantized(const Checkpoint &file, StringRef name) {
  return file.contains((name + kFp8ScalesSuffix).str()) ||
         (!file.contains(name) &&
          file.contains((name + kMxfp4BlocksSuffix).str()));
}

/// The tensor that `input` names, dequantized if need be.
static Expected<BoundTensor> bindTensor(const NamedFile &input,
                                        const EntryTensor &argument,
                                        ArrayRef<int64_t> shape) {
  if (!input.tensor.empty()) {
    Expected<Checkpoint> file = Checkpoint::open(input.file);
    if (!file)
      return file.takeError();
    if (hasQuantized(*file, input.tensor))
      return BoundTensor::bind(*file, input.tensor, shape,
                               argument.elementType);
  }
  Expected<MappedTensor> tensor = openTensor(input, argument.name);
  if (!tensor)
    return tensor.takeError();
  return BoundTensor::bind(std::move(*tensor), shape, argument.elementType);
}

Expected<BoundArgument> ArgumentBinder::bindFile(const EntryTensor &argument,
                                                 const Request &request) {
  Expected<BoundTensor> bound =
      bindTensor(*request.input, argument, getWantedShape(argument, request));
  if (!bound)
    return bound.takeError();
  return BoundArgument(argument, std::move(*bound), request.input->file);
}

Expected<BoundArgument> ArgumentBinder::bindWeight(const EntryTensor &argument,
                                                   const Request &request) {
  if (!weights) {
    Expected<Weights> opened = Weights::open(sources.weights);
    if (!opened)
      return opened.takeError();
    weights = std::move(*opened);
  }
  Expected<BoundTensor> bound =
      weights->bind(argument, getWantedShape(argument, request));
  if (!bound)
    return bound.takeError();
  return BoundArgument(argument, std::move(*bound),
                       argument.param + " in " + sources.weights);
}

Expected<BoundArgument> ArgumentBinder::bindRandom(const EntryTensor &argument,
                                                   const Request &request) {
  ArrayRef<int64_t> shape = getWantedShape(argument, request);
  if (ShapedType::isDynamicShape(shape))
    return createStringError("its sizes are not known; give them as --shape=" +
                             argument.name + "=" + formatShape(shape) +
                             " with a number for each '?', or a file as "
                             "--input=" +
                             argument.name + "=FILE");
  bool isInput = argument.param.empty() &&
                 (request.shape || &argument == signature.arguments.begin() +
                                                    findInput(signature));
  FillRule rule = isInput ? FillRule() : getWeightRule(shape);
  if (request.fill)
    rule = request.fill->rule;
  if (!isFloat(argument.elementType) && !request.fill)
    return createStringError(
        "random integers need a range; give it as "
        "--fill=" +
        argument.name + "=LOW..HIGH, or a file as --input=" + argument.name +
        "=FILE");
  if (Error error = checkFillRule(rule, argument.elementType))
    return std::move(error);
  return BoundArgument(argument, shape, rule);
}

Error ArgumentBinder::makeUnboundError(const EntryTensor &argument) const {
  std::string ways = "--input=" + argument.name + "=FILE";
  if (!argument.param.empty())
    ways = "--weights=CHECKPOINT (it is bound to " + quoteName(argument.param) +
           "), --random-weights or " + ways;
  else if (!argument.shape.empty())
    ways += " or, for random values, --shape=" + argument.name + "=" +
            formatShape(argument.shape);
  return createStringError("nothing gives its values; pass " + ways);
}

Expected<BoundArgument> ArgumentBinder::bind(const EntryTensor &argument,
                                             const Request &request) {
  if (request.input)
    return bindFile(argument, request);
  if (request.fill)
    return bindRandom(argument, request);
  if (!argument.param.empty() && !sources.weights.empty())
    return bindWeight(argument, request);
  bool hasShape = argument.param.empty() && request.shape;
  if (hasShape || sources.randomWeights)
    return bindRandom(argument, request);
  return makeUnboundError(argument);
}

Expected<std::vector<BoundArgument>> ArgumentBinder::bindAll() {
  std::vector<BoundArgument> bound;
  for (auto [argument, request] : zip(signature.arguments, requests)) {
    if (Error error = checkShape(argument, request))
      return std::move(error);
    Expected<BoundArgument> one = bind(argument, request);
    if (!one)
      return inArgument(argument, one.takeError());
    bound.push_back(std::move(*one));
  }
  return bound;
}

Expected<std::vector<BoundArgument>>
mlir::moe::bindArguments(const EntrySignature &signature,
                         const ArgumentSources &sources) {
  ArgumentBinder binder(signature, sources);
  if (Error error = binder.collectRequests())
    return std::move(error);
  return binder.bindAll();
}
