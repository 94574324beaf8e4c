//===- CreateCEntry.cpp - The C functions around an entry -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Builds, for an entry @layer with its @layer.shapes:
///
///   layer.check(arguments, sizes)   checks arguments, computes result sizes
///   layer.run(tensors, workspace, bytes)
///                                   check, results' and workspace's checks,
///                                   call of layer.body
///   layer, layer_packed             what C callers see; both call layer.run
///   layer_workspace, layer_workspace_packed
///                                   how much layer.run needs
///   layer_shapes                    what a JIT's caller sees; calls
///   layer.check
///
/// The visible functions call internal ones only, so that a second artifact in
/// the process with functions of the same names changes nothing.
///
//===----------------------------------------------------------------------===//

#include "moe/Target/Passes.h"

#include "CheckTensor.h"
#include "EntryShapes.h"
#include "StatsEntry.h"
#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOECREATECENTRY
#include "moe/Target/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// An entry at memref level: arguments, then results.
struct BufferEntry {
  func::FuncOp body, shapes;
  /// Null where the body takes no workspace.
  func::FuncOp workspace;
  /// What chooses a version of the body; null where there is but one.
  LLVM::LLVMFuncOp isa;
  /// What the body launches on a GPU; null where it runs on the CPU.
  LLVM::GlobalOp program;
  /// What the dynamic sizes of arguments are called, in their order: equal ones
  /// alike.
  SmallVector<std::string> sizeNames;
  SmallVector<MemRefType> types;
  int64_t numArguments = 0;
  /// The symbol in the IR, and the name that C sees.
  std::string name, cName;
  /// What the visible functions call: name.run, or name.run_stats, which takes
  /// a moe_stats * as well.
  std::string callee = ".run";
  bool hasStats() const { return callee == ".run_stats"; }

  ArrayRef<MemRefType> getArguments() const {
    return ArrayRef(types).take_front(numArguments);
  }
  ArrayRef<MemRefType> getResults() const {
    return ArrayRef(types).drop_front(numArguments);
  }
  int64_t getNumResultSizes() const {
    int64_t count = 0;
    for (MemRefType type : getResults())
      count += type.getRank();
    return count;
  }
};

/// Builds the functions of one entry.
class CEntryBuilder {
public:
  CEntryBuilder(BufferEntry &entry, const LLVMTypeConverter &converter)
      : entry(entry), converter(converter),
        b(entry.shapes.getLoc(), entry.shapes.getContext()),
        ptr(LLVM::LLVMPointerType::get(b.getContext())), i32(b.getI32Type()),
        i64(b.getI64Type()) {
    b.setInsertionPointAfter(entry.shapes);
  }

  /// NAME.check and NAME.run.
  void buildInternal();
  /// What C sees.
  void buildVisible(bool exportShapes);

private:
  LLVM::LLVMFuncOp startFunction(const Twine &name, ArrayRef<Type> arguments,
                                 LLVM::Linkage linkage, Type result);
  void buildCheck();
  void buildRun();
  void buildNamed();
  void buildPacked();
  void buildWorkspace();
  void buildWorkspacePacked();
  void buildShapes();
  void buildError();

  Value constant(Type type, int64_t value) {
    return LLVM::ConstantOp::create(b, type, b.getIntegerAttr(type, value));
  }
  /// In the entry block, wherever it is needed, so that it is promoted.
  Value allocate(Type elementType, int64_t count) {
    OpBuilder::InsertionGuard guard(b);
    Region *function = b.getInsertionBlock()->getParent();
    b.setInsertionPointToStart(&function->front());
    return LLVM::AllocaOp::create(b, ptr, elementType, constant(i64, count));
  }
  /// The address of element `i` of an array.
  Value at(Value array, Type elementType, int64_t i) {
    return LLVM::GEPOp::create(b, ptr, elementType, array,
                               ArrayRef<LLVM::GEPArg>{int32_t(i)});
  }
  Value load(Type type, Value address) {
    return LLVM::LoadOp::create(b, type, address);
  }
  Value cast(Value value, Type type) {
    return UnrealizedConversionCastOp::create(b, type, value).getResult(0);
  }
  Value call(StringRef callee, ValueRange operands) {
    return LLVM::CallOp::create(b, TypeRange{i32},
                                FlatSymbolRefAttr::get(b.getContext(), callee),
                                operands)
        .getResult();
  }
  /// Calls what the visible functions call, with as many of `operands` as it
  /// takes.
  Value callRun(ValueRange operands) {
    auto callee = SymbolTable::lookupNearestSymbolFrom<LLVM::LLVMFuncOp>(
        entry.shapes, b.getStringAttr(local(entry.callee)));
    return call(callee.getName(),
                operands.take_front(callee.getNumArguments()));
  }
  /// A symbol that only this module sees.
  std::string local(StringRef suffix) { return entry.name + suffix.str(); }

  /// Member `i` of the moe_tensor at `tensor`.
  Value loadMember(Value tensor, int32_t i, Type type);
  Value isOk(Value status);
  /// Returns from the function with `result` unless `condition` holds.
  void returnUnless(Value condition, Value result);
  /// Returns from the function with `status` unless it is 0.
  void returnUnlessOk(Value status) { returnUnless(isOk(status), status); }
  /// Checks tensor `position` against `sizes`, and returns unless it passes.
  void check(Value tensors, int64_t position, MemRefType type, Value sizes);
  /// The dynamic sizes of the arguments, as indices.
  SmallVector<Value> loadDynamicSizes(Value arguments);
  /// Calls NAME.workspace; an i64.
  Value countWorkspace(ValueRange dynamicSizes);
  /// Returns from the function unless the workspace is all that `needed` asks.
  void checkWorkspace(Value workspace, Value bytes, Value needed);
  /// Returns from the function unless the machine can run the body.
  void checkMachine();
  /// Returns from the function unless data is aligned as GPU kernels need it.
  void checkAlignment(Value tensors, int64_t position);
  /// Begins a call of the program; returns from the function unless it can be.
  Value beginCall(Value stream);
  /// MOE_DEVICE_ERROR, if the call or `result` failed.
  Value toStatus(Value result);
  /// A function of the run time.
  LLVM::LLVMFuncOp declare(StringRef name, Type result, ArrayRef<Type> types);
  /// The sizes that are static, in an array on the stack; -1 for the others.
  Value storeStaticSizes(MemRefType type);
  /// Tensor `position` as a memref.
  Value makeMemRef(Value tensors, int64_t position);
  /// The workspace as a memref<?xi8>.
  Value makeWorkspaceMemRef(Value workspace, Value bytes);

  BufferEntry &entry;
  const LLVMTypeConverter &converter;
  ImplicitLocOpBuilder b;
  Type ptr, i32, i64;
};

} // namespace

//===----------------------------------------------------------------------===//
// Pieces
//===----------------------------------------------------------------------===//

/// Members of moe_tensor, in order.
enum TensorMember : int32_t { kData, kShape, kStrides, kRank, kType };

static int32_t getBlame(int64_t position) { return 256 * (position + 1); }

LLVM::LLVMFuncOp CEntryBuilder::startFunction(const Twine &name,
                                              ArrayRef<Type> arguments,
                                              LLVM::Linkage linkage,
                                              Type result) {
  auto type = LLVM::LLVMFunctionType::get(result, arguments);
  auto func = LLVM::LLVMFuncOp::create(b, name.str(), type, linkage);
  b.setInsertionPointToStart(func.addEntryBlock(b));
  return func;
}

Value CEntryBuilder::loadMember(Value tensor, int32_t i, Type type) {
  auto tensorType = LLVM::LLVMStructType::getLiteral(b.getContext(),
                                                     {ptr, ptr, ptr, i32, i32});
  Value address = LLVM::GEPOp::create(b, ptr, tensorType, tensor,
                                      ArrayRef<LLVM::GEPArg>{0, i});
  return load(type, address);
}

Value CEntryBuilder::isOk(Value status) {
  return LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::eq, status,
                              constant(i32, MOE_OK));
}

void CEntryBuilder::returnUnless(Value condition, Value result) {
  Block *here = b.getInsertionBlock();
  Block *fail = b.createBlock(here->getParent(), here->getParent()->end());
  LLVM::ReturnOp::create(b, result);
  Block *next = b.createBlock(here->getParent(), here->getParent()->end());
  b.setInsertionPointToEnd(here);
  LLVM::CondBrOp::create(b, condition, next, fail);
  b.setInsertionPointToEnd(next);
}

Value CEntryBuilder::storeStaticSizes(MemRefType type) {
  Value sizes = allocate(i64, type.getRank());
  for (auto [i, size] : llvm::enumerate(type.getShape()))
    LLVM::StoreOp::create(
        b, constant(i64, ShapedType::isDynamic(size) ? -1 : size),
        at(sizes, i64, i));
  return sizes;
}

void CEntryBuilder::check(Value tensors, int64_t position, MemRefType type,
                          Value sizes) {
  moe_type elementType = *getCType(*getElementType(type.getElementType()));
  Value tensor = load(ptr, at(tensors, ptr, position));
  returnUnlessOk(call(kCheckTensorName, {tensor, constant(i32, type.getRank()),
                                         constant(i32, elementType), sizes,
                                         constant(i32, getBlame(position))}));
}

Value CEntryBuilder::makeMemRef(Value tensors, int64_t position) {
  MemRefType type = entry.types[position];
  Value tensor = load(ptr, at(tensors, ptr, position));
  Value data = loadMember(tensor, kData, ptr);
  auto descriptor =
      MemRefDescriptor::poison(b, b.getLoc(), converter.convertType(type));
  descriptor.setAllocatedPtr(b, b.getLoc(), data);
  descriptor.setAlignedPtr(b, b.getLoc(), data);
  descriptor.setConstantOffset(b, b.getLoc(), 0);
  Value shape = loadMember(tensor, kShape, ptr);
  Value stride = constant(i64, 1);
  for (int64_t i = type.getRank() - 1; i >= 0; --i) {
    Value size = type.isDynamicDim(i) ? load(i64, at(shape, i64, i))
                                      : constant(i64, type.getDimSize(i));
    descriptor.setSize(b, b.getLoc(), i, size);
    descriptor.setStride(b, b.getLoc(), i, stride);
    stride = LLVM::MulOp::create(b, stride, size);
  }
  return cast(descriptor, type);
}

SmallVector<Value> CEntryBuilder::loadDynamicSizes(Value arguments) {
  SmallVector<Value> sizes;
  for (auto [i, type] : llvm::enumerate(entry.getArguments())) {
    if (type.hasStaticShape())
      continue;
    Value tensor = load(ptr, at(arguments, ptr, i));
    Value shape = loadMember(tensor, kShape, ptr);
    for (int64_t dim = 0; dim < type.getRank(); ++dim)
      if (type.isDynamicDim(dim))
        sizes.push_back(cast(load(i64, at(shape, i64, dim)), b.getIndexType()));
  }
  return sizes;
}

Value CEntryBuilder::countWorkspace(ValueRange dynamicSizes) {
  if (!entry.workspace)
    return constant(i64, 0);
  auto count = func::CallOp::create(b, entry.workspace, dynamicSizes);
  return cast(count.getResult(0), i64);
}

void CEntryBuilder::checkWorkspace(Value workspace, Value bytes, Value needed) {
  auto compare = [&](LLVM::ICmpPredicate predicate, Value x, Value y) -> Value {
    return LLVM::ICmpOp::create(b, predicate, x, y);
  };
  Value zero = constant(i64, 0);
  Value address = LLVM::PtrToIntOp::create(b, i64, workspace);
  Value rest = LLVM::AndOp::create(b, address, constant(i64, 63));
  Value isNull = compare(LLVM::ICmpPredicate::eq, address, zero);
  Value isUnaligned = compare(LLVM::ICmpPredicate::ne, rest, zero);
  Value isSmall = compare(LLVM::ICmpPredicate::ult, bytes, needed);
  Value isBad = LLVM::OrOp::create(b, isNull, isUnaligned);
  isBad = LLVM::OrOp::create(b, isBad, isSmall);
  Value isUsed = compare(LLVM::ICmpPredicate::ne, needed, zero);
  isBad = LLVM::AndOp::create(b, isBad, isUsed);
  returnUnlessOk(LLVM::SelectOp::create(
      b, isBad, constant(i32, MOE_WORKSPACE_TOO_SMALL), constant(i32, MOE_OK)));
}

void CEntryBuilder::checkMachine() {
  Value version = call(entry.isa.getName(), {});
  Value zero = constant(i32, 0);
  Value isVersion =
      LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::sge, version, zero);
  returnUnless(isVersion, LLVM::SubOp::create(b, zero, version));
}

Value CEntryBuilder::makeWorkspaceMemRef(Value workspace, Value bytes) {
  auto type = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
  auto descriptor =
      MemRefDescriptor::poison(b, b.getLoc(), converter.convertType(type));
  descriptor.setAllocatedPtr(b, b.getLoc(), workspace);
  descriptor.setAlignedPtr(b, b.getLoc(), workspace);
  descriptor.setConstantOffset(b, b.getLoc(), 0);
  descriptor.setSize(b, b.getLoc(), 0, bytes);
  descriptor.setConstantStride(b, b.getLoc(), 0, 1);
  return cast(descriptor, type);
}

//===----------------------------------------------------------------------===//
// Pieces for GPUs
//===----------------------------------------------------------------------===//

void CEntryBuilder::checkAlignment(Value tensors, int64_t position) {
  constexpr int64_t kAlignment = 16;
  Value tensor = load(ptr, at(tensors, ptr, position));
  Value address =
      LLVM::PtrToIntOp::create(b, i64, loadMember(tensor, kData, ptr));
  Value rest = LLVM::AndOp::create(b, address, constant(i64, kAlignment - 1));
  Value isAligned =
      LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::eq, rest, constant(i64, 0));
  returnUnless(isAligned,
               constant(i32, MOE_BAD_ALIGNMENT + getBlame(position)));
}

LLVM::LLVMFuncOp CEntryBuilder::declare(StringRef name, Type result,
                                        ArrayRef<Type> types) {
  Operation *symbolTable = SymbolTable::getNearestSymbolTable(entry.shapes);
  if (Operation *known = SymbolTable::lookupSymbolIn(symbolTable, name))
    return llvm::cast<LLVM::LLVMFuncOp>(known);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&symbolTable->getRegion(0).front());
  auto type = LLVM::LLVMFunctionType::get(result, types);
  return LLVM::LLVMFuncOp::create(b, name, type);
}

Value CEntryBuilder::toStatus(Value result) {
  return LLVM::SelectOp::create(b, isOk(result), constant(i32, MOE_OK),
                                constant(i32, MOE_DEVICE_ERROR));
}

/// moe_cuda_call of moe/Runtime/CUDALayer.h.
static Type getCallType(MLIRContext *context) {
  Type ptr = LLVM::LLVMPointerType::get(context);
  Type i32 = IntegerType::get(context, 32);
  return LLVM::LLVMStructType::getLiteral(context,
                                          {ptr, ptr, i32, i32, i32, i32});
}

Value CEntryBuilder::beginCall(Value stream) {
  Value record = allocate(getCallType(b.getContext()), 1);
  Value program = LLVM::AddressOfOp::create(b, entry.program);
  declare("moe_cuda_begin", i32, {ptr, ptr, ptr});
  returnUnlessOk(toStatus(call("moe_cuda_begin", {record, program, stream})));
  return record;
}

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

/// NAME.check(arguments, sizes): a status, and the sizes of all results.
void CEntryBuilder::buildCheck() {
  OpBuilder::InsertionGuard guard(b);
  LLVM::LLVMFuncOp func =
      startFunction(local(".check"), {ptr, ptr}, LLVM::Linkage::Internal, i32);
  Value arguments = func.getArgument(0), sizes = func.getArgument(1);

  Value isNull = LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::eq, arguments,
                                      LLVM::ZeroOp::create(b, ptr).getResult());
  returnUnlessOk(LLVM::SelectOp::create(
      b, isNull, constant(i32, MOE_NULL_POINTER), constant(i32, MOE_OK)));
  for (auto [i, type] : llvm::enumerate(entry.getArguments()))
    check(arguments, i, type, storeStaticSizes(type));
  auto shapes =
      func::CallOp::create(b, entry.shapes, loadDynamicSizes(arguments));
  for (auto [i, size] : llvm::enumerate(shapes.getResults().drop_front()))
    LLVM::StoreOp::create(b, cast(size, i64), at(sizes, i64, i));
  LLVM::ReturnOp::create(b, shapes.getResult(0));
}

/// NAME.run(tensors, workspace, bytes), and a stream for GPUs.
void CEntryBuilder::buildRun() {
  OpBuilder::InsertionGuard guard(b);
  SmallVector<Type> types = {ptr, ptr, i64};
  if (entry.program)
    types.push_back(ptr);
  LLVM::LLVMFuncOp func =
      startFunction(local(".run"), types, LLVM::Linkage::Internal, i32);
  Value tensors = func.getArgument(0);
  Value workspace = func.getArgument(1), bytes = func.getArgument(2);
  if (entry.isa)
    checkMachine();
  Value sizes = allocate(i64, entry.getNumResultSizes());
  returnUnlessOk(call(local(".check"), {tensors, sizes}));

  int64_t firstSize = 0;
  for (auto [i, type] : llvm::enumerate(entry.getResults())) {
    check(tensors, entry.numArguments + i, type, at(sizes, i64, firstSize));
    firstSize += type.getRank();
  }
  SmallVector<Value> buffers;
  for (size_t i = 0; i < entry.types.size(); ++i)
    buffers.push_back(makeMemRef(tensors, i));
  if (entry.workspace) {
    checkWorkspace(workspace, bytes, countWorkspace(loadDynamicSizes(tensors)));
    buffers.push_back(makeWorkspaceMemRef(workspace, bytes));
  }
  if (!entry.program) {
    func::CallOp::create(b, entry.body, buffers);
    LLVM::ReturnOp::create(b, constant(i32, MOE_OK));
    return;
  }
  for (size_t i = 0; i < entry.types.size(); ++i)
    checkAlignment(tensors, i);
  Value record = beginCall(func.getArgument(3));
  buffers.push_back(record);
  func::CallOp::create(b, entry.body, buffers);
  constexpr int32_t kStatus = 4;
  Value status =
      LLVM::GEPOp::create(b, ptr, getCallType(b.getContext()), record,
                          ArrayRef<LLVM::GEPArg>{0, kStatus});
  LLVM::ReturnOp::create(b, toStatus(load(i32, status)));
}

/// NAME(tensor..., workspace, workspace_bytes), and a stream for GPUs.
void CEntryBuilder::buildNamed() {
  OpBuilder::InsertionGuard guard(b);
  size_t numPointers = entry.types.size() + (entry.hasStats() ? 2 : 1);
  SmallVector<Type> types(numPointers, ptr);
  types.push_back(i64);
  if (entry.program)
    types.push_back(ptr);
  LLVM::LLVMFuncOp func =
      startFunction(entry.cName, types, LLVM::Linkage::External, i32);
  Value tensors = allocate(ptr, entry.types.size());
  for (size_t i = 0; i < entry.types.size(); ++i)
    LLVM::StoreOp::create(b, func.getArgument(i), at(tensors, ptr, i));
  SmallVector<Value> operands(
      func.getArguments().drop_front(entry.types.size()));
  operands.insert(operands.begin(), tensors);
  LLVM::ReturnOp::create(b, callRun(operands));
}

/// NAME_packed(tensors, workspace, workspace_bytes), and a stream for GPUs.
void CEntryBuilder::buildPacked() {
  OpBuilder::InsertionGuard guard(b);
  SmallVector<Type> types(entry.hasStats() ? 3 : 2, ptr);
  types.push_back(i64);
  if (entry.program)
    types.push_back(ptr);
  LLVM::LLVMFuncOp func = startFunction(entry.cName + "_packed", types,
                                        LLVM::Linkage::External, i32);
  LLVM::ReturnOp::create(b, callRun(func.getArguments()));
}

/// NAME_workspace(size...), an argument a name.
void CEntryBuilder::buildWorkspace() {
  OpBuilder::InsertionGuard guard(b);
  llvm::SetVector<StringRef> names(entry.sizeNames.begin(),
                                   entry.sizeNames.end());
  SmallVector<Type> types(names.size(), i64);
  LLVM::LLVMFuncOp func = startFunction(entry.cName + "_workspace", types,
                                        LLVM::Linkage::External, i64);
  SmallVector<Value> sizes;
  for (StringRef name : entry.sizeNames)
    sizes.push_back(
        cast(func.getArgument(llvm::find(names, name) - names.begin()),
             b.getIndexType()));
  LLVM::ReturnOp::create(b, countWorkspace(sizes));
}

/// NAME_workspace_packed(tensors).
void CEntryBuilder::buildWorkspacePacked() {
  OpBuilder::InsertionGuard guard(b);
  LLVM::LLVMFuncOp func = startFunction(entry.cName + "_workspace_packed",
                                        {ptr}, LLVM::Linkage::External, i64);
  Value tensors = func.getArgument(0);
  Value sizes = allocate(i64, entry.getNumResultSizes());
  returnUnless(isOk(call(local(".check"), {tensors, sizes})), constant(i64, 0));
  LLVM::ReturnOp::create(b, countWorkspace(loadDynamicSizes(tensors)));
}

/// NAME_shapes(arguments, sizes).
void CEntryBuilder::buildShapes() {
  OpBuilder::InsertionGuard guard(b);
  LLVM::LLVMFuncOp func = startFunction(entry.cName + "_shapes", {ptr, ptr},
                                        LLVM::Linkage::External, i32);
  LLVM::ReturnOp::create(b, call(local(".check"), func.getArguments()));
}

/// NAME_error(): the text of MOE_DEVICE_ERROR.
void CEntryBuilder::buildError() {
  OpBuilder::InsertionGuard guard(b);
  auto callee = declare("moe_cuda_error", ptr, {});
  startFunction(entry.cName + "_error", {}, LLVM::Linkage::External, ptr);
  LLVM::ReturnOp::create(
      b, LLVM::CallOp::create(b, callee, ValueRange()).getResult());
}

void CEntryBuilder::buildInternal() {
  buildCheck();
  buildRun();
}

void CEntryBuilder::buildVisible(bool exportShapes) {
  buildNamed();
  buildPacked();
  buildWorkspace();
  buildWorkspacePacked();
  if (entry.program)
    buildError();
  if (exportShapes)
    buildShapes();
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

/// Reads what moe-prepare-entry and bufferization left.
static FailureOr<BufferEntry> readEntry(func::FuncOp func,
                                        DictionaryAttr attr) {
  auto fail = [&] {
    return func.emitError()
           << "@" << func.getName() << " has " << kEntryAttr << ", but ";
  };
  auto results = attr.getAs<IntegerAttr>("results");
  auto shapes = attr.getAs<FlatSymbolRefAttr>("shapes");
  auto workspace = attr.getAs<FlatSymbolRefAttr>("workspace");
  BufferEntry entry;
  entry.body = func;
  entry.name = func.getName().str();
  entry.cName = mangleForC(entry.name);
  if (shapes)
    entry.shapes =
        SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(func, shapes);
  if (!results || !entry.shapes)
    return fail() << "not the results and shapes that moe-prepare-entry writes";
  if (workspace)
    entry.workspace =
        SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(func, workspace);
  if (auto isa = attr.getAs<FlatSymbolRefAttr>("isa"))
    entry.isa =
        SymbolTable::lookupNearestSymbolFrom<LLVM::LLVMFuncOp>(func, isa);
  if (bool(workspace) != bool(entry.workspace))
    return fail()
           << "not the workspace that moe-allocations-to-workspace makes";
  for (unsigned i = 0, e = entry.shapes.getNumArguments(); i < e; ++i) {
    auto name = entry.shapes.getArgAttrOfType<StringAttr>(i, kNameAttr);
    entry.sizeNames.push_back(name ? name.str() : std::to_string(i));
  }
  ArrayRef<Type> types = func.getArgumentTypes();
  if (auto program = attr.getAs<FlatSymbolRefAttr>("program")) {
    entry.program =
        SymbolTable::lookupNearestSymbolFrom<LLVM::GlobalOp>(func, program);
    if (!entry.program || types.empty())
      return fail() << "not the program that moe-launches-to-calls makes";
    types = types.drop_back();
  }
  for (Type type : types) {
    auto buffer = dyn_cast<MemRefType>(type);
    if (!buffer || !buffer.getLayout().isIdentity())
      return fail() << "takes a " << type
                    << "; bufferize it with identity layouts first";
    std::optional<ElementType> elementType =
        getElementType(buffer.getElementType());
    if (!elementType || !getCType(*elementType))
      return fail() << "the C interface has no type for " << type;
    entry.types.push_back(buffer);
  }
  if (workspace && !entry.types.empty())
    entry.types.pop_back();
  entry.numArguments = entry.types.size() - results.getInt();
  int64_t numReturned = entry.shapes.getNumResults() - 1;
  if (entry.numArguments < 0 || numReturned != entry.getNumResultSizes() ||
      func.getNumResults() != 0)
    return fail() << "its arguments or results are not those of the entry that "
                     "moe-prepare-entry prepared";
  return entry;
}

/// Adds @moe.check_tensor unless it is there.
static void addCheckTensor(Operation *symbolTable) {
  if (SymbolTable::lookupSymbolIn(symbolTable, kCheckTensorName))
    return;
  OwningOpRef<ModuleOp> parsed = parseSourceString<ModuleOp>(
      kCheckTensorText, ParserConfig(symbolTable->getContext()));
  Operation &func = parsed->getBody()->front();
  func.moveBefore(&symbolTable->getRegion(0).front(),
                  symbolTable->getRegion(0).front().begin());
}

namespace {

struct CreateCEntry final : moe::impl::MoECreateCEntryBase<CreateCEntry> {
  using MoECreateCEntryBase::MoECreateCEntryBase;

  bool canScheduleOn(RegisteredOperationName name) const override {
    return name.hasTrait<OpTrait::SymbolTable>();
  }

  void runOnOperation() override {
    auto wrap = [&](func::FuncOp func, DictionaryAttr attr) {
      return this->wrap(func, attr);
    };
    if (failed(forEachEntry(getOperation(), wrap)))
      signalPassFailure();
  }

private:
  LogicalResult wrap(func::FuncOp func, DictionaryAttr attr);
  LogicalResult buildStats(BufferEntry &entry, DictionaryAttr stats,
                           const LLVMTypeConverter &converter);
};

} // namespace

LogicalResult CreateCEntry::wrap(func::FuncOp func, DictionaryAttr attr) {
  FailureOr<BufferEntry> entry = readEntry(func, attr);
  if (failed(entry))
    return failure();
  func->removeAttr(kEntryAttr);
  auto stats = dyn_cast_or_null<DictionaryAttr>(func->removeAttr(kStatsAttr));
  func.setName(entry->name + ".body");
  func.setPrivate();
  removeNames(func);
  removeNames(entry->shapes);
  if (entry->workspace)
    removeNames(entry->workspace);
  for (StringRef suffix : {"", "_packed", "_workspace", "_workspace_packed",
                           "_shapes", "_error"}) {
    std::string symbol = entry->cName + suffix.str();
    if (SymbolTable::lookupSymbolIn(getOperation(), symbol))
      return func.emitError()
             << "the C interface of @" << entry->name << " needs the symbol @"
             << symbol << ", which another function of the module has";
  }
  addCheckTensor(getOperation());
  LLVMTypeConverter converter(&getContext());
  CEntryBuilder builder(*entry, converter);
  builder.buildInternal();
  if (stats && failed(buildStats(*entry, stats, converter)))
    return failure();
  builder.buildVisible(exportShapes);
  return success();
}

/// The variant of `entry` with statistics as an entry of its own.
static FailureOr<BufferEntry>
readVariant(BufferEntry &entry, DictionaryAttr stats, size_t numStatistics) {
  auto lookUp = [&](StringRef name) -> func::FuncOp {
    auto symbol = stats.getAs<FlatSymbolRefAttr>(name);
    return symbol ? SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
                        entry.body, symbol)
                  : func::FuncOp();
  };
  BufferEntry variant;
  variant.body = lookUp("function");
  variant.shapes = lookUp("shapes");
  if (!variant.body || !variant.shapes ||
      variant.body.getNumArguments() != entry.types.size() + numStatistics)
    return entry.body.emitError()
           << "@" << entry.name << " has " << kStatsAttr
           << ", but not the functions that moe-prepare-entry makes for it";
  variant.name = variant.body.getName().str();
  for (Type type : variant.body.getArgumentTypes())
    variant.types.push_back(cast<MemRefType>(type));
  variant.numArguments = entry.numArguments;
  variant.isa = entry.isa;
  return variant;
}

LogicalResult CreateCEntry::buildStats(BufferEntry &entry, DictionaryAttr stats,
                                       const LLVMTypeConverter &converter) {
  FailureOr<SmallVector<AppendedStatistic>> appended =
      readAppended(entry.body, stats);
  if (failed(appended))
    return failure();
  FailureOr<BufferEntry> variant = readVariant(entry, stats, appended->size());
  if (failed(variant))
    return failure();
  removeNames(variant->body);
  removeNames(variant->shapes);
  CEntryBuilder(*variant, converter).buildInternal();

  auto lookUp = [&](const Twine &name) {
    return SymbolTable::lookupNearestSymbolFrom<LLVM::LLVMFuncOp>(
        entry.body, StringAttr::get(&getContext(), name));
  };
  StatsEntry functions;
  functions.run = lookUp(entry.name + ".run");
  functions.variantCheck = lookUp(variant->name + ".check");
  functions.variantRun = lookUp(variant->name + ".run");
  functions.appended = *appended;
  functions.types = ArrayRef(variant->types).take_back(appended->size());
  functions.numTensors = entry.types.size();
  functions.numResultSizes = entry.getNumResultSizes();
  buildRunStats(functions, entry.name + ".run_stats");
  entry.callee = ".run_stats";
  return success();
}
