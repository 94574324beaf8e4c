//===- AllocationsToWorkspace.cpp - One buffer from the caller --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Places allocations one after the other in a buffer that the caller brings.
/// Sizes are kept as coefficient × sizes of arguments until they are written
/// twice: as offsets into the entry, and as a sum into @NAME.workspace.
///
//===----------------------------------------------------------------------===//

#include "moe/Target/Passes.h"

#include "EntryShapes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Remarks.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/DataLayoutInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEALLOCATIONSTOWORKSPACE
#include "moe/Target/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Of every buffer, and of the workspace: a cache line, the widest vector.
static constexpr int64_t kAlignment = 64;
static constexpr StringLiteral kRemark("moe-allocations-to-workspace");

namespace {

/// coefficient × the product of values of the entry.
struct Bytes {
  int64_t coefficient = 1;
  SmallVector<Value> factors;

  bool isConstant() const { return factors.empty(); }
  bool isAligned() const { return coefficient % kAlignment == 0; }
};

struct Allocation {
  memref::AllocOp op;
  SmallVector<Operation *> deallocs;
  Bytes bytes;
};

/// Copies arithmetic on sizes of the entry's arguments elsewhere.
class SizeCopier {
public:
  /// What stands for a dynamic size of an argument; null if nothing does.
  using ArgumentSize = std::function<Value(BlockArgument, int64_t dim)>;

  SizeCopier(OpBuilder &builder, ArgumentSize argumentSize)
      : builder(builder), argumentSize(std::move(argumentSize)) {}

  /// `value` where the builder stands; null if it depends on anything else.
  Value copy(Value value);
  Value copy(const Bytes &bytes, Location loc);

private:
  Value copyOp(OpResult result);

  OpBuilder &builder;
  ArgumentSize argumentSize;
  IRMapping mapping;
};

} // namespace

//===----------------------------------------------------------------------===//
// Sizes
//===----------------------------------------------------------------------===//

/// The argument of the function whose dynamic size `op` asks for; results,
/// which are arguments by now, are none.
static BlockArgument getMeasured(memref::DimOp op) {
  auto argument = dyn_cast<BlockArgument>(op.getSource());
  if (!argument || !op.getConstantIndex())
    return {};
  auto entry = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  auto attr = entry ? entry->getAttrOfType<DictionaryAttr>(kEntryAttr)
                    : DictionaryAttr();
  auto results = attr ? attr.getAs<IntegerAttr>("results") : IntegerAttr();
  bool isInput = results && argument.getArgNumber() <
                                entry.getNumArguments() - results.getInt();
  return isInput ? argument : BlockArgument();
}

/// An op that computes numbers from numbers, and nothing else.
static bool isArithmetic(Operation *op) {
  auto isScalar = [](Type type) { return type.isIntOrIndex(); };
  return op->getNumRegions() == 0 && isMemoryEffectFree(op) &&
         llvm::all_of(op->getOperandTypes(), isScalar) &&
         llvm::all_of(op->getResultTypes(), isScalar);
}

/// Whether `value` is a function of sizes of the entry's arguments.
static bool isOfSizes(Value value) {
  Operation *op = value.getDefiningOp();
  if (auto dim = dyn_cast_or_null<memref::DimOp>(op))
    return static_cast<bool>(getMeasured(dim));
  return op && isArithmetic(op) && llvm::all_of(op->getOperands(), isOfSizes);
}

Value SizeCopier::copyOp(OpResult result) {
  Operation *op = result.getOwner();
  if (auto dim = dyn_cast<memref::DimOp>(op)) {
    BlockArgument argument = getMeasured(dim);
    return argument ? argumentSize(argument, *dim.getConstantIndex()) : Value();
  }
  if (!isArithmetic(op))
    return {};
  for (Value operand : op->getOperands())
    if (!copy(operand))
      return {};
  builder.clone(*op, mapping);
  return mapping.lookup(Value(result));
}

Value SizeCopier::copy(Value value) {
  if (Value known = mapping.lookupOrNull(value))
    return known;
  auto result = dyn_cast<OpResult>(value);
  Value copied = result ? copyOp(result) : Value();
  if (copied)
    mapping.map(value, copied);
  return copied;
}

Value SizeCopier::copy(const Bytes &bytes, Location loc) {
  Value product;
  for (Value factor : bytes.factors) {
    Value size = copy(factor);
    if (!size)
      return {};
    product =
        product ? arith::MulIOp::create(builder, loc, product, size) : size;
  }
  Value coefficient =
      arith::ConstantIndexOp::create(builder, loc, bytes.coefficient);
  if (!product)
    return coefficient;
  if (bytes.coefficient == 1)
    return product;
  return arith::MulIOp::create(builder, loc, product, coefficient);
}

/// Multiplies by `size`, its constant factors apart.
static LogicalResult multiply(Bytes &bytes, Value size) {
  while (auto product = size.getDefiningOp<arith::MulIOp>()) {
    std::optional<int64_t> constant = getConstantIntValue(product.getRhs());
    if (!constant || *constant < 0 ||
        llvm::MulOverflow(bytes.coefficient, *constant, bytes.coefficient))
      break;
    size = product.getLhs();
  }
  if (std::optional<int64_t> constant = getConstantIntValue(size))
    return success(
        *constant >= 0 &&
        !llvm::MulOverflow(bytes.coefficient, *constant, bytes.coefficient));
  bytes.factors.push_back(size);
  return success(isOfSizes(size));
}

static FailureOr<Bytes> measure(memref::AllocOp op) {
  MemRefType type = op.getType();
  Bytes bytes;
  bytes.coefficient =
      DataLayout::closest(op).getTypeSize(type.getElementType());
  for (int64_t size : type.getShape())
    if (!ShapedType::isDynamic(size) &&
        llvm::MulOverflow(bytes.coefficient, size, bytes.coefficient))
      return failure();
  for (Value size : op.getDynamicSizes())
    if (failed(multiply(bytes, size)))
      return failure();
  if (bytes.isConstant())
    bytes.coefficient = llvm::alignTo(bytes.coefficient, kAlignment);
  return bytes;
}

//===----------------------------------------------------------------------===//
// Which allocations can be placed
//===----------------------------------------------------------------------===//

/// Follows an allocation through views; false if it gets where the memory of an
/// iteration may meet that of another, or where it is not clear who frees it.
/// What is not in a loop may be pointed to: it is there as long as the call.
static bool collectDeallocs(Value buffer, bool isInLoop,
                            SmallVectorImpl<Operation *> &deallocs) {
  for (Operation *user : buffer.getUsers()) {
    if (isa<memref::DeallocOp>(user)) {
      deallocs.push_back(user);
    } else if (auto parts = dyn_cast<memref::ExtractStridedMetadataOp>(user)) {
      if (!collectDeallocs(parts.getBaseBuffer(), isInLoop, deallocs))
        return false;
    } else if (isa<ViewLikeOpInterface>(user) && user->getNumResults() == 1) {
      if (!collectDeallocs(user->getResult(0), isInLoop, deallocs))
        return false;
    } else if (user->hasTrait<OpTrait::IsTerminator>() ||
               isa<RegionBranchOpInterface, arith::SelectOp, memref::ReallocOp>(
                   user) ||
               (isInLoop &&
                isa<memref::ExtractAlignedPointerAsIndexOp>(user))) {
      return false;
    }
  }
  return true;
}

/// Why an allocation has to stay; empty if it need not.
static StringRef whyKept(memref::AllocOp op, Allocation &allocation) {
  if (!op.getType().getLayout().isIdentity() || op.getType().getMemorySpace() ||
      op.getAlignment().value_or(1) > uint64_t(kAlignment))
    return "it is laid out in its own way";
  for (Operation *parent = op->getParentOp(); !isa<func::FuncOp>(parent);
       parent = parent->getParentOp())
    if (!isa<scf::ForOp, scf::IfOp, scf::WhileOp, scf::IndexSwitchOp>(parent))
      return "it is allocated where several threads may be";
  FailureOr<Bytes> bytes = measure(op);
  if (failed(bytes))
    return "its size depends on data, not on the sizes of arguments alone";
  bool isInLoop = !isa<func::FuncOp>(op->getParentOp());
  if (!collectDeallocs(op, isInLoop, allocation.deallocs))
    return "a loop or a branch carries it on";
  allocation.op = op;
  allocation.bytes = std::move(*bytes);
  return {};
}

static void remarkKept(func::FuncOp func, Location loc, StringRef reason) {
  remark::detail::InFlightRemark missed = remark::missed(
      loc, remark::RemarkOpts::name("memory is allocated in calls")
               .category(kRemark)
               .function(func.getName()));
  if (missed)
    missed << remark::add("memory is allocated in calls")
           << remark::reason("{0}", reason.str());
}

//===----------------------------------------------------------------------===//
// The workspace
//===----------------------------------------------------------------------===//

namespace {

/// Rewrites one entry.
class WorkspaceBuilder {
public:
  WorkspaceBuilder(func::FuncOp entry, func::FuncOp shapes)
      : entry(entry), shapes(shapes), b(entry.getContext()),
        loc(entry.getLoc()) {}

  /// Returns @NAME.workspace.
  func::FuncOp build();

private:
  void collect();
  void placeAllocations();
  func::FuncOp buildFunction();
  Value buildSum(SizeCopier &copier);
  Value roundUp(Value bytes);
  void remarkSize(func::FuncOp function);

  Value constant(int64_t value) {
    return arith::ConstantIndexOp::create(b, loc, value);
  }
  Value add(Value x, Value y) { return arith::AddIOp::create(b, loc, x, y); }
  Value mul(Value x, int64_t y) {
    return y == 1 ? x
                  : arith::MulIOp::create(b, loc, x, constant(y)).getResult();
  }

  func::FuncOp entry, shapes;
  OpBuilder b;
  Location loc;
  SmallVector<Allocation> allocations;
};

} // namespace

/// Constants first, then what needs no rounding: offsets stay simple.
void WorkspaceBuilder::collect() {
  SmallVector<Allocation> byRank[3];
  entry.walk([&](memref::AllocOp op) {
    Allocation allocation;
    StringRef reason = whyKept(op, allocation);
    if (!reason.empty())
      return remarkKept(entry, op.getLoc(), reason);
    const Bytes &bytes = allocation.bytes;
    unsigned rank = bytes.isConstant() ? 0 : bytes.isAligned() ? 1 : 2;
    byRank[rank].push_back(std::move(allocation));
  });
  for (SmallVector<Allocation> &sameRank : byRank)
    llvm::append_range(allocations, std::move(sameRank));
}

Value WorkspaceBuilder::roundUp(Value bytes) {
  Value sum = add(bytes, constant(kAlignment - 1));
  Value lines = arith::DivUIOp::create(b, loc, sum, constant(kAlignment));
  return mul(lines, kAlignment);
}

/// One buffer behind the other, as views.
void WorkspaceBuilder::placeAllocations() {
  b.setInsertionPointToStart(&entry.getBody().front());
  SizeCopier copier(b, [&](BlockArgument argument, int64_t dim) -> Value {
    return memref::DimOp::create(b, loc, argument, dim);
  });
  Value offset = constant(0);
  SmallVector<Value> offsets;
  for (const Allocation &allocation : allocations) {
    offsets.push_back(offset);
    Value bytes = copier.copy(allocation.bytes, loc);
    offset = add(offset, allocation.bytes.isAligned() ? bytes : roundUp(bytes));
  }
  auto type = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
  unsigned position = entry.getNumArguments();
  (void)entry.insertArgument(position, type, /*argAttrs=*/{}, loc);
  Value workspace = entry.getArgument(position);
  for (auto [allocation, offset] : llvm::zip(allocations, offsets)) {
    for (Operation *dealloc : allocation.deallocs)
      dealloc->erase();
    memref::AllocOp op = allocation.op;
    b.setInsertionPoint(op);
    Value view = memref::ViewOp::create(b, op.getLoc(), op.getType(), workspace,
                                        offset, op.getDynamicSizes());
    op.replaceAllUsesWith(view);
    op.erase();
  }
}

/// The same sum, written for people: what has the same factors is together.
Value WorkspaceBuilder::buildSum(SizeCopier &copier) {
  int64_t fixed = 0;
  llvm::MapVector<SmallVector<Value>, int64_t> aligned;
  llvm::MapVector<std::pair<SmallVector<Value>, int64_t>, int64_t> rounded;
  for (const Allocation &allocation : allocations) {
    const Bytes &bytes = allocation.bytes;
    if (bytes.isConstant())
      fixed += bytes.coefficient;
    else if (bytes.isAligned())
      aligned[bytes.factors] += bytes.coefficient;
    else
      ++rounded[{bytes.factors, bytes.coefficient}];
  }
  Value sum;
  auto append = [&](Value bytes) { sum = sum ? add(sum, bytes) : bytes; };
  for (const auto &[factors, coefficient] : aligned)
    append(copier.copy(Bytes{coefficient, factors}, loc));
  for (const auto &[key, count] : rounded)
    append(mul(roundUp(copier.copy(Bytes{key.second, key.first}, loc)), count));
  if (fixed || !sum)
    append(constant(fixed));
  return sum;
}

/// @NAME.workspace takes what @NAME.shapes takes: the dynamic sizes of the
/// arguments, under the same names.
func::FuncOp WorkspaceBuilder::buildFunction() {
  b.setInsertionPointAfter(shapes);
  auto type = b.getFunctionType(shapes.getArgumentTypes(), b.getIndexType());
  auto function = func::FuncOp::create(
      b, loc, (entry.getName() + ".workspace").str(), type);
  function.setPrivate();
  for (unsigned i = 0, e = shapes.getNumArguments(); i < e; ++i)
    if (DictionaryAttr attrs = shapes.getArgAttrDict(i))
      function.setArgAttrs(i, attrs);
  b.setInsertionPointToStart(function.addEntryBlock());
  SizeCopier copier(b, [&](BlockArgument argument, int64_t dim) -> Value {
    unsigned index = 0;
    for (unsigned i = 0; i < argument.getArgNumber(); ++i)
      index +=
          cast<MemRefType>(entry.getArgumentTypes()[i]).getNumDynamicDims();
    index += cast<MemRefType>(argument.getType()).getDynamicDimIndex(dim);
    return function.getArgument(index);
  });
  Value sum = buildSum(copier);
  func::ReturnOp::create(b, loc, sum);
  return function;
}

void WorkspaceBuilder::remarkSize(func::FuncOp function) {
  remark::detail::InFlightRemark found =
      remark::analysis(loc, remark::RemarkOpts::name("workspace")
                                .category(kRemark)
                                .function(entry.getName()));
  if (!found)
    return;
  Value sum = function.getBody().front().getTerminator()->getOperand(0);
  found << remark::add("{0} bytes of workspace in {1} buffers",
                       printSize(function, sum), allocations.size());
}

func::FuncOp WorkspaceBuilder::build() {
  collect();
  func::FuncOp function = buildFunction();
  remarkSize(function);
  placeAllocations();
  return function;
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

namespace {

struct AllocationsToWorkspace final
    : moe::impl::MoEAllocationsToWorkspaceBase<AllocationsToWorkspace> {
  using MoEAllocationsToWorkspaceBase::MoEAllocationsToWorkspaceBase;

  bool canScheduleOn(RegisteredOperationName name) const override {
    return name.hasTrait<OpTrait::SymbolTable>();
  }

  void runOnOperation() override {
    auto rewrite = [&](func::FuncOp func, DictionaryAttr attr) {
      return this->rewrite(func, attr);
    };
    if (failed(forEachEntry(getOperation(), rewrite)))
      signalPassFailure();
  }

private:
  LogicalResult rewrite(func::FuncOp func, DictionaryAttr attr);
};

} // namespace

/// Private functions are those that the entry calls.
static void remarkOthers(Operation *symbolTable, func::FuncOp entry) {
  symbolTable->walk([&](memref::AllocOp op) {
    auto func = op->getParentOfType<func::FuncOp>();
    if (func && func != entry && func.isPrivate())
      remarkKept(func, op.getLoc(), "it is in a function that the entry calls");
  });
}

LogicalResult AllocationsToWorkspace::rewrite(func::FuncOp func,
                                              DictionaryAttr attr) {
  auto fail = [&] { return func.emitError() << "@" << func.getName() << " "; };
  auto results = attr.getAs<IntegerAttr>("results");
  auto symbol = attr.getAs<FlatSymbolRefAttr>("shapes");
  func::FuncOp shapes;
  if (symbol)
    shapes = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(func, symbol);
  if (!results || !shapes || shapes.getBody().empty())
    return fail() << "has not the results and shapes that moe-prepare-entry "
                     "writes";
  if (attr.get("workspace"))
    return fail() << "has a workspace already";
  if (!llvm::all_of(func.getArgumentTypes(), llvm::IsaPred<MemRefType>))
    return fail() << "is not on memrefs; bufferize it first";
  std::string name = (func.getName() + ".workspace").str();
  if (SymbolTable::lookupSymbolIn(getOperation(), name))
    return fail() << "needs the symbol @" << name << ", which is taken";
  func::FuncOp function = WorkspaceBuilder(func, shapes).build();
  NamedAttrList attrs(attr);
  attrs.set("workspace", SymbolRefAttr::get(function));
  func->setAttr(kEntryAttr, attrs.getDictionary(&getContext()));
  remarkOthers(getOperation(), func);
  return success();
}
