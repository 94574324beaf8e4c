//===- EntryShapes.cpp - Sizes of results from sizes of arguments -*- C++ -*-=//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Builds @NAME.shapes in three steps: a copy of the entry returns the sizes
/// that we want to know; simplification moves them up to the arguments; what is
/// arithmetic on sizes of arguments by then is copied into a new function.
///
//===----------------------------------------------------------------------===//

#include "EntryShapes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// T and k of a gate or dispatch.
struct Choices {
  Value tokens, k;
  Location loc;
};

/// The return operands of the copy, in this order: the sizes of the results,
/// T and k of each element of `choices`, both sides of each constraint.
struct Question {
  SmallVector<Value> resultSizes;
  SmallVector<Choices> choices;
  SmallVector<SizeConstraint> constraints;
};

} // namespace

LogicalResult mlir::moe::forEachEntry(
    Operation *symbolTable,
    llvm::function_ref<LogicalResult(func::FuncOp, DictionaryAttr)> rewrite) {
  auto functions = symbolTable->getRegion(0).getOps<func::FuncOp>();
  for (func::FuncOp func : llvm::make_early_inc_range(functions))
    if (auto attr = func->getAttrOfType<DictionaryAttr>(kEntryAttr))
      if (failed(rewrite(func, attr)))
        return failure();
  return success();
}

void mlir::moe::removeNames(func::FuncOp func) {
  for (unsigned i = 0, e = func.getNumArguments(); i < e; ++i) {
    func.removeArgAttr(i, kNameAttr);
    func.removeArgAttr(i, kParamAttr);
  }
  for (unsigned i = 0, e = func.getNumResults(); i < e; ++i)
    func.removeResultAttr(i, StringAttr::get(func.getContext(), kNameAttr));
}

//===----------------------------------------------------------------------===//
// What we want to know
//===----------------------------------------------------------------------===//

static Value createDim(OpBuilder &builder, Value tensor, int64_t dim) {
  return tensor::DimOp::create(builder, tensor.getLoc(), tensor, dim);
}

static Question collectQuestion(func::FuncOp func, OpBuilder &builder) {
  Question question;
  Block &body = func.getBody().front();
  collectSizeConstraints(body, builder, question.constraints);

  builder.setInsertionPoint(body.getTerminator());
  auto addChoices = [&](Value tokens, Value ids, Location loc) {
    if (!isa<RankedTensorType>(tokens.getType()))
      return;
    question.choices.push_back(
        {createDim(builder, tokens, 0), createDim(builder, ids, 1), loc});
  };
  for (Operation &op : body) {
    if (auto gate = dyn_cast<GateOp>(op))
      addChoices(gate.getLogits(), gate.getIdsInit(), gate.getLoc());
    if (auto dispatch = dyn_cast<DispatchOp>(op))
      addChoices(dispatch.getIds(), dispatch.getIds(), dispatch.getLoc());
    if (auto route = dyn_cast<RouteOp>(op))
      addChoices(route.getX(), route.getIdsInit(), route.getLoc());
    if (auto plan = dyn_cast<PlanOp>(op))
      addChoices(plan.getIds(), plan.getIds(), plan.getLoc());
  }
  for (Value result : body.getTerminator()->getOperands())
    for (int64_t i = 0, e = cast<RankedTensorType>(result.getType()).getRank();
         i < e; ++i)
      question.resultSizes.push_back(createDim(builder, result, i));
  return question;
}

/// Makes `func` return the values of `question`.
static void returnQuestion(func::FuncOp func, const Question &question,
                           OpBuilder &builder) {
  SmallVector<Value> values(question.resultSizes);
  for (const Choices &choices : question.choices)
    values.append({choices.tokens, choices.k});
  for (const SizeConstraint &constraint : question.constraints)
    values.append({constraint.first, constraint.second});
  Operation *terminator = func.getBody().front().getTerminator();
  builder.setInsertionPoint(terminator);
  func::ReturnOp::create(builder, terminator->getLoc(), values);
  terminator->erase();
  func.setFunctionType(builder.getFunctionType(func.getArgumentTypes(),
                                               ValueRange(values).getTypes()));
  func.removeResAttrsAttr();
}

/// Reads the values of `question` back after simplification.
static void rereadQuestion(func::FuncOp func, Question &question) {
  ValueRange values = func.getBody().front().getTerminator()->getOperands();
  auto take = [&] {
    Value value = values.front();
    values = values.drop_front();
    return value;
  };
  for (Value &size : question.resultSizes)
    size = take();
  for (Choices &choices : question.choices) {
    choices.tokens = take();
    choices.k = take();
  }
  for (SizeConstraint &constraint : question.constraints) {
    constraint.first = take();
    constraint.second = take();
  }
}

//===----------------------------------------------------------------------===//
// The new function
//===----------------------------------------------------------------------===//

namespace {

/// Copies arithmetic on sizes of the copy's arguments into the new function.
class SizeImporter {
public:
  SizeImporter(func::FuncOp target, func::FuncOp source, OpBuilder &builder);

  /// `value` in the new function; null if it depends on data.
  Value import(Value value);
  /// The argument of the entry, one of those whose sizes `value` (of the new
  /// function) is made of; -1 for a constant.
  int64_t getTensorOf(Value value);
  /// The argument of the new function that `value` is, if it is one.
  std::optional<unsigned> getSizeIndex(Value value);

private:
  Value importOp(Operation *op, OpResult result);

  func::FuncOp target;
  OpBuilder &builder;
  IRMapping mapping;
  llvm::DenseMap<std::pair<unsigned, int64_t>, Value> argumentSizes;
  SmallVector<unsigned> tensorOfSize;
};

} // namespace

/// The type of the new function's arguments: a size for each dynamic one.
static SmallVector<Type> getSizeTypes(func::FuncOp entry, OpBuilder &builder) {
  int64_t numSizes = 0;
  for (Type type : entry.getArgumentTypes())
    numSizes += cast<RankedTensorType>(type).getNumDynamicDims();
  return SmallVector<Type>(numSizes, builder.getIndexType());
}

SizeImporter::SizeImporter(func::FuncOp target, func::FuncOp source,
                           OpBuilder &builder)
    : target(target), builder(builder) {
  for (auto [i, type] : llvm::enumerate(source.getArgumentTypes())) {
    auto tensor = cast<RankedTensorType>(type);
    for (int64_t dim = 0; dim < tensor.getRank(); ++dim) {
      if (!tensor.isDynamicDim(dim))
        continue;
      argumentSizes[{i, dim}] = target.getArgument(tensorOfSize.size());
      tensorOfSize.push_back(i);
    }
  }
}

Value SizeImporter::importOp(Operation *op, OpResult result) {
  if (auto dim = dyn_cast<tensor::DimOp>(op)) {
    auto argument = dyn_cast<BlockArgument>(dim.getSource());
    std::optional<int64_t> index = dim.getConstantIndex();
    if (!argument || !index)
      return {};
    return argumentSizes.lookup({argument.getArgNumber(), *index});
  }
  auto isScalar = [](Type type) { return type.isIntOrIndex(); };
  if (op->getNumRegions() != 0 || !isMemoryEffectFree(op) ||
      !llvm::all_of(op->getOperandTypes(), isScalar) ||
      !llvm::all_of(op->getResultTypes(), isScalar))
    return {};
  for (Value operand : op->getOperands())
    if (!import(operand))
      return {};
  builder.clone(*op, mapping);
  return mapping.lookup(Value(result));
}

Value SizeImporter::import(Value value) {
  if (Value known = mapping.lookupOrNull(value))
    return known;
  auto result = dyn_cast<OpResult>(value);
  Value imported = result ? importOp(result.getOwner(), result) : Value();
  if (imported)
    mapping.map(value, imported);
  return imported;
}

std::optional<unsigned> SizeImporter::getSizeIndex(Value value) {
  auto argument = dyn_cast_or_null<BlockArgument>(value);
  if (!argument)
    return std::nullopt;
  return argument.getArgNumber();
}

int64_t SizeImporter::getTensorOf(Value value) {
  if (std::optional<unsigned> index = getSizeIndex(value))
    return tensorOfSize[*index];
  for (Value operand : value.getDefiningOp()->getOperands())
    if (int64_t tensor = getTensorOf(operand); tensor >= 0)
      return tensor;
  return -1;
}

namespace {

/// Writes the body of @NAME.shapes.
class ShapesWriter {
public:
  ShapesWriter(func::FuncOp shapes, func::FuncOp source,
               const EntrySignature &signature, OpBuilder &builder)
      : shapes(shapes), signature(signature), builder(builder),
        loc(shapes.getLoc()), importer(shapes, source, builder) {}

  void write(const Question &question);

private:
  Value constant(int64_t value) {
    return arith::ConstantIndexOp::create(builder, loc, value);
  }
  /// `code` blamed on `tensor` (negative: on none) where `isBad`, else `rest`.
  Value select(Value isBad, int32_t code, int64_t tensor, Value rest);
  Value checkChoices(const Choices &choices, Value rest);
  Value checkConstraint(const SizeConstraint &constraint, Value rest);
  SmallVector<Value> importResultSizes(ArrayRef<Value> sizes);
  llvm::EquivalenceClasses<unsigned> findEqualSizes(const Question &question);
  void nameArguments(const Question &question);
  void forEachSize(
      llvm::function_ref<void(unsigned, const EntryTensor &, size_t)> visit);

  func::FuncOp shapes;
  const EntrySignature &signature;
  OpBuilder &builder;
  Location loc;
  SizeImporter importer;
  llvm::DenseSet<std::pair<Value, Value>> checked, checkedChoices;
};

} // namespace

Value ShapesWriter::select(Value isBad, int32_t code, int64_t tensor,
                           Value rest) {
  Value status = arith::ConstantIntOp::create(
      builder, loc, builder.getI32Type(), code + 256 * (tensor + 1));
  return arith::SelectOp::create(builder, loc, isBad, status, rest);
}

/// T, k and T·k each stay below 2^31; the first two keep the product from
/// wrapping around.
Value ShapesWriter::checkChoices(const Choices &choices, Value rest) {
  Value tokens = importer.import(choices.tokens);
  Value k = importer.import(choices.k);
  if (!tokens || !k) {
    emitRemark(choices.loc)
        << "the number of tokens or of choices depends on the data here; calls "
           "do not check that their product stays below 2^31";
    return rest;
  }
  // A gate and the dispatch of its ids have the same T and k.
  if (!checkedChoices.insert({tokens, k}).second)
    return rest;
  Value limit = constant(int64_t(1) << 31);
  auto isTooLarge = [&](Value value) -> Value {
    return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::uge, value,
                                 limit);
  };
  // One op a statement: compilers evaluate arguments in different orders.
  Value product = arith::MulIOp::create(builder, loc, tokens, k);
  Value isBad = isTooLarge(product);
  for (Value factor : {tokens, k}) {
    Value isFactorBad = isTooLarge(factor);
    isBad = arith::OrIOp::create(builder, loc, isBad, isFactorBad);
  }
  int64_t tensor = importer.getTensorOf(product);
  return select(isBad, MOE_TOO_MANY_CHOICES, tensor, rest);
}

/// Takes off what both sides add: experts + 1 on either side, say.
static void cancelAddends(Value &first, Value &second) {
  auto lhs = first.getDefiningOp<arith::AddIOp>();
  auto rhs = second.getDefiningOp<arith::AddIOp>();
  if (!lhs || !rhs || !isEqualConstantIntOrValue(lhs.getRhs(), rhs.getRhs()))
    return;
  first = lhs.getLhs();
  second = rhs.getLhs();
}

/// The second side is to blame: collectSizeConstraints puts the operand that an
/// op is about (tokens, ids) first, and what has to fit it second.
Value ShapesWriter::checkConstraint(const SizeConstraint &constraint,
                                    Value rest) {
  Value first = importer.import(constraint.first);
  Value second = importer.import(constraint.second);
  if (!first || !second)
    return rest;
  if (constraint.violation == arith::CmpIPredicate::ne)
    cancelAddends(first, second);
  if (isEqualConstantIntOrValue(first, second) ||
      !checked.insert({first, second}).second)
    return rest;
  int64_t tensor = importer.getTensorOf(second);
  if (tensor < 0)
    tensor = importer.getTensorOf(first);
  Value isBad =
      arith::CmpIOp::create(builder, loc, constraint.violation, first, second);
  return select(isBad, MOE_BAD_SHAPE, tensor, rest);
}

SmallVector<Value> ShapesWriter::importResultSizes(ArrayRef<Value> sizes) {
  SmallVector<Value> imported;
  for (const EntryTensor &result : signature.results) {
    for (int64_t dim = 0, e = result.shape.size(); dim < e; ++dim) {
      Value size = importer.import(sizes.front());
      sizes = sizes.drop_front();
      if (!size) {
        emitRemark(shapes.getLoc())
            << "size " << dim << " of result '" << result.name
            << "' depends on the data; calls do not check it";
        size = constant(-1);
      }
      imported.push_back(size);
    }
  }
  return imported;
}

/// Sizes that a constraint makes equal get one name.
llvm::EquivalenceClasses<unsigned>
ShapesWriter::findEqualSizes(const Question &question) {
  llvm::EquivalenceClasses<unsigned> equal;
  for (unsigned i = 0, e = shapes.getNumArguments(); i < e; ++i)
    equal.insert(i);
  for (const SizeConstraint &constraint : question.constraints) {
    Value first = importer.import(constraint.first);
    Value second = importer.import(constraint.second);
    if (!first || !second || constraint.violation != arith::CmpIPredicate::ne)
      continue;
    cancelAddends(first, second);
    auto firstIndex = importer.getSizeIndex(first);
    auto secondIndex = importer.getSizeIndex(second);
    if (firstIndex && secondIndex)
      equal.unionSets(*firstIndex, *secondIndex);
  }
  return equal;
}

/// "T" for the tokens, "E" for stacked experts, else "x_0".
void ShapesWriter::nameArguments(const Question &question) {
  llvm::EquivalenceClasses<unsigned> equal = findEqualSizes(question);
  llvm::StringSet<> taken;
  auto give = [&](unsigned index, std::string name) {
    if (shapes.getArgAttr(index, kNameAttr) || !taken.insert(name).second)
      return;
    for (unsigned same : equal.members(index))
      shapes.setArgAttr(same, kNameAttr, builder.getStringAttr(name));
  };
  for (const Choices &choices : question.choices)
    if (auto index = importer.getSizeIndex(importer.import(choices.tokens)))
      give(*index, "T");
  forEachSize([&](unsigned index, const EntryTensor &argument, size_t dim) {
    StringRef param = argument.param;
    if (dim == 0 && (param.contains("{expert}") || param.contains(".packed")))
      give(index, "E");
  });
  forEachSize([&](unsigned index, const EntryTensor &argument, size_t dim) {
    give(index, argument.cName + "_" + std::to_string(dim));
  });
}

/// Calls `visit` with each argument and the size that it stands for.
void ShapesWriter::forEachSize(
    llvm::function_ref<void(unsigned, const EntryTensor &, size_t)> visit) {
  unsigned index = 0;
  for (const EntryTensor &argument : signature.arguments)
    for (auto [dim, size] : llvm::enumerate(argument.shape))
      if (ShapedType::isDynamic(size))
        visit(index++, argument, dim);
}

void ShapesWriter::write(const Question &question) {
  SmallVector<Value> sizes = importResultSizes(question.resultSizes);
  nameArguments(question);
  Value status =
      arith::ConstantIntOp::create(builder, loc, builder.getI32Type(), MOE_OK);
  // The last select decides, so the first check comes last.
  for (const SizeConstraint &constraint : llvm::reverse(question.constraints))
    status = checkConstraint(constraint, status);
  for (const Choices &choices : llvm::reverse(question.choices))
    status = checkChoices(choices, status);
  sizes.insert(sizes.begin(), status);
  func::ReturnOp::create(builder, loc, sizes);
}

FailureOr<func::FuncOp> mlir::moe::buildShapesFunction(
    func::FuncOp entry, const EntrySignature &signature, SimplifyFn simplify) {
  OpBuilder builder(entry.getContext());
  builder.setInsertionPointAfter(entry);
  auto copy = cast<func::FuncOp>(builder.clone(*entry));
  copy.setName(signature.name + ".sizes");
  copy.setPrivate();
  Question question = collectQuestion(copy, builder);
  returnQuestion(copy, question, builder);
  if (failed(simplify(copy)))
    return failure();
  rereadQuestion(copy, question);

  SmallVector<Type> resultTypes(1 + question.resultSizes.size(),
                                builder.getIndexType());
  resultTypes.front() = builder.getI32Type();
  builder.setInsertionPointAfter(entry);
  auto shapes = func::FuncOp::create(
      builder, entry.getLoc(), signature.name + ".shapes",
      builder.getFunctionType(getSizeTypes(entry, builder), resultTypes));
  shapes.setPrivate();
  builder.setInsertionPointToStart(shapes.addEntryBlock());
  ShapesWriter(shapes, copy, signature, builder).write(question);
  copy.erase();
  if (failed(simplify(shapes)))
    return failure();
  return shapes;
}
