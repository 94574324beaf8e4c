//===- MatmulProblem.cpp - What a GPU's kernel knows of its op ------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MatmulProblem.h"

#include "DeviceMath.h"
#include "StageRing.h"
#include "TileCopy.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

Type LinearAccess::getElementType() const {
  return cast<ShapedType>(buffer.getType()).getElementType();
}

int64_t LinearAccess::getElementBytes() const {
  return llvm::divideCeil(getElementType().getIntOrFloatBitWidth(), 8);
}

int64_t MatmulProblem::getPieceElements() const {
  return kPieceBytes * 8 / elementType.getIntOrFloatBitWidth();
}

int64_t MatmulProblem::getRowElements() const {
  return kRowBytes * 8 / elementType.getIntOrFloatBitWidth();
}

int64_t MatmulProblem::getNumProducts() const {
  return alternates() ? 2 : static_cast<int64_t>(weights.size());
}

/// A lane has two neighbouring columns of weights of 16 bits: a column of both
/// products where they alternate, and one of the next 8. Of f32, whose columns
/// are read in another order (WarpMatmul), it has four.
MatmulProblem::LaneColumns MatmulProblem::getLaneColumns() const {
  if (alternates() && !elementType.isF32())
    return {/*step=*/1, /*next=*/4};
  return {/*step=*/2, /*next=*/1};
}

bool MatmulProblem::readsSource() const {
  auto reads = [](const LinearAccess &access) {
    return access.dependsOn(Matmul::kToken) ||
           access.dependsOn(Matmul::kChoice);
  };
  return reads(rows) || llvm::any_of(extras, reads);
}

//===----------------------------------------------------------------------===//
// Accesses
//===----------------------------------------------------------------------===//

namespace {
/// Where the elements of a buffer lie: distances of neighbours and the place of
/// the first, in elements.
struct Layout {
  SmallVector<int64_t> strides;
  int64_t offset = 0;
};
} // namespace

/// The layout of a tensor is what bufferization will give it. Empty if some of
/// it is unknown.
static std::optional<Layout> getLayout(Type type) {
  Layout layout;
  if (auto memref = dyn_cast<MemRefType>(type)) {
    if (failed(memref.getStridesAndOffset(layout.strides, layout.offset)) ||
        ShapedType::isDynamic(layout.offset) ||
        llvm::any_of(layout.strides, ShapedType::isDynamic))
      return std::nullopt;
    return layout;
  }
  auto shape = cast<ShapedType>(type).getShape();
  layout.strides.assign(shape.size(), 1);
  for (int64_t i = static_cast<int64_t>(shape.size()) - 2; i >= 0; --i) {
    if (ShapedType::isDynamic(shape[i + 1]))
      return std::nullopt;
    layout.strides[i] = layout.strides[i + 1] * shape[i + 1];
  }
  return layout;
}

/// Adds factor · expr to `access`; false if that is not linear.
static bool addLinear(AffineExpr expr, int64_t factor, LinearAccess &access) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr)) {
    access.constant += factor * constant.getValue();
    return true;
  }
  if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
    access.coefficients[dim.getPosition()] += factor;
    return true;
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return false;
  if (expr.getKind() == AffineExprKind::Add)
    return addLinear(binary.getLHS(), factor, access) &&
           addLinear(binary.getRHS(), factor, access);
  auto scale = dyn_cast<AffineConstantExpr>(binary.getRHS());
  return expr.getKind() == AffineExprKind::Mul && scale &&
         addLinear(binary.getLHS(), factor * scale.getValue(), access);
}

/// Empty if the strides are unknown or the map is not linear.
static std::optional<LinearAccess> getAccess(Value buffer, AffineMap map) {
  LinearAccess access;
  access.buffer = buffer;
  access.coefficients.assign(Matmul::kNumDims, 0);
  std::optional<Layout> layout = getLayout(buffer.getType());
  if (!layout)
    return std::nullopt;
  access.constant = layout->offset;
  for (auto [expr, stride] : llvm::zip(map.getResults(), layout->strides))
    if (!addLinear(expr, stride, access))
      return std::nullopt;
  return access;
}

/// True if all places but along `dim`, which has neighbours side by side, are
/// multiples of a piece apart.
static bool isAligned(const LinearAccess &access, unsigned dim) {
  int64_t piece = kPieceBytes / access.getElementBytes();
  if (access.coefficients[dim] != 1 || access.constant % piece != 0)
    return false;
  for (auto [i, coefficient] : llvm::enumerate(access.coefficients))
    if (i != dim && coefficient % piece != 0)
      return false;
  return true;
}

//===----------------------------------------------------------------------===//
// Analysis
//===----------------------------------------------------------------------===//

/// True if two terms multiply the same rows.
static bool haveSameRows(const Matmul::Term &x, const Matmul::Term &y) {
  if (x.lhs != y.lhs || x.lhsMap != y.lhsMap || x.lhsExtras != y.lhsExtras ||
      x.lhsExtraMaps != y.lhsExtraMaps || !x.prologue != !y.prologue)
    return false;
  return !x.prologue ||
         OperationEquivalence::isRegionEquivalentTo(
             x.prologue, y.prologue, OperationEquivalence::IgnoreLocations);
}

namespace {

/// Fills a problem, or says in an error why it cannot.
class Analysis {
public:
  explicit Analysis(Matmul op) {
    problem.op = op;
    problem.offsets = op.getOffsets();
    problem.source = op.getSource();
    problem.topK = op.getTopK().value_or(1);
    problem.epilogue = &op.getEpilogue();
  }

  llvm::Expected<MatmulProblem> run() {
    if (llvm::Error error = checkForm())
      return error;
    if (llvm::Error error = readFactors())
      return error;
    if (llvm::Error error = readScalarOperands())
      return error;
    if (llvm::Error error = readScalars())
      return error;
    return problem;
  }

private:
  MatmulProblem problem;

  static llvm::Error decline(const llvm::Twine &why) {
    return llvm::createStringError(why);
  }

  llvm::Error checkForm() {
    Matmul op = problem.op;
    if (op.isCombining())
      return decline("rows are combined by the matmul; keep moe.combine, which "
                     "is a kernel of its own (no moe-fuse-combine)");
    problem.numColumns = op.getNumColumns();
    if (ShapedType::isDynamic(problem.numColumns) || problem.numColumns < 1)
      return decline("N, the number of columns, is not a positive constant; "
                     "make it static");
    for (Value buffer : {problem.offsets, problem.source})
      if (buffer)
        if (llvm::Error error = checkLayout(buffer))
          return error;
    for (const Matmul::Product &product : op.getProducts()) {
      if (product.size() != 1)
        return decline("a product is a sum of terms; concatenate them along k");
      const Matmul::Term &term = product[0];
      if (term.decode)
        return decline("a weight is decoded; decode it before the layer");
      if (!haveSameRows(term, op.getProducts()[0][0]))
        return decline("products read different rows; make them one op each");
    }
    return llvm::Error::success();
  }

  llvm::Error readFactors() {
    SmallVector<Matmul::Product> products = problem.op.getProducts();
    const Matmul::Term &first = products[0][0];
    problem.isGathered = first.isGathered();
    problem.length = first.getLength();
    if (ShapedType::isDynamic(problem.length) || problem.length < 1)
      return decline(
          "K, the length of a sum, is not a positive constant; make it static");
    problem.elementType =
        cast<ShapedType>(first.lhs.getType()).getElementType();
    if (first.prologue)
      if (llvm::Error error = readPrologue(first))
        return error;
    int64_t piece = problem.getPieceElements();
    std::optional<LinearAccess> rows = getAccess(first.lhs, first.lhsMap);
    bool canBeCopied =
        rows && (problem.prologue || isAligned(*rows, Matmul::kSum));
    if (!canBeCopied || problem.length % piece != 0)
      return decline(llvm::formatv(
          "rows of K = {0} elements cannot be copied 16 bytes at a time; make "
          "K and the distance of rows multiples of {1}",
          problem.length, piece));
    problem.rows = *rows;
    for (const Matmul::Product &product : products) {
      const Matmul::Term &term = product[0];
      auto weight = getAccess(term.getWeight(), term.getWeightMap());
      if (!weight)
        return decline("the place of a weight's element is not a linear "
                       "function of e, n and k; store it as E×N×K or E×K×N");
      problem.weights.push_back(*weight);
    }
    joinAlternating();
    for (auto [i, weight] : llvm::enumerate(problem.weights))
      if (llvm::Error error = checkWeight(weight, /*isFirst=*/i == 0))
        return error;
    return llvm::Error::success();
  }

  llvm::Error readPrologue(const Matmul::Term &term) {
    Builder b(term.lhs.getContext());
    llvm::Expected<DeviceRegion> region =
        analyzeRegion(*term.prologue, term.lhsExtras,
                      b.getAffineMapArrayAttr(term.lhsExtraMaps), "prologue");
    if (!region)
      return region.takeError();
    if (!problem.elementType.isIntOrFloat() ||
        problem.elementType.getIntOrFloatBitWidth() % 8 != 0)
      return decline(
          llvm::formatv("the rows of a prologue have elements of {0}; "
                        "a kernel reads numbers of whole bytes",
                        problem.elementType));
    problem.prologue = *region;
    problem.elementType =
        term.prologue->front().getTerminator()->getOperand(0).getType();
    return llvm::Error::success();
  }

  /// Makes one weight of two whose columns alternate in memory.
  void joinAlternating() {
    if (problem.weights.size() != 2)
      return;
    LinearAccess &first = problem.weights[0], &second = problem.weights[1];
    bool alternate = first.buffer == second.buffer &&
                     first.coefficients == second.coefficients &&
                     first.coefficients[Matmul::kColumn] == 2 &&
                     std::abs(first.constant - second.constant) == 1;
    if (!alternate)
      return;
    problem.alternating = {first.constant > second.constant,
                           second.constant > first.constant};
    first.constant = std::min(first.constant, second.constant);
    first.coefficients[Matmul::kColumn] = 1;
    problem.weights.pop_back();
  }

  llvm::Error checkWeight(const LinearAccess &weight, bool isFirst) {
    if (weight.getElementType() != problem.elementType)
      return decline(
          llvm::formatv("rows are {0} and weights {1}; make them one "
                        "type",
                        problem.elementType, weight.getElementType()));
    int64_t piece = problem.getPieceElements();
    bool sumIsLast = weight.coefficients[Matmul::kSum] == 1;
    if (!isAligned(weight, sumIsLast ? Matmul::kSum : Matmul::kColumn))
      return decline(llvm::formatv(
          "a weight cannot be copied 16 bytes at a time along k or n; make K "
          "and N multiples of {0} and store it as E×N×K or E×K×N",
          piece));
    int64_t columns = problem.getWeightColumns(problem.numColumns);
    if (!sumIsLast && columns % piece != 0)
      return decline(llvm::formatv("N = {0} of a weight with n as its last "
                                   "index is not a multiple of {1}",
                                   columns, piece));
    if (!isFirst && sumIsLast != problem.sumIsLast)
      return decline("k is the last index of one weight and n that of another; "
                     "store both alike");
    problem.sumIsLast = sumIsLast;
    return llvm::Error::success();
  }

  llvm::Error readScalarOperands() {
    Matmul op = problem.op;
    auto maps = op.getExtraMaps().getAsValueRange<AffineMapAttr>();
    for (auto [extra, map] : llvm::zip(op.getExtras(), maps)) {
      std::optional<LinearAccess> access = getAccess(extra, map);
      if (!access || !access->getElementType().isIntOrFloat())
        return decline("the place of an extra's element is not a linear "
                       "function of its indices; make its inner sizes static");
      problem.extras.push_back(*access);
    }
    AffineMap map = AffineMap::getMultiDimMapWithTargets(
        Matmul::kNumDims, {Matmul::kRow, Matmul::kColumn}, op.getContext());
    for (Value init : op.getInits()) {
      std::optional<LinearAccess> access = getAccess(init, map);
      if (!access || access->coefficients[Matmul::kColumn] != 1 ||
          !access->getElementType().isIntOrFloat())
        return decline("rows of a result are not stored one after the other; "
                       "give it the default layout");
      problem.results.push_back(*access);
    }
    return llvm::Error::success();
  }

  llvm::Error readScalars() {
    if (Operation *op = findOpWithoutDeviceCode(*problem.epilogue))
      return decline("'" + op->getName().getStringRef() +
                     "' in the epilogue has no code for GPUs; use ops of arith "
                     "and math that it has, on types of at most 32 bits");
    llvm::SetVector<Value> above;
    getUsedValuesDefinedAbove(*problem.epilogue, above);
    for (Value value : above) {
      if (matchPattern(value, m_Constant()))
        continue;
      if (!value.getType().isIntOrFloat())
        return decline(llvm::formatv("the epilogue uses a {0} from above; make "
                                     "it an extra",
                                     value.getType()));
      problem.scalars.push_back(value);
    }
    return llvm::Error::success();
  }
};

} // namespace

llvm::Expected<MatmulProblem> mlir::moe::analyzeMatmul(Matmul op) {
  return Analysis(op).run();
}

MatmulProblem mlir::moe::withStoredRows(MatmulProblem problem, Value rows) {
  problem.rows = {rows, 0, SmallVector<int64_t, 6>(Matmul::kNumDims, 0)};
  problem.rows.coefficients[Matmul::kRow] = problem.length;
  problem.rows.coefficients[Matmul::kSum] = 1;
  problem.isGathered = false;
  problem.prologue = DeviceRegion();
  return problem;
}

//===----------------------------------------------------------------------===//
// Configurations
//===----------------------------------------------------------------------===//

int64_t mlir::moe::getSharedBytes(const MatmulProblem &problem,
                                  GPUMatmulAttr config) {
  int64_t rows =
      config.getTileRows() + problem.getNumProducts() * config.getTileColumns();
  return config.getStages() * rows * kRowBytes;
}

int64_t mlir::moe::getSharedBytes(const MatmulProblem &problem,
                                  GPUWgmmaAttr config) {
  int64_t rows =
      config.getTileRows() + problem.getNumProducts() * config.getTileColumns();
  return StageRing::getBytes(config.getStages(),
                             rows * config.getTileSum() * 2);
}

/// Fails if the sums of a tile of all products do not fit into the registers of
/// `numThreads` threads.
template <typename Config>
static llvm::Error checkSums(const MatmulProblem &problem, Config config,
                             int64_t numThreads, StringRef more) {
  // Of 255 registers a thread, what indices and operands leave; those of f32
  // are in two parts, and have products beside the sums.
  int64_t maxSums = problem.elementType.isF32() ? 64 : 128;
  int64_t sums = problem.getNumProducts() * config.getTileRows() *
                 config.getTileColumns() / numThreads;
  if (sums <= maxSums)
    return llvm::Error::success();
  return llvm::createStringError(llvm::formatv(
      "a thread would keep {0} sums in registers, of {1} that fit; make the "
      "tile smaller or take more {2}",
      sums, maxSums, more));
}

/// Fails if panels of 128 bytes of columns of a weight with n last do not fill
/// a tile.
template <typename Config>
static llvm::Error checkPanels(const MatmulProblem &problem, Config config) {
  int64_t panel = problem.getRowElements() / problem.getColumnRatio();
  if (problem.sumIsLast || config.getTileColumns() % panel == 0)
    return llvm::Error::success();
  return llvm::createStringError(llvm::formatv(
      "tile_columns = {0} must be a multiple of {1} where n is the last index "
      "of a weight of {2}",
      config.getTileColumns(), panel, problem.elementType));
}

/// Fails if rows are computed where they are multiplied.
template <typename Config>
static llvm::Error checkRows(const MatmulProblem &problem, Config config) {
  if (!problem.prologue || config.getPermuted())
    return llvm::Error::success();
  return llvm::createStringError("rows are computed by a prologue; let a "
                                 "kernel store them first: permuted "
                                 "= true");
}

/// Fails if a bulk copy cannot say where the elements of `access` lie.
static llvm::Error checkTensorMap(StringRef name, const LinearAccess &access,
                                  ArrayRef<unsigned> dims) {
  constexpr int64_t kMaxStride = int64_t(1) << 40;
  for (unsigned dim : dims)
    if (access.coefficients[dim] == 0)
      return llvm::createStringError(
          llvm::formatv("{0} repeats along {1}, which bulk copies cannot do",
                        name, "emtjnk"[dim]));
  for (int64_t coefficient : access.coefficients)
    if (coefficient < 0 || coefficient >= kMaxStride / access.getElementBytes())
      return llvm::createStringError(llvm::formatv(
          "neighbours of {0} are {1} elements apart, which bulk copies cannot "
          "do",
          name, coefficient));
  return llvm::Error::success();
}

llvm::Error mlir::moe::checkConfig(const MatmulProblem &problem,
                                   GPUWgmmaAttr config) {
  if (problem.elementType.isF32())
    return llvm::createStringError(
        "factors are f32, which wgmma would cut to tf32; take a gpu_matmul");
  if (llvm::Error error = checkRows(problem, config))
    return error;
  if (llvm::Error error =
          checkSums(problem, config, config.getNumConsumers(), "groups"))
    return error;
  if (llvm::Error error = checkPanels(problem, config))
    return error;
  for (const LinearAccess &weight : problem.weights)
    if (llvm::Error error =
            checkTensorMap("a weight", weight, {Matmul::kColumn, Matmul::kSum}))
      return error;
  if (config.getPermuted())
    return llvm::Error::success();
  if (!problem.isGathered)
    return checkTensorMap("the rows", problem.rows,
                          {Matmul::kRow, Matmul::kSum});
  // 128 threads gather 16 rows at a time.
  if (config.getTileRows() % 16 != 0 && config.getTileRows() != 8)
    return llvm::createStringError(llvm::formatv(
        "tile_rows = {0} must be 8 or a multiple of 16 where rows are gathered",
        config.getTileRows()));
  return llvm::Error::success();
}

llvm::Error mlir::moe::checkConfig(const MatmulProblem &problem,
                                   GPUMatmulAttr config) {
  if (config.getTileSum() != problem.getRowElements())
    return llvm::createStringError(llvm::formatv(
        "tile_sum = {0} must be {1} where factors are {2}: rows of {3} bytes",
        config.getTileSum(), problem.getRowElements(), problem.elementType,
        kRowBytes));
  if (llvm::Error error = checkRows(problem, config))
    return error;
  if (llvm::Error error =
          checkSums(problem, config, config.getNumThreads(), "warps"))
    return error;
  auto checkCopies = [&](StringRef name, int64_t size,
                         int64_t rows) -> llvm::Error {
    int64_t pieces = rows * 8, threads = config.getNumThreads();
    if (pieces % threads == 0 || threads % pieces == 0)
      return llvm::Error::success();
    return llvm::createStringError(llvm::formatv(
        "{0} = {1} has {2} pieces of 16 bytes a step, which {3} threads cannot "
        "share evenly",
        name, size, pieces, threads));
  };
  int64_t rows = config.getTileRows(), columns = config.getTileColumns();
  if (llvm::Error error = checkCopies("tile_rows", rows, rows))
    return error;
  if (llvm::Error error = checkPanels(problem, config))
    return error;
  return checkCopies("tile_columns", columns,
                     problem.getWeightColumns(columns));
}
