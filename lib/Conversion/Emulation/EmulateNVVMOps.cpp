//===- EmulateNVVMOps.cpp - Ops of the nvvm dialect as calls -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EmulateNVVM.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

static LogicalResult notEmulated(Operation *op, const Twine &what) {
  return op->emitOpError() << "has no emulation" << what
                           << "; lib/Emulation is where one is added";
}

static void replace(Operation *op, Value value) {
  op->getResult(0).replaceAllUsesWith(value);
  op->erase();
}

//===----------------------------------------------------------------------===//
// Special registers and functions of one thread
//===----------------------------------------------------------------------===//

namespace {
struct Register {
  StringRef function;
  int64_t argument = -1; // none
};
} // namespace

static std::optional<int64_t> axisOf(StringRef &name) {
  static constexpr StringLiteral axes[] = {".x", ".y", ".z"};
  for (auto [i, axis] : llvm::enumerate(axes))
    if (name.consume_back(axis))
      return i;
  return std::nullopt;
}

static Register findRegister(StringRef name) {
  if (name.consume_front("lanemask."))
    return {"moe_emu_lanemask", llvm::StringSwitch<int64_t>(name)
                                    .Case("eq", 0)
                                    .Case("lt", 1)
                                    .Case("le", 2)
                                    .Case("gt", 3)
                                    .Default(4)};
  if (std::optional<int64_t> axis = axisOf(name))
    return {llvm::StringSwitch<StringRef>(name)
                .Case("tid", "moe_emu_tid")
                .Case("ntid", "moe_emu_ntid")
                .Case("ctaid", "moe_emu_ctaid")
                .Case("nctaid", "moe_emu_nctaid")
                .Case("clusterid", "moe_emu_clusterid")
                .Case("nclusterid", "moe_emu_nclusterid")
                .Case("cluster.ctaid", "moe_emu_cluster_ctaid")
                .Case("cluster.nctaid", "moe_emu_cluster_nctaid")
                .Default(""),
            *axis};
  return {llvm::StringSwitch<StringRef>(name)
              .Case("laneid", "moe_emu_laneid")
              .Case("warpid", "moe_emu_warpid")
              .Case("nwarpid", "moe_emu_nwarpid")
              .Case("smid", "moe_emu_smid")
              .Case("cluster.ctarank", "moe_emu_cluster_ctarank")
              .Case("cluster.nctarank", "moe_emu_cluster_nctarank")
              .Case("dynamic.smem.size", "moe_emu_dynamic_smem_size")
              .Cases({"clock64", "globaltimer"}, "moe_emu_clock")
              .Default("")};
}

static LogicalResult readRegister(Operation *op, StringRef name,
                                  EmulationCalls &calls) {
  if (name == "warpsize") {
    replace(op, calls.i32(op, 32));
    return success();
  }
  Register found = findRegister(name);
  if (found.function.empty())
    return notEmulated(op, "");
  SmallVector<Value> args;
  if (found.argument >= 0)
    args.push_back(calls.i32(op, found.argument));
  replace(op, calls.call(op, found.function, op->getResult(0).getType(), args));
  return success();
}

/// Functions of f32 by the names that PTX and LLVM's intrinsics have for them.
static StringRef findFunction(StringRef name) {
  name.consume_front("llvm.nvvm.");
  if (!name.consume_back(".f32"))
    name.consume_back(".f");
  return llvm::StringSwitch<StringRef>(name)
      .Case("ex2.approx.ftz", "moe_emu_ex2_approx_ftz")
      .Case("ex2.approx", "moe_emu_ex2_approx")
      .Case("lg2.approx.ftz", "moe_emu_lg2_approx_ftz")
      .Case("lg2.approx", "moe_emu_lg2_approx")
      .Case("rcp.approx.ftz", "moe_emu_rcp_approx_ftz")
      .Case("rsqrt.approx.ftz", "moe_emu_rsqrt_approx_ftz")
      .Case("rsqrt.approx", "moe_emu_rsqrt_approx")
      .Case("sqrt.approx.ftz", "moe_emu_sqrt_approx_ftz")
      .Case("sin.approx", "moe_emu_sin_approx")
      .Case("cos.approx", "moe_emu_cos_approx")
      .Case("tanh.approx", "moe_emu_tanh_approx")
      .Case("div.approx.ftz", "moe_emu_div_approx_ftz")
      .Default("");
}

/// A function of f32, or nothing that is known here.
static LogicalResult callFunction(Operation *op, StringRef name,
                                  ValueRange args, EmulationCalls &calls) {
  StringRef function = findFunction(name);
  if (function.empty() || op->getNumResults() != 1 ||
      !op->getResult(0).getType().isF32())
    return notEmulated(op, " for '" + name + "'");
  replace(op, calls.call(op, function, op->getResult(0).getType(), args));
  return success();
}

static LogicalResult emulateIntrinsic(LLVM::CallIntrinsicOp op,
                                      EmulationCalls &calls) {
  if (!op.getIntrin().starts_with("llvm.nvvm."))
    return success();
  return callFunction(op, op.getIntrin(), op.getArgs(), calls);
}

/// "opcode $0, $1;" for functions of f32.
static LogicalResult emulatePtx(Operation *op, StringRef code, ValueRange args,
                                EmulationCalls &calls) {
  return callFunction(
      op, code.trim().take_until([](char c) { return c == ' '; }), args, calls);
}

//===----------------------------------------------------------------------===//
// Warps
//===----------------------------------------------------------------------===//

/// Results {value, i1} of ops that also give a predicate.
static Value makePair(Operation *op, Type type, Value value, Value predicate,
                      EmulationCalls &calls) {
  OpBuilder b(op);
  Value pair = LLVM::UndefOp::create(b, op->getLoc(), type);
  pair = LLVM::InsertValueOp::create(b, op->getLoc(), pair, value,
                                     ArrayRef<int64_t>{0});
  return LLVM::InsertValueOp::create(b, op->getLoc(), pair, predicate,
                                     ArrayRef<int64_t>{1});
}

static Value loadByteAsBit(Operation *op, Value buffer, EmulationCalls &calls) {
  OpBuilder b(op);
  Value byte = LLVM::LoadOp::create(b, op->getLoc(), b.getI8Type(), buffer);
  return calls.bit(op, byte);
}

static LogicalResult emulateShfl(NVVM::ShflOp op, EmulationCalls &calls) {
  OpBuilder b(op);
  bool pair = op.getReturnValueAndIsValid().value_or(false);
  Value valid =
      pair ? calls.buffer(op, 1, 1)
           : Value(LLVM::ZeroOp::create(b, op.getLoc(), calls.pointerType()));
  // The library numbers kinds as NVVM does.
  Value word =
      calls.call(op, "moe_emu_shfl", calls.i32Type(),
                 {calls.i32(op, static_cast<int64_t>(op.getKind())),
                  op.getThreadMask(), calls.asI32(op, op.getVal()),
                  op.getOffset(), op.getMaskAndClamp(), valid, calls.site(op)});
  Value value = calls.fromI32(op, word, op.getVal().getType());
  replace(op, pair ? makePair(op, op.getType(), value,
                              loadByteAsBit(op, valid, calls), calls)
                   : value);
  return success();
}

static LogicalResult emulateVote(NVVM::VoteSyncOp op, EmulationCalls &calls) {
  Value word =
      calls.call(op, "moe_emu_vote", calls.i32Type(),
                 {calls.i32(op, static_cast<int64_t>(op.getKind())),
                  op.getMask(), calls.byte(op, op.getPred()), calls.site(op)});
  replace(op, op.getType().isInteger(1) ? calls.bit(op, word) : word);
  return success();
}

static LogicalResult emulateMatch(NVVM::MatchSyncOp op, EmulationCalls &calls) {
  OpBuilder b(op);
  bool all = op.getKind() == NVVM::MatchSyncKind::all;
  Value value = op.getVal();
  if (!value.getType().isInteger(64))
    value = LLVM::ZExtOp::create(b, op.getLoc(), b.getI64Type(), value);
  Value equal =
      all ? calls.buffer(op, 1, 1)
          : Value(LLVM::ZeroOp::create(b, op.getLoc(), calls.pointerType()));
  Value mask = calls.call(
      op, "moe_emu_match", calls.i32Type(),
      {calls.i32(op, all), op.getThreadMask(), value, equal, calls.site(op)});
  replace(op, all ? makePair(op, op.getType(), mask,
                             loadByteAsBit(op, equal, calls), calls)
                  : mask);
  return success();
}

static LogicalResult emulateRedux(NVVM::ReduxOp op, EmulationCalls &calls) {
  int64_t kind = static_cast<int64_t>(op.getKind()) |
                 int64_t(op.getAbs()) << 8 | int64_t(op.getNan()) << 9;
  Value word = calls.call(op, "moe_emu_redux", calls.i32Type(),
                          {calls.i32(op, kind), calls.asI32(op, op.getVal()),
                           op.getMaskAndClamp(), calls.site(op)});
  replace(op, calls.fromI32(op, word, op.getType()));
  return success();
}

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

static LogicalResult emulateBarrier(NVVM::BarrierOp op, EmulationCalls &calls) {
  Value id = calls.i32Or(op, op.getBarrierId(), 0);
  Value threads = calls.i32Or(op, op.getNumberOfThreads(), 0);
  if (!op.getReductionOp()) {
    calls.call(op, "moe_emu_bar_sync", Type(), {id, threads, calls.site(op)});
    op.erase();
    return success();
  }
  replace(op,
          calls.call(op, "moe_emu_bar_red", calls.i32Type(),
                     {id, threads,
                      calls.i32(op, static_cast<int64_t>(*op.getReductionOp())),
                      op.getReductionPredicate(), calls.site(op)}));
  return success();
}

//===----------------------------------------------------------------------===//
// Matrices
//===----------------------------------------------------------------------===//

/// A value of N words: the word itself, or a struct of them.
static Value packWords(Operation *op, Type type, Value buffer, unsigned count,
                       EmulationCalls &calls) {
  auto structure = dyn_cast<LLVM::LLVMStructType>(type);
  if (!structure)
    return calls.fromI32(op, calls.loadWord(op, buffer, 0), type);
  OpBuilder b(op);
  Value packed = LLVM::UndefOp::create(b, op->getLoc(), type);
  for (unsigned i = 0; i < count; ++i) {
    Value word = calls.fromI32(op, calls.loadWord(op, buffer, i),
                               structure.getBody()[i]);
    packed = LLVM::InsertValueOp::create(b, op->getLoc(), packed, word,
                                         ArrayRef<int64_t>{i});
  }
  return packed;
}

static bool isPlainMatrix(NVVM::LdStMatrixShapeAttr shape,
                          NVVM::LdStMatrixEltType type) {
  return shape.getM() == 8 && shape.getN() == 8 &&
         type == NVVM::LdStMatrixEltType::B16;
}

static LogicalResult emulateLdMatrix(NVVM::LdMatrixOp op,
                                     EmulationCalls &calls) {
  if (!isPlainMatrix(op.getShape(), op.getEltType()))
    return notEmulated(op, " for other matrices than 8x8 of b16");
  Value results = calls.buffer(op, 1, op.getNum());
  calls.call(op, "moe_emu_ldmatrix", Type(),
             {calls.generic(op, op.getPtr()), calls.i32(op, op.getNum()),
              calls.i8(op, op.getLayout() == NVVM::MMALayout::col), results,
              calls.site(op)});
  replace(op, packWords(op, op.getType(), results, op.getNum(), calls));
  return success();
}

static LogicalResult emulateStMatrix(NVVM::StMatrixOp op,
                                     EmulationCalls &calls) {
  if (!isPlainMatrix(op.getShape(), op.getEltType()))
    return notEmulated(op, " for other matrices than 8x8 of b16");
  unsigned count = op.getSources().size();
  Value sources = calls.buffer(op, 0, count);
  for (auto [i, source] : llvm::enumerate(op.getSources()))
    calls.storeWord(op, sources, i, source);
  calls.call(op, "moe_emu_stmatrix", Type(),
             {calls.generic(op, op.getPtr()), calls.i32(op, count),
              calls.i8(op, op.getLayout() == NVVM::MMALayout::col), sources,
              calls.site(op)});
  op.erase();
  return success();
}

/// The library's Element of a type.
static std::optional<int64_t> elementOf(NVVM::MMATypes type) {
  switch (type) {
  case NVVM::MMATypes::bf16:
    return 0;
  case NVVM::MMATypes::f16:
    return 1;
  case NVVM::MMATypes::tf32:
    return 2;
  default:
    return std::nullopt;
  }
}

static LogicalResult emulateMma(NVVM::MmaOp op, EmulationCalls &calls) {
  std::optional<NVVM::MMATypes> type = op.getMultiplicandAPtxType();
  std::optional<int64_t> element = type ? elementOf(*type) : std::nullopt;
  auto shape = op.getShape();
  auto result = cast<LLVM::LLVMStructType>(op.getType());
  if (!element || op.getMultiplicandBPtxType() != type || shape.getM() != 16 ||
      shape.getN() != 8 || result.getBody().size() != 4 ||
      !result.getBody()[0].isF32())
    return notEmulated(op, " for other products than m16n8 of bf16, f16 or "
                           "tf32 into f32");
  SmallVector<Value> words;
  for (ValueRange range :
       {op.getOperandA(), op.getOperandB(), op.getOperandC()})
    llvm::append_range(words, range);
  Value operands = calls.buffer(op, 0, words.size());
  for (auto [i, word] : llvm::enumerate(words))
    calls.storeWord(op, operands, i, word);
  Value results = calls.buffer(op, 1, 4);
  calls.call(op, "moe_emu_mma", Type(),
             {calls.i32(op, *element), calls.i32(op, shape.getK()), operands,
              results, calls.site(op)});
  replace(op, packWords(op, op.getType(), results, 4, calls));
  return success();
}

static LogicalResult emulateCpAsync(NVVM::CpAsyncOp op, EmulationCalls &calls) {
  Value bytes = calls.i32(op, op.getSize());
  calls.call(op, "moe_emu_cp_async", Type(),
             {calls.generic(op, op.getDst()), calls.generic(op, op.getSrc()),
              bytes, op.getCpSize() ? op.getCpSize() : bytes, calls.site(op)});
  op.erase();
  return success();
}

//===----------------------------------------------------------------------===//
// Dispatch
//===----------------------------------------------------------------------===//

/// Calls `name` with `args` and drops the op, which has no results.
static LogicalResult becomeCall(Operation *op, StringRef name, ValueRange args,
                                EmulationCalls &calls) {
  calls.call(op, name, Type(), args);
  op->erase();
  return success();
}

LogicalResult mlir::moe::emulateOp(Operation *op, EmulationCalls &calls) {
  StringRef name = op->getName().getStringRef();
  if (name.consume_front("nvvm.read.ptx.sreg."))
    return readRegister(op, name, calls);
  if (std::optional<LogicalResult> done = emulateAsyncOp(op, calls))
    return *done;
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case(
          [&](LLVM::CallIntrinsicOp op) { return emulateIntrinsic(op, calls); })
      .Case([&](LLVM::InlineAsmOp op) {
        return emulatePtx(op, op.getAsmString(), op.getOperands(), calls);
      })
      .Case([&](NVVM::InlinePtxOp op) {
        if (op.getPredicate() || !op.getReadWriteArgs().empty())
          return notEmulated(op, " with a predicate or read-write operands");
        return emulatePtx(op, op.getPtxCode(), op.getReadOnlyArgs(), calls);
      })
      .Case([&](NVVM::RcpApproxFtzF32Op op) {
        return callFunction(op, "rcp.approx.ftz.f", op.getArg(), calls);
      })
      .Case([&](NVVM::ShflOp op) { return emulateShfl(op, calls); })
      .Case([&](NVVM::VoteSyncOp op) { return emulateVote(op, calls); })
      .Case([&](NVVM::MatchSyncOp op) { return emulateMatch(op, calls); })
      .Case([&](NVVM::ReduxOp op) { return emulateRedux(op, calls); })
      .Case([&](NVVM::ElectSyncOp op) {
        replace(op, calls.bit(
                        op, calls.call(op, "moe_emu_elect", calls.i8Type(),
                                       {calls.i32Or(op, op.getMembermask(), -1),
                                        calls.site(op)})));
        return success();
      })
      .Case([&](NVVM::SyncWarpOp op) {
        return becomeCall(op, "moe_emu_syncwarp",
                          {op.getMask(), calls.site(op)}, calls);
      })
      .Case([&](NVVM::Barrier0Op op) {
        return becomeCall(op, "moe_emu_bar_sync",
                          {calls.i32(op, 0), calls.i32(op, 0), calls.site(op)},
                          calls);
      })
      .Case([&](NVVM::BarrierOp op) { return emulateBarrier(op, calls); })
      .Case([&](NVVM::BarrierArriveOp op) {
        return becomeCall(op, "moe_emu_bar_arrive",
                          {calls.i32Or(op, op.getBarrierId(), 0),
                           op.getNumberOfThreads(), calls.site(op)},
                          calls);
      })
      .Case([&](NVVM::LdMatrixOp op) { return emulateLdMatrix(op, calls); })
      .Case([&](NVVM::StMatrixOp op) { return emulateStMatrix(op, calls); })
      .Case([&](NVVM::MmaOp op) { return emulateMma(op, calls); })
      .Case([&](NVVM::CpAsyncOp op) { return emulateCpAsync(op, calls); })
      .Case([&](NVVM::CpAsyncCommitGroupOp op) {
        return becomeCall(op, "moe_emu_cp_async_commit", {}, calls);
      })
      .Case([&](NVVM::CpAsyncWaitGroupOp op) {
        return becomeCall(op, "moe_emu_cp_async_wait",
                          {calls.i32(op, op.getN())}, calls);
      })
      .Case([&](NVVM::NanosleepOp op) {
        return becomeCall(op, "moe_emu_nanosleep",
                          {op.getDuration(), calls.site(op)}, calls);
      })
      .Case<NVVM::MembarOp, NVVM::FenceScClusterOp>([&](Operation *op) {
        return becomeCall(op, "moe_emu_fence", {}, calls);
      })
      // Kernels run one after another, and caches have nothing to do here.
      .Case<NVVM::GriddepcontrolOp, NVVM::PrefetchOp>([&](Operation *op) {
        op->erase();
        return success();
      })
      .Case([&](NVVM::SetMaxRegisterOp op) {
        return becomeCall(op, "moe_emu_aligned",
                          {calls.text(op, "setmaxnreg"), calls.site(op)},
                          calls);
      })
      .Default([](Operation *op) { return notEmulated(op, ""); });
}
