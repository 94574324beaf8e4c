//===- MergeLaunches.cpp - One persistent kernel of several launches ------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A launch is a phase: its kernel's body with other numbers of the block and of
// the grid. Kernels are structured here, one block of ops each, so that a body
// is copied as it is. Between phases all blocks wait for each other.
//
//===----------------------------------------------------------------------===//

#include "GridBarrier.h"
#include "KernelModule.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "moe/Conversion/LaunchAttributes.h"
#include "moe/Conversion/Passes.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEMERGELAUNCHES
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Blocks of a merged kernel: more than run at once on any GPU with kernels of
/// this size would only make barriers slower.
static constexpr int64_t kMostBlocks = 1024;

//===----------------------------------------------------------------------===//
// Phases
//===----------------------------------------------------------------------===//

namespace {

/// A launch that can be merged.
struct Phase {
  gpu::LaunchFuncOp launch;
  LLVM::LLVMFuncOp kernel;
  int64_t numThreads = 0, sharedBytes = 0;
  /// Its blocks run a loop from their number in steps of the grid: any grid
  /// does the same.
  bool sharesLoop = false;

  Value numBlocks() { return launch.getGridSizeOperandValues().x; }
  bool hasOneBlock() { return getConstantIntValue(numBlocks()) == 1; }
  template <typename Op>
  bool has() {
    return kernel->walk([](Op) { return WalkResult::interrupt(); })
        .wasInterrupted();
  }
};

} // namespace

/// A kernel whose blocks' numbers are nothing but where loops start, and the
/// grid's size nothing but their step.
static bool sharesLoop(LLVM::LLVMFuncOp kernel) {
  auto isStart = [](OpOperand &use) {
    auto loop = dyn_cast<scf::ForOp>(use.getOwner());
    return loop && loop.getLowerBound() == use.get() &&
           loop.getUpperBound() != use.get() &&
           loop.getStep().getDefiningOp<NVVM::GridDimXOp>();
  };
  auto isStep = [](OpOperand &use) {
    auto loop = dyn_cast<scf::ForOp>(use.getOwner());
    return loop && loop.getStep() == use.get() &&
           loop.getLowerBound().getDefiningOp<NVVM::BlockIdXOp>();
  };
  bool hasLoop = false;
  WalkResult result = kernel.walk([&](Operation *op) -> WalkResult {
    if (isa<NVVM::BlockIdXOp>(op)) {
      hasLoop = true;
      return success(llvm::all_of(op->getUses(), isStart));
    }
    if (isa<NVVM::GridDimXOp>(op))
      return success(llvm::all_of(op->getUses(), isStep));
    return success();
  });
  return hasLoop && !result.wasInterrupted();
}

static bool isOne(Value value) { return getConstantIntValue(value) == 1; }

/// What a kernel does that counts on being alone; empty if nothing.
static StringRef findObstacle(Phase &phase) {
  if (phase.has<NVVM::SetMaxRegisterOp>())
    return "its threads share registers out by setmaxnreg";
  if (phase.has<NVVM::BarrierOp>() || phase.has<NVVM::BarrierArriveOp>())
    return "it has barriers of its own";
  if (phase.has<NVVM::ClusterArriveOp>() || phase.has<NVVM::ClusterWaitOp>())
    return "its blocks are of clusters";
  return "";
}

static llvm::Expected<Phase> analyze(gpu::LaunchFuncOp launch) {
  auto refuse = [](StringRef why) {
    return llvm::createStringError("stays a launch: " + why);
  };
  Phase phase;
  phase.launch = launch;
  phase.kernel = SymbolTable::lookupNearestSymbolFrom<LLVM::LLVMFuncOp>(
      launch, launch.getKernelAttr());
  if (!phase.kernel || !phase.kernel.getBody().hasOneBlock())
    return refuse("its kernel is not structured code of moe-lower-to-gpu");
  gpu::KernelDim3 grid = launch.getGridSizeOperandValues();
  gpu::KernelDim3 block = launch.getBlockSizeOperandValues();
  if (!isOne(grid.y) || !isOne(grid.z) || !isOne(block.y) || !isOne(block.z) ||
      launch.hasClusterSize())
    return refuse("it has more than one dimension");
  if (launch.getAsyncToken() || !launch.getAsyncDependencies().empty() ||
      launch.getAsyncObject())
    return refuse("it is asynchronous");
  Value shared = launch.getDynamicSharedMemorySize();
  std::optional<int64_t> numThreads = getConstantIntValue(block.x);
  std::optional<int64_t> sharedBytes =
      shared ? getConstantIntValue(shared) : std::optional<int64_t>(0);
  if (!numThreads || !sharedBytes)
    return refuse("its threads or its shared memory are no constants");
  if (*numThreads != 1 && *numThreads % mlir::moe::kWarpSize != 0)
    return refuse("its threads are not whole warps");
  if (StringRef obstacle = findObstacle(phase); !obstacle.empty())
    return refuse(obstacle);
  phase.numThreads = *numThreads;
  phase.sharedBytes = *sharedBytes;
  phase.sharesLoop = sharesLoop(phase.kernel);
  return phase;
}

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

namespace {

/// What the merged launch passes: each operand of the phases once, constants
/// not at all.
class MergedParameters {
public:
  void add(Phase &phase) {
    for (auto [i, operand] : llvm::enumerate(phase.launch.getKernelOperands()))
      if (!matchPattern(operand, m_Constant()))
        add(operand, operand, phase.kernel.getArgument(i).getType(),
            phase.kernel.getArgAttrDict(i));
  }

  /// A number of the host, which is passed as `asI64`.
  void addNumber(Value number, Value asI64) {
    add(number, asI64, asI64.getType(), {});
  }

  ArrayRef<Value> getOperands() const { return operands; }
  ArrayRef<Type> getTypes() const { return types; }
  void annotate(LLVM::LLVMFuncOp kernel) const {
    for (auto [i, attrs] : llvm::enumerate(attributes))
      if (attrs)
        kernel.setArgAttrs(i, attrs);
  }

  /// `operand` in a kernel of these parameters.
  Value find(KernelBuilder &b, LLVM::LLVMFuncOp kernel, Value operand,
             Type type) const {
    Attribute constant;
    if (matchPattern(operand, m_Constant(&constant)))
      return arith::ConstantOp::create(b, cast<TypedAttr>(constant));
    return kernel.getArgument(numbers.lookup({operand, type}));
  }

private:
  llvm::DenseMap<std::pair<Value, Type>, unsigned> numbers;
  SmallVector<Value> operands;
  SmallVector<Type> types;
  SmallVector<DictionaryAttr> attributes;

  /// What `find` looks for as `operand` and `type` is passed as `passed`.
  void add(Value operand, Value passed, Type type, DictionaryAttr attrs) {
    if (!numbers.try_emplace({operand, type}, operands.size()).second)
      return;
    operands.push_back(passed);
    types.push_back(type);
    attributes.push_back(attrs);
  }
};

//===----------------------------------------------------------------------===//
// The kernel
//===----------------------------------------------------------------------===//

/// Builds the body of a merged kernel.
class PhaseBuilder {
public:
  PhaseBuilder(KernelBuilder &b, LLVM::LLVMFuncOp merged,
               const MergedParameters &parameters, int64_t numThreads)
      : b(b), merged(merged), parameters(parameters), numThreads(numThreads),
        thread(b.threadId()), block(b.blockId()), grid(b.numBlocks()) {}

  void build(MutableArrayRef<Phase> phases, GridBarrier &barrier) {
    for (auto [i, phase] : llvm::enumerate(phases)) {
      build(phase);
      if (i + 1 == phases.size())
        break;
      // Bulk copies read and write by another proxy than threads.
      bool copiesBoxes =
          phases[i + 1].has<NVVM::CpAsyncBulkTensorGlobalToSharedClusterOp>();
      fence(copiesBoxes);
      if (phase.hasOneBlock() && phases[i + 1].hasOneBlock())
        b.barrier();
      else
        barrier.wait();
      fence(copiesBoxes);
    }
    barrier.reset();
  }

private:
  KernelBuilder &b;
  LLVM::LLVMFuncOp merged;
  const MergedParameters &parameters;
  int64_t numThreads;
  Value thread, block, grid;
  /// The number of the thread's warp, once it is needed.
  Value warp;

  void fence(bool isNeeded) {
    if (isNeeded)
      NVVM::FenceProxyOp::create(b, NVVM::ProxyKind::async,
                                 NVVM::SharedSpaceAttr());
  }

  bool isPart(const Phase &phase) { return phase.numThreads < numThreads; }

  /// Whether a thread is one of the phase's. ptxas has to see that all lanes of
  /// a warp agree: else it takes wgmma one at a time.
  Value buildWorks(const Phase &phase) {
    if (phase.numThreads == 1)
      return b.equal(thread, 0);
    if (!warp)
      warp = b.uniform(b.div(thread, mlir::moe::kWarpSize));
    return b.less(warp, phase.numThreads / mlir::moe::kWarpSize);
  }

  /// Of the threads of a phase.
  void barrierOf(const Phase &phase) {
    if (!isPart(phase))
      return b.barrier();
    if (phase.numThreads == 1)
      return;
    // Threads without work are on their way to barrier 0.
    constexpr int64_t kPhaseBarrier = 1;
    NVVM::BarrierOp::create(b, TypeRange(), b.i32(kPhaseBarrier),
                            b.i32(phase.numThreads),
                            NVVM::BarrierReductionAttr(), Value());
  }

  void build(Phase &phase) {
    b.onlyIf(isPart(phase) ? buildWorks(phase) : Value(), [&] {
      if (phase.hasOneBlock())
        return b.onlyIf(b.equal(block, 0),
                        [&] { copy(phase, block, b.i32(1)); });
      if (phase.sharesLoop)
        return copy(phase, block, grid);
      Value blocks = findNumBlocks(phase);
      b.loop(block, blocks, grid, ValueRange(), [&](Value number, ValueRange) {
        copy(phase, number, blocks);
        // The next block's shared memory is this one's.
        barrierOf(phase);
        return KernelBuilder::Values();
      });
    });
  }

  /// How many blocks the phase would have had.
  Value findNumBlocks(Phase &phase) {
    Value blocks = phase.numBlocks();
    if (std::optional<int64_t> constant = getConstantIntValue(blocks))
      return b.i32(*constant);
    Value index = parameters.find(b, merged, blocks, b.getI64Type());
    return arith::TruncIOp::create(b, b.getI32Type(), index);
  }

  /// The body of the phase as block `number` of `numBlocks`.
  void copy(Phase &phase, Value number, Value numBlocks) {
    IRMapping mapping;
    for (auto [argument, operand] : llvm::zip(phase.kernel.getArguments(),
                                              phase.launch.getKernelOperands()))
      mapping.map(argument,
                  parameters.find(b, merged, operand, argument.getType()));
    SmallVector<Operation *> copies;
    for (Operation &op : phase.kernel.getBody().front().without_terminator())
      copies.push_back(b.clone(op, mapping));
    SmallVector<Operation *> inits;
    for (Operation *copy : copies)
      copy->walk([&](Operation *op) {
        if (isa<NVVM::MBarrierInitOp>(op))
          inits.push_back(op);
        else
          adapt(op, phase, number, numBlocks);
      });
    leaveMBarriers(phase, inits);
  }

  void adapt(Operation *op, const Phase &phase, Value number, Value numBlocks) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(op);
    auto replace = [&](Value value) {
      op->getResult(0).replaceAllUsesWith(value);
      op->erase();
    };
    llvm::TypeSwitch<Operation *>(op)
        .Case([&](NVVM::BlockIdXOp) { replace(number); })
        .Case([&](NVVM::GridDimXOp) { replace(numBlocks); })
        .Case([&](NVVM::BlockDimXOp) { replace(b.i32(phase.numThreads)); })
        .Case([&](NVVM::Barrier0Op) {
          barrierOf(phase);
          op->erase();
        })
        // What was constant for a kernel, an earlier phase may have written.
        .Case([](LLVM::LoadOp load) { load.setInvariant(false); });
  }

  /// Frees the places of mbarriers: a later phase has other things there.
  void leaveMBarriers(const Phase &phase, ArrayRef<Operation *> inits) {
    if (inits.empty())
      return;
    barrierOf(phase);
    llvm::SmallSetVector<Operation *, 1> parents;
    for (Operation *init : inits)
      parents.insert(init->getParentOp());
    for (Operation *parent : parents)
      b.clone(*parent)->walk([&](Operation *op) {
        if (auto init = dyn_cast<NVVM::MBarrierInitOp>(op)) {
          OpBuilder at(init);
          NVVM::MBarrierInvalOp::create(at, init.getLoc(), init.getAddr());
        }
        if (isa<NVVM::MBarrierInitOp, NVVM::FenceMbarrierInitOp>(op))
          op->erase();
      });
  }
};

//===----------------------------------------------------------------------===//
// A function
//===----------------------------------------------------------------------===//

/// Merges what follows one another in a function.
class LaunchMerger {
public:
  LaunchMerger(func::FuncOp function, StringRef pass)
      : function(function), pass(pass) {}

  void run() {
    SmallVector<Block *> blocks;
    function.walk([&](Block *block) { blocks.push_back(block); });
    for (Block *block : blocks) {
      for (Operation &op : llvm::make_early_inc_range(*block))
        visit(&op);
      finish();
    }
  }

private:
  func::FuncOp function;
  StringRef pass;
  SmallVector<Phase> phases;

  remark::RemarkOpts remarkOptions() {
    return remark::RemarkOpts::name("gpu-merge").category(pass);
  }

  /// Sizes, views and addresses, which the host has before the launch.
  static bool isHostOnly(Operation *op) {
    return isMemoryEffectFree(op) || op->hasTrait<OpTrait::IsTerminator>() ||
           isa<memref::AllocOp, memref::AssumeAlignmentOp,
               nvgpu::TmaCreateDescriptorOp>(op);
  }

  void visit(Operation *op) {
    auto launch = dyn_cast<gpu::LaunchFuncOp>(op);
    if (!launch && isHostOnly(op))
      return;
    if (!launch)
      return interrupt(
          op, ("'" + op->getName().getStringRef() + "' stands between launches")
                  .str());
    llvm::Expected<Phase> phase = analyze(launch);
    if (phase)
      return phases.push_back(*phase);
    interrupt(op, llvm::toString(phase.takeError()));
  }

  void interrupt(Operation *op, StringRef why) {
    finish();
    remark::missed(op->getLoc(), remarkOptions()) << why.str();
  }

  void finish() {
    if (phases.size() > 1)
      merge();
    phases.clear();
  }

  /// As large as the largest of them.
  Value buildNumBlocks(ImplicitLocOpBuilder &b) {
    Value most;
    for (Phase &phase : phases)
      most = most ? b.createOrFold<arith::MaxUIOp>(most, phase.numBlocks())
                  : phase.numBlocks();
    return b.createOrFold<arith::MinUIOp>(
        most, arith::ConstantIndexOp::create(b, kMostBlocks));
  }

  Value allocateFlags(Value numBlocks) {
    OpBuilder b = OpBuilder::atBlockBegin(&function.getBody().front());
    int64_t most = getConstantIntValue(numBlocks).value_or(kMostBlocks);
    auto type =
        MemRefType::get({GridBarrier::getNumFlags(most)}, b.getI64Type());
    return memref::AllocOp::create(b, phases.back().launch.getLoc(), type);
  }

  void merge() {
    gpu::LaunchFuncOp last = phases.back().launch;
    ImplicitLocOpBuilder b(last.getLoc(), last);
    Value numBlocks = buildNumBlocks(b);
    KernelParameters flags;
    flags.addBuffer(allocateFlags(numBlocks));

    MergedParameters parameters;
    int64_t numThreads = 0, sharedBytes = 0;
    for (Phase &phase : phases) {
      parameters.add(phase);
      addNumBlocks(b, phase, parameters);
      numThreads = std::max(numThreads, phase.numThreads);
      sharedBytes = std::max(sharedBytes, phase.sharedBytes);
    }
    SymbolRefAttr kernel = buildKernel(parameters, numThreads);
    SmallVector<Value> operands(parameters.getOperands());
    llvm::append_range(operands, flags.buildArguments(b));
    operands.push_back(arith::ConstantIntOp::create(b, /*ticket=*/0, 64));

    Value one = arith::ConstantIndexOp::create(b, 1);
    auto merged = gpu::LaunchFuncOp::create(
        b, kernel, gpu::KernelDim3{numBlocks, one, one},
        gpu::KernelDim3{arith::ConstantIndexOp::create(b, numThreads), one,
                        one},
        arith::ConstantIntOp::create(b, sharedBytes, 32), operands);
    merged->setAttr(kCooperative, b.getUnitAttr());
    remark::passed(merged.getLoc(), remarkOptions())
        << llvm::formatv("{0} launches are one of {1} threads", phases.size(),
                         numThreads)
               .str();
    eraseMerged();
  }

  /// What the kernel has to know of a grid that is not a constant.
  static void addNumBlocks(ImplicitLocOpBuilder &b, Phase &phase,
                           MergedParameters &parameters) {
    Value blocks = phase.numBlocks();
    if (!phase.sharesLoop && !getConstantIntValue(blocks))
      parameters.addNumber(
          blocks, arith::IndexCastOp::create(b, b.getI64Type(), blocks));
  }

  SymbolRefAttr buildKernel(const MergedParameters &parameters,
                            int64_t numThreads) {
    LLVM::LLVMFuncOp first = phases.front().kernel;
    auto module = first->getParentOfType<gpu::GPUModuleOp>();
    KernelBuilder b(phases.back().launch.getLoc(), first.getContext());
    SmallVector<Type> types(parameters.getTypes());
    types.append({b.pointerType(kGlobalMemory), b.getI64Type()});
    auto merged = LLVM::LLVMFuncOp::create(
        b, (function.getName() + "_phases").str(),
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                    types));
    SymbolTable(module).insert(merged); // Gets a name of its own.
    for (StringRef name : {gpu::GPUDialect::getKernelFuncAttrName(),
                           NVVM::NVVMDialect::getKernelFuncAttrName()})
      merged->setAttr(name, b.getUnitAttr());
    merged->setAttr(
        NVVM::NVVMDialect::getMaxntidAttrName(),
        b.getDenseI32ArrayAttr({static_cast<int32_t>(numThreads), 1, 1}));
    parameters.annotate(merged);
    b.setInsertionPointToStart(merged.addEntryBlock(b));
    ValueRange own = merged.getArguments().take_back(2);
    GridBarrier barrier(b, own[0], own[1], numThreads);
    PhaseBuilder(b, merged, parameters, numThreads).build(phases, barrier);
    LLVM::ReturnOp::create(b, ValueRange());
    return SymbolRefAttr::get(module.getSymNameAttr(),
                              {SymbolRefAttr::get(merged)});
  }

  void eraseMerged() {
    for (Phase &phase : phases)
      phase.launch.erase();
    auto host = function->getParentOfType<ModuleOp>();
    llvm::SmallPtrSet<Operation *, 8> seen;
    for (Phase &phase : phases)
      if (seen.insert(phase.kernel).second &&
          SymbolTable::symbolKnownUseEmpty(phase.kernel, host))
        phase.kernel.erase();
  }
};

struct MergeLaunchesPass : moe::impl::MoEMergeLaunchesBase<MergeLaunchesPass> {
  using Base::Base;

  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      Attribute wish = function->getAttr(kMergeLaunches);
      auto decision = dyn_cast_or_null<BoolAttr>(wish);
      if (wish && !decision) {
        function.emitOpError("has ")
            << kMergeLaunches << " = " << wish << "; it takes true or false";
        return signalPassFailure();
      }
      if (!function.isExternal() && (decision ? decision.getValue() : all))
        LaunchMerger(function, getName()).run();
    }
  }
};

} // namespace
