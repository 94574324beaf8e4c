//===- WgmmaKernel.cpp - Grouped matmuls for sm_90a -----------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Group 0 copies, the others multiply. All find the tiles of their block by
// themselves, and meet at the ring of stages only:
//
//   group 0   wait until empty ─▶ TMA, cp.async ─▶ full
//   others    wait until full ─▶ wgmma ─▶ empty … ─▶ epilogue
//
// so that the copies of the next tile run while this one's results are stored.
//
//===----------------------------------------------------------------------===//

#include "WgmmaKernel.h"

#include "WgmmaSides.h"

using namespace mlir;
using namespace mlir::moe;

namespace {
/// Registers of a thread that copies and of one that multiplies.
struct Registers {
  int64_t producer, consumer;
};
} // namespace

/// ptxas gives each of 384 threads 168; as many change hands as there are.
/// Empty where 168 are enough: where sums are few, or one group multiplies,
/// whose threads have all that a thread can have.
static std::optional<Registers> splitRegisters(const WgmmaTask &task,
                                               const MatmulMaps &maps) {
  constexpr int64_t kFewSums = 96;
  GPUWgmmaAttr config = task.config;
  int64_t sums = task.problem.getNumProducts() * config.getTileRows() *
                 config.getTileColumns() / config.getNumConsumers();
  if (config.getGroups() == 1 || sums <= kFewSums)
    return std::nullopt;
  // Pointers of gathered rows are kept in registers.
  return maps.rows ? Registers{40, 232} : Registers{56, 224};
}

void mlir::moe::buildWgmmaKernel(KernelBuilder &b, const MatmulProblem &problem,
                                 GPUWgmmaAttr config, const MatmulMaps &maps,
                                 const IRMapping &toDevice,
                                 ValueRange tensorMaps, Value numExperts,
                                 Value shared) {
  WgmmaTask task = {problem, config, toDevice, shared};
  Value thread = b.threadId(), lane = b.rem(thread, kWarpSize);
  Value warp = b.uniform(b.div(thread, kWarpSize));
  Value group = b.div(warp, kGroupWarps);
  Value inGroup = b.rem(warp, kGroupWarps);

  StageRing ring(b, shared, config.getStages(), task.stageBytes());
  ring.init(thread, WgmmaProducer::numFills(maps),
            WgmmaConsumer::numEmpties(config));
  TileSearch search(b, toDevice.lookup(problem.offsets), numExperts, lane,
                    config.getTileRows(), config.getTileColumns(),
                    problem.numColumns);
  b.barrier();

  std::optional<Registers> registers = splitRegisters(task, maps);
  if (registers) // What ptxas has to know to start from 168.
    b.getBlock()->getParentOp()->setAttr(
        NVVM::NVVMDialect::getMinctasmAttrName(), b.getI32IntegerAttr(1));
  auto copy = [&]() -> SmallVector<Value> {
    if (registers)
      NVVM::SetMaxRegisterOp::create(b, registers->producer,
                                     NVVM::SetMaxRegisterAction::decrease);
    WgmmaProducer(b, task, ring, maps, tensorMaps, b.rem(thread, kGroupThreads),
                  inGroup)
        .build(search);
    return {};
  };
  auto multiply = [&]() -> SmallVector<Value> {
    if (registers)
      NVVM::SetMaxRegisterOp::create(b, registers->consumer,
                                     NVVM::SetMaxRegisterAction::increase);
    WgmmaConsumer(b, task, ring, b.sub(group, 1), inGroup, lane).build(search);
    return {};
  };
  b.ifElse(b.equal(group, 0), copy, multiply);
}
