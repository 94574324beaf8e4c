//===- GroupedMatmulOp.cpp - moe.grouped_matmul ---------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "IndexedOperands.h"
#include "Verification.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::moe;

using Product = GroupedMatmulOp::Product;
using Term = GroupedMatmulOp::Term;

//===----------------------------------------------------------------------===//
// What the op consists of
//===----------------------------------------------------------------------===//

ArrayRef<StringRef> GroupedMatmulOp::getDimNames() {
  static constexpr StringLiteral kNames[] = {"e", "m", "t", "j", "n", "k"};
  static const StringRef names[] = {kNames[0], kNames[1], kNames[2],
                                    kNames[3], kNames[4], kNames[5]};
  return names;
}

/// Dimension `dim` of the maps as an expression.
static bool isDim(AffineExpr expr, unsigned dim) {
  auto dimExpr = dyn_cast<AffineDimExpr>(expr);
  return dimExpr && dimExpr.getPosition() == dim;
}

bool GroupedMatmulOp::Term::isGathered() const {
  return isDim(lhsMap.getResult(0), kToken);
}

int64_t GroupedMatmulOp::Term::getLength() const {
  int64_t length = dimOf(lhs, 1);
  if (!ShapedType::isDynamic(length) || decode)
    return length;
  for (auto [i, expr] : llvm::enumerate(getWeightMap().getResults()))
    if (isDim(expr, kSum))
      return dimOf(getWeight(), i);
  return length;
}

SmallVector<Product> GroupedMatmulOp::getProducts() {
  SmallVector<Product> products;
  auto maps = getFactorMaps().getAsValueRange<AffineMapAttr>();
  SmallVector<AffineMap> mapList(maps.begin(), maps.end());
  size_t factor = 0, term = 0;
  for (int32_t numTerms : getProductSizes()) {
    Product &product = products.emplace_back();
    for (int32_t i = 0; i < numTerms; ++i, ++term) {
      size_t stored = factor + getLhsSizes()[term];
      size_t end = factor + getTermSizes()[term];
      auto values = [&](size_t from, size_t to) {
        return getFactors().slice(from, to - from);
      };
      auto maps = [&](size_t from, size_t to) {
        return ArrayRef(mapList).slice(from, to - from);
      };
      auto region = [&](size_t side) -> Region * {
        Region &region = getFactorRegions()[2 * term + side];
        return region.empty() ? nullptr : &region;
      };
      product.push_back(
          {getFactors()[factor], mapList[factor],
           llvm::to_vector_of<Value, 0>(values(factor + 1, stored)),
           llvm::to_vector_of<AffineMap, 0>(maps(factor + 1, stored)),
           region(0), llvm::to_vector_of<Value, 1>(values(stored, end)),
           llvm::to_vector_of<AffineMap, 1>(maps(stored, end)), region(1)});
      factor = end;
    }
  }
  return products;
}

int64_t GroupedMatmulOp::getNumExperts() {
  int64_t size = dimOf(getOffsets(), 0);
  return ShapedType::isDynamic(size) ? size : size - 1;
}

int64_t GroupedMatmulOp::getNumRows() {
  SmallVector<int64_t> candidates;
  if (getSource())
    candidates.push_back(dimOf(getSource(), 0));
  for (const Product &product : getProducts())
    for (const Term &term : product)
      if (!term.isGathered())
        candidates.push_back(dimOf(term.lhs, 0));
  if (!isCombining())
    for (Value init : getInits())
      candidates.push_back(dimOf(init, 0));
  auto *known = llvm::find_if_not(candidates, ShapedType::isDynamic);
  return known == candidates.end() ? ShapedType::kDynamic : *known;
}

int64_t GroupedMatmulOp::getNumColumns() {
  SmallVector<Value> shaped(getInits());
  if (getBase())
    shaped.push_back(getBase());
  for (Value value : shaped)
    if (!ShapedType::isDynamic(dimOf(value, 1)))
      return dimOf(value, 1);
  return ShapedType::kDynamic;
}

YieldOp GroupedMatmulOp::getEpilogueYield() {
  return cast<YieldOp>(getEpilogue().front().getTerminator());
}

//===----------------------------------------------------------------------===//
// Interfaces
//===----------------------------------------------------------------------===//

void GroupedMatmulOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  for (Value result : getResults())
    setName(result, isCombining() ? "combined" : "rows");
}

void GroupedMatmulOp::getAsmBlockArgumentNames(Region &region,
                                               OpAsmSetValueNameFn setName) {
  if (region.empty())
    return;
  if (&region == &getEpilogue()) {
    for (BlockArgument arg : region.getArguments())
      setName(arg, arg.getArgNumber() < getProductSizes().size() ? "product"
                                                                 : "extra");
    return;
  }
  bool isPrologue =
      (region.getRegionNumber() - getEpilogue().getRegionNumber()) % 2;
  for (BlockArgument arg : region.getArguments()) {
    unsigned i = arg.getArgNumber();
    if (isPrologue)
      setName(arg, i == 0 ? "row" : "extra");
    else
      setName(arg, i == 0 ? "n" : i == 1 ? "k" : i == 2 ? "stored" : "scale");
  }
}

LogicalResult
GroupedMatmulOp::reifyResultShapes(OpBuilder &builder,
                                   ReifiedRankedShapedTypeDims &shapes) {
  for (Value init : getInits())
    if (isa<RankedTensorType>(init.getType()))
      shapes.push_back(tensor::getMixedSizes(builder, getLoc(), init));
  return success();
}

void GroupedMatmulOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addDestinationEffects(*this, effects);
}

Speculation::Speculatability GroupedMatmulOp::getSpeculatability() {
  // Offsets beyond the rows are undefined behaviour.
  return Speculation::NotSpeculatable;
}

//===----------------------------------------------------------------------===//
// Verifier
//===----------------------------------------------------------------------===//

/// grouped_matmul_c4: the sizes add up, so that getProducts can be called.
static LogicalResult verifyStructure(GroupedMatmulOp op) {
  int64_t numTerms = 0, numFactors = 0;
  for (int32_t size : op.getProductSizes()) {
    if (size < 1)
      return op.emitOpError("a product has ") << size << " terms, needs one";
    numTerms += size;
  }
  for (int32_t size : op.getTermSizes()) {
    if (size < 2)
      return op.emitOpError("a term has ")
             << size << " factors, needs an lhs and a weight";
    numFactors += size;
  }
  if (op.getLhsSizes().size() != op.getTermSizes().size())
    return op.emitOpError("lhs_sizes has ")
           << op.getLhsSizes().size() << " elements, needs one for each of "
           << op.getTermSizes().size() << " terms";
  for (auto [lhs, all] : llvm::zip(op.getLhsSizes(), op.getTermSizes()))
    if (lhs < 1 || lhs >= all)
      return op.emitOpError("a term of ")
             << all << " factors has " << lhs
             << " of them for its lhs, needs at least one, and one for its "
                "weight";
  if (numTerms == static_cast<int64_t>(op.getTermSizes().size()) &&
      2 * numTerms == static_cast<int64_t>(op.getFactorRegions().size()) &&
      numFactors == static_cast<int64_t>(op.getFactors().size()) &&
      !op.getProductSizes().empty())
    return success();
  return op.emitOpError("product_sizes count ")
         << numTerms << " terms, term_sizes " << op.getTermSizes().size()
         << " and two factor regions each, of which there are "
         << op.getFactorRegions().size() << "; term_sizes count " << numFactors
         << " factors of " << op.getFactors().size();
}

/// grouped_matmul_c5 for a list of operands.
static LogicalResult verifyMaps(GroupedMatmulOp op, StringRef kind,
                                OperandRange operands, ArrayAttr maps) {
  if (operands.size() != maps.size())
    return op.emitOpError("has ") << operands.size() << " " << kind << "s, but "
                                  << maps.size() << " index maps for them";
  for (auto [i, operand] : llvm::enumerate(operands)) {
    AffineMap map = cast<AffineMapAttr>(maps[i]).getValue();
    size_t rank = shapeOf(operand).size();
    if (map.getNumDims() != GroupedMatmulOp::kNumDims ||
        map.getNumSymbols() != 0 || map.getNumResults() != rank)
      return op.emitOpError() << kind << " #" << i << " has rank " << rank
                              << " and needs as many index expressions in e, "
                                 "m, t, j, n, k, got "
                              << map.getNumResults();
  }
  return success();
}

static bool uses(AffineMap map, unsigned dim) {
  return map.isFunctionOfDim(dim);
}

/// `expr` in the names that the syntax has.
static std::string str(AffineExpr expr) {
  std::string text;
  llvm::raw_string_ostream os(text);
  printIndexExpr(os, expr, GroupedMatmulOp::getDimNames());
  return text;
}

/// grouped_matmul_c6, grouped_matmul_c7, grouped_matmul_c14,
/// grouped_matmul_c15, grouped_matmul_c17
static LogicalResult verifyTerm(GroupedMatmulOp op, const Term &term) {
  using Op = GroupedMatmulOp;
  auto isSmallFloat = [](Type type) {
    return type.isF32() || type.isF16() || type.isBF16();
  };
  AffineMap map = term.lhsMap;
  if (map.getNumResults() != 2 ||
      !(isDim(map.getResult(0), Op::kRow) ||
        isDim(map.getResult(0), Op::kToken)) ||
      !isDim(map.getResult(1), Op::kSum))
    return op.emitOpError("an lhs is indexed [m, k] or [t, k], but ")
           << term.lhs.getType() << " is indexed ["
           << llvm::join(llvm::map_range(map.getResults(),
                                         [](AffineExpr e) { return str(e); }),
                         ", ")
           << "]";
  for (AffineMap extra : term.lhsExtraMaps)
    if (uses(extra, Op::kColumn))
      return op.emitOpError("an operand of a prologue cannot be indexed by n; "
                            "an lhs is the same for all columns");
  for (AffineMap stored : term.storedMaps)
    for (unsigned dim : {Op::kRow, Op::kToken, Op::kChoice})
      if (uses(stored, dim))
        return op.emitOpError("a weight cannot be indexed by ")
               << Op::getDimNames()[dim] << "; only e, n and k choose it";
  if (!term.decode && term.stored.size() > 1)
    return op.emitOpError("a term of ")
           << 1 + term.stored.size()
           << " factors needs a decode region; write decode(…)";
  if (!term.prologue && !term.lhsExtras.empty())
    return op.emitOpError("a term with ")
           << 1 + term.lhsExtras.size()
           << " operands for its lhs needs a prologue; write prologue(…)";
  if ((!term.prologue && !isSmallFloat(elementType(term.lhs))) ||
      (!term.decode && !isSmallFloat(elementType(term.getWeight()))))
    return op.emitOpError("factors must be f32, f16 or bf16, got ")
           << elementType(term.lhs) << " and " << elementType(term.getWeight())
           << "; decode a weight of another type, and extend other rows in a "
              "prologue";
  return success();
}

/// grouped_matmul_c8
static LogicalResult verifyExtras(GroupedMatmulOp op) {
  for (auto [i, map] :
       llvm::enumerate(op.getExtraMaps().getAsValueRange<AffineMapAttr>()))
    if (uses(map, GroupedMatmulOp::kSum))
      return op.emitOpError("extra #")
             << i << " cannot be indexed by k; the sum is over in the epilogue";
  return success();
}

/// grouped_matmul_c9
static LogicalResult verifySource(GroupedMatmulOp op) {
  if (op.getTopK() && *op.getTopK() < 1)
    return op.emitOpError("top_k must be at least 1, got ") << *op.getTopK();
  if (op.getSource() && op.getTopK())
    return success();
  for (ArrayAttr maps : {op.getFactorMaps(), op.getExtraMaps()})
    for (AffineMap map : maps.getAsValueRange<AffineMapAttr>())
      if (uses(map, GroupedMatmulOp::kToken) ||
          uses(map, GroupedMatmulOp::kChoice))
        return op.emitOpError("an operand is indexed by t or j, which follow "
                              "from source(…) and top_k(…); add both");
  return success();
}

/// grouped_matmul_c10
static LogicalResult verifyCombine(GroupedMatmulOp op) {
  if (!op.isCombining()) {
    if (op.getWeights() || op.getBase())
      return op.emitOpError("weights and base need combine(…)");
    return success();
  }
  if (!op.getWeights() ||
      !agree(shapeOf(op.getSlots()), shapeOf(op.getWeights())))
    return op.emitOpError("combine needs slots and weights of one shape T×k, "
                          "got ")
           << str(shapeOf(op.getSlots())) << " and "
           << (op.getWeights() ? str(shapeOf(op.getWeights())) : "none");
  if (op.getTopK() && !agree(dimOf(op.getSlots(), 1), *op.getTopK()))
    return op.emitOpError("combine has ")
           << dimOf(op.getSlots(), 1) << " choices a token, but top_k is "
           << *op.getTopK();
  if (op.getBase() && !agree(shapeOf(op.getBase()), shapeOf(op.getInits()[0])))
    return op.emitOpError("base must have the shape of the result, ")
           << str(shapeOf(op.getInits()[0])) << ", got "
           << str(shapeOf(op.getBase()));
  return success();
}

/// grouped_matmul_c3
static LogicalResult verifyDestinations(GroupedMatmulOp op) {
  if (op.getInits().empty())
    return op.emitOpError("needs a destination, M×N or T×N with combine");
  for (const Product &product : op.getProducts())
    for (const Term &term : product)
      if (!term.isGathered() && !agree(dimOf(term.lhs, 0), op.getNumRows()))
        return op.emitOpError("an lhs indexed [m, k] must have M = ")
               << op.getNumRows() << " rows, got " << dimOf(term.lhs, 0);
  if (op.isCombining()) {
    if (op.getInits().size() != 1 ||
        !agree(dimOf(op.getInits()[0], 0), dimOf(op.getSlots(), 0)))
      return op.emitOpError("with combine needs one destination T×N, T = ")
             << dimOf(op.getSlots(), 0) << ", got " << op.getInits().getTypes();
    return success();
  }
  int64_t expected[] = {op.getNumRows(), op.getNumColumns()};
  for (auto [i, init] : llvm::enumerate(op.getInits()))
    if (!agree(shapeOf(init), expected))
      return op.emitOpError("destination #")
             << i << " must be M×N = " << str(expected) << ", got "
             << str(shapeOf(init));
  return success();
}

/// grouped_matmul_c11 for one operand, where `length` is the K of its term.
static LogicalResult verifyBounds(GroupedMatmulOp op, Value operand,
                                  AffineMap map, int64_t length) {
  // Nothing says how many tokens there are, other than the operands themselves.
  int64_t extents[GroupedMatmulOp::kNumDims] = {
      op.getNumExperts(),   op.getNumRows(),
      ShapedType::kDynamic, static_cast<int64_t>(op.getTopK().value_or(1)),
      op.getNumColumns(),   length};
  return verifyIndexBounds(op, operand, map, extents,
                           GroupedMatmulOp::getDimNames());
}

/// grouped_matmul_c11
static LogicalResult verifyAllBounds(GroupedMatmulOp op) {
  for (const Product &product : op.getProducts())
    for (const Term &term : product) {
      if (failed(verifyBounds(op, term.lhs, term.lhsMap, term.getLength())))
        return failure();
      for (auto [extra, map] : llvm::zip(term.lhsExtras, term.lhsExtraMaps))
        if (failed(verifyBounds(op, extra, map, term.getLength())))
          return failure();
      for (auto [stored, map] : llvm::zip(term.stored, term.storedMaps))
        if (failed(verifyBounds(op, stored, map, term.getLength())))
          return failure();
    }
  for (auto [extra, map] : llvm::zip(
           op.getExtras(), op.getExtraMaps().getAsValueRange<AffineMapAttr>()))
    if (failed(verifyBounds(op, extra, map, ShapedType::kDynamic)))
      return failure();
  return success();
}

LogicalResult GroupedMatmulOp::verify() {
  if (failed(verifyAllTensorsOrAllMemrefs(*this))) // grouped_matmul_c1
    return failure();
  if (dimOf(getOffsets(), 0) == 0) // grouped_matmul_c2
    return emitOpError("offsets has 0 elements; for E experts it has E+1");
  if (failed(verifyStructure(*this)) ||
      failed(verifyMaps(*this, "factor", getFactors(), getFactorMaps())) ||
      failed(verifyMaps(*this, "extra", getExtras(), getExtraMaps())))
    return failure();
  for (const Product &product : getProducts())
    for (const Term &term : product)
      if (failed(verifyTerm(*this, term)))
        return failure();
  if (failed(verifyExtras(*this)) || failed(verifySource(*this)) ||
      failed(verifyDestinations(*this)) || failed(verifyCombine(*this)))
    return failure();
  return verifyAllBounds(*this);
}

/// Checks the types of a region's arguments.
static LogicalResult verifyArguments(GroupedMatmulOp op, Region &region,
                                     StringRef name, TypeRange expected) {
  if (llvm::equal(region.getArgumentTypes(), expected))
    return success();
  return op.emitOpError("the ")
         << name << "'s arguments must be (" << expected << "), got ("
         << region.getArgumentTypes() << ")";
}

static bool isFloatUpTo32(Type type) {
  auto floatType = dyn_cast<FloatType>(type);
  return floatType && floatType.getWidth() <= 32;
}

/// grouped_matmul_c12, grouped_matmul_c13
static LogicalResult verifyEpilogue(GroupedMatmulOp op) {
  SmallVector<Type> expected(op.getProductSizes().size(),
                             Float32Type::get(op.getContext()));
  for (Value extra : op.getExtras())
    expected.push_back(elementType(extra));
  if (failed(verifyArguments(op, op.getEpilogue(), "epilogue", expected)))
    return failure();
  TypeRange yielded = op.getEpilogueYield().getValues().getTypes();
  bool ok = yielded.size() == op.getInits().size();
  if (ok && op.isCombining())
    ok = isFloatUpTo32(yielded[0]);
  else if (ok)
    ok = llvm::all_of(llvm::zip(yielded, op.getInits()), [](auto pair) {
      return std::get<0>(pair) == elementType(std::get<1>(pair));
    });
  if (ok)
    return success();
  return op.emitOpError("the epilogue must yield a scalar for each "
                        "destination (")
         << op.getInits().getTypes() << "), got (" << yielded << ")";
}

/// What c14 and c17 ask of a region that computes a factor.
static LogicalResult verifyFactorRegion(GroupedMatmulOp op, Region &region,
                                        StringRef name, TypeRange expected) {
  if (failed(verifyArguments(op, region, name, expected)))
    return failure();
  auto yield = dyn_cast<YieldOp>(region.front().getTerminator());
  if (!region.hasOneBlock() || !yield || yield.getValues().size() != 1 ||
      !isFloatUpTo32(yield.getValues()[0].getType()))
    return op.emitOpError("a ") << name
                                << " must be one block that yields one float "
                                   "of at most 32 bits";
  return verifyNoSideEffects(op, region, name); // grouped_matmul_c16
}

/// grouped_matmul_c14
static LogicalResult verifyDecode(GroupedMatmulOp op, const Term &term) {
  Type index = IndexType::get(op.getContext());
  SmallVector<Type> expected = {index, index};
  for (Value stored : term.stored)
    expected.push_back(elementType(stored));
  return verifyFactorRegion(op, *term.decode, "decode region", expected);
}

/// grouped_matmul_c17
static LogicalResult verifyPrologue(GroupedMatmulOp op, const Term &term) {
  SmallVector<Type> expected = {elementType(term.lhs)};
  for (Value extra : term.lhsExtras)
    expected.push_back(elementType(extra));
  return verifyFactorRegion(op, *term.prologue, "prologue", expected);
}

LogicalResult GroupedMatmulOp::verifyRegions() {
  if (failed(verifyEpilogue(*this)))
    return failure();
  for (const Product &product : getProducts())
    for (const Term &term : product)
      if ((term.prologue && failed(verifyPrologue(*this, term))) ||
          (term.decode && failed(verifyDecode(*this, term))))
        return failure();
  return verifyNoSideEffects(*this, getEpilogue(),
                             "epilogue"); // grouped_matmul_c16
}
