//===- CEntryBuilder.cpp - The C functions of an entry --------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CEntryBuilder.h"

#include "CheckTensor.h"
#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "moe/Runtime/moe.h"
#include "moe/Target/EntrySignature.h"

using namespace mlir;
using namespace mlir::moe;

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

/// moe_tensor.
static Type getTensorType(MLIRContext *context) {
  Type ptr = LLVM::LLVMPointerType::get(context);
  Type i32 = IntegerType::get(context, 32);
  return LLVM::LLVMStructType::getLiteral(context, {ptr, ptr, ptr, i32, i32});
}

Value CEntryBuilder::getMember(Value tensor, int32_t i) {
  return LLVM::GEPOp::create(b, ptr, getTensorType(b.getContext()), tensor,
                             ArrayRef<LLVM::GEPArg>{0, i});
}

Value CEntryBuilder::loadMember(Value tensor, int32_t i, Type type) {
  return load(type, getMember(tensor, i));
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

//===----------------------------------------------------------------------===//
// One expert
//===----------------------------------------------------------------------===//

Value CEntryBuilder::makeSlab(Value tensors, int64_t position, Value expert) {
  MemRefType type = entry.types[position];
  check(tensors, position, type, storeStaticSizes(type));
  Value tensor = load(ptr, at(tensors, ptr, position));
  Value numExperts = load(i64, loadMember(tensor, kShape, ptr));
  Value isThere = LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::ult, expert,
                                       numExperts); // Nor negative.
  returnUnless(isThere, constant(i32, MOE_BAD_EXPERT + getBlame(position)));

  int64_t slabBytes = type.getElementTypeBitWidth() / 8;
  for (int64_t size : type.getShape().drop_front())
    slabBytes *= size;
  Value offset = LLVM::MulOp::create(b, expert, constant(i64, slabBytes));
  Value data =
      LLVM::GEPOp::create(b, ptr, b.getI8Type(), loadMember(tensor, kData, ptr),
                          ArrayRef<LLVM::GEPArg>{offset});
  SmallVector<int64_t> shape(type.getShape());
  shape.front() = 1;
  Value sizes = storeStaticSizes(type.clone(shape));
  Value null = LLVM::ZeroOp::create(b, ptr);
  moe_type elementType = *getCType(*getElementType(type.getElementType()));
  Value slab = allocate(getTensorType(b.getContext()), 1);
  for (auto [i, member] : llvm::enumerate(
           ArrayRef<Value>{data, sizes, null, constant(i32, type.getRank()),
                           constant(i32, elementType)}))
    LLVM::StoreOp::create(b, member, getMember(slab, i));
  return slab;
}

/// NAME.run_expert(expert, tensors, workspace, bytes): the call on arguments of
/// one expert and on its slabs of the results.
void CEntryBuilder::buildRunExpert() {
  OpBuilder::InsertionGuard guard(b);
  LLVM::LLVMFuncOp func = startFunction(
      local(".run_expert"), {i64, ptr, ptr, i64}, LLVM::Linkage::Internal, i32);
  Value expert = func.getArgument(0), tensors = func.getArgument(1);
  Value isNull = LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::eq, tensors,
                                      LLVM::ZeroOp::create(b, ptr).getResult());
  returnUnlessOk(LLVM::SelectOp::create(
      b, isNull, constant(i32, MOE_NULL_POINTER), constant(i32, MOE_OK)));
  Value slabs = allocate(ptr, entry.types.size());
  for (auto [i, type] : llvm::enumerate(entry.types)) {
    Value slab;
    if (int64_t(i) < entry.numArguments) {
      SmallVector<int64_t> shape(type.getShape());
      shape.front() = 1;
      check(tensors, i, type, storeStaticSizes(type.clone(shape)));
      slab = load(ptr, at(tensors, ptr, i));
    } else {
      slab = makeSlab(tensors, i, expert);
    }
    LLVM::StoreOp::create(b, slab, at(slabs, ptr, i));
  }
  LLVM::ReturnOp::create(
      b, callRun({slabs, func.getArgument(2), func.getArgument(3)}));
}

/// NAME_expert(expert, tensor..., workspace, workspace_bytes).
void CEntryBuilder::buildExpert() {
  OpBuilder::InsertionGuard guard(b);
  size_t numTensors = entry.types.size();
  SmallVector<Type> types(numTensors + 2, ptr);
  types.front() = i64;
  types.append({i64});
  LLVM::LLVMFuncOp func = startFunction(entry.cName + "_expert", types,
                                        LLVM::Linkage::External, i32);
  Value tensors = allocate(ptr, numTensors);
  for (size_t i = 0; i < numTensors; ++i)
    LLVM::StoreOp::create(b, func.getArgument(i + 1), at(tensors, ptr, i));
  LLVM::ReturnOp::create(
      b, call(local(".run_expert"),
              {func.getArgument(0), tensors, func.getArgument(numTensors + 1),
               func.getArgument(numTensors + 2)}));
}

/// NAME_expert_packed(expert, tensors, workspace, workspace_bytes).
void CEntryBuilder::buildExpertPacked() {
  OpBuilder::InsertionGuard guard(b);
  LLVM::LLVMFuncOp func =
      startFunction(entry.cName + "_expert_packed", {i64, ptr, ptr, i64},
                    LLVM::Linkage::External, i32);
  LLVM::ReturnOp::create(b, call(local(".run_expert"), func.getArguments()));
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
  if (entry.hasSlabs) {
    buildRunExpert();
    buildExpert();
    buildExpertPacked();
  }
  if (exportShapes)
    buildShapes();
}
