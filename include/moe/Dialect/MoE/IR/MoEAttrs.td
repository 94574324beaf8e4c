//===- MoEAttrs.td - Attributes of the moe dialect -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_ATTRS_TD
#define MOE_ATTRS_TD

include "mlir/IR/AttrTypeBase.td"
include "moe/Dialect/MoE/IR/MoEEnums.td"
include "moe/Dialect/MoE/IR/MoEInterfaces.td"

class MoE_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<MoE_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

/// A value of `moe.lowering_config`.
class MoE_LoweringConfig<string name, string attrMnemonic>
    : MoE_Attr<name, attrMnemonic, [DeclareAttrInterfaceMethods<MoE_LoweringConfigInterface>]> {
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def MoE_GroupsAttr : MoE_Attr<"Groups", "groups"> {
  let summary = "group-limited selection";
  let description = [{
    The E experts are `count` groups of E / count neighbours. Only the `keep`
    groups with the highest group score may be selected from; ties go to the
    lower group. The score of a group is the `max` of its selection keys or the
    sum of its two largest (`top2_sum`); a NaN sum counts as −inf. Experts
    outside the kept groups get the key −inf (`neg_inf`) or 0 (`zero`, which
    lets them win over kept experts with a negative key, as some models do).

    Example: `groups<count = 8, keep = 4, score = top2_sum>` (DeepSeek-V3).
  }];
  let parameters = (ins
    "int64_t":$count,
    "int64_t":$keep,
    DefaultValuedParameter<"::mlir::moe::GroupScore", "::mlir::moe::GroupScore::Max">:$score,
    DefaultValuedParameter<"::mlir::moe::GroupMask", "::mlir::moe::GroupMask::NegInf">:$mask
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def MoE_RenormalizeAttr : MoE_Attr<"Renormalize", "renormalize"> {
  let summary = "division of the k weights by their sum";
  let description = [{
    The k weights of a token are divided by their sum s: by s + eps (`add`) or
    by max(s, eps) (`clamp`). A zero denominator gives weights of 0.

    Example: `renormalize<eps = 1.0e-20 : f32>`; `renormalize<>` has eps = 0.
  }];
  let parameters = (ins
    OptionalParameter<"::mlir::FloatAttr">:$eps,
    DefaultValuedParameter<"::mlir::moe::EpsMode", "::mlir::moe::EpsMode::Add">:$mode
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let extraClassDeclaration = [{
    /// Epsilon as f32; 0 when the attribute has none.
    ::llvm::APFloat getEpsilon() const;
  }];
  let genVerifyDecl = 1;
}

def MoE_CPUMatmulAttr : MoE_LoweringConfig<"CPUMatmul", "cpu_matmul"> {
  let summary = "how a grouped matmul runs on a CPU";
  let description = [{
    `kernel` names the instructions that multiply: `fma` vectors of f32, which
    bf16 and f16 are extended to; `bf16_dot` pairs of bf16 (AVX512_BF16); `amx`
    tiles of bf16 (AMX-BF16).

    With the first two, a tile of `tile_rows` × `tile_columns` results is kept in
    vector registers of `lanes` f32 partial sums each, which run along k.
    `block_sum` elements of k are added before the lanes are, so that the operands
    of a tile stay in the first cache. A task computes `block_columns` columns,
    `block_rows` rows at a time.

    Where weights have n last, vectors run along n: a tile has `tile_columns`
    vectors of sums a row, and `block_sum` elements of k are multiplied before
    the sums go to memory and the next columns follow. `block_columns` is a
    multiple of such a tile's columns.

    With `amx` a tile is one of its registers, and a step multiplies two by two of
    them; rows of weights and of the epilogue are vectors of `lanes`.

    * cpu_matmul_c1: all sizes are at least 1; lanes is a power of two, at least 4 and
      tile_columns rounded up to one.
    * cpu_matmul_c2: block_rows is a multiple of tile_rows, block_columns one of
      tile_columns and of lanes, block_sum one of what a step takes (lanes, or
      2 · lanes with bf16_dot and amx).
    * cpu_matmul_c3: with amx, tiles have 16 rows, 16 columns and 16 lanes, and
      block_columns is a multiple of 32, two tiles.
    * cpu_matmul_c4: with fma and bf16_dot, a tile has at most 32 results, as no
      CPU has more vector registers; bf16_dot has at most 16 lanes.

    Example: `#moe.cpu_matmul<tile_rows = 4, tile_columns = 6, block_rows = 128,
    block_columns = 48, block_sum = 2048, lanes = 16, kernel = bf16_dot>`
  }];
  let parameters = (ins
    "int64_t":$tile_rows, "int64_t":$tile_columns, "int64_t":$block_rows,
    "int64_t":$block_columns, "int64_t":$block_sum, "int64_t":$lanes,
    DefaultValuedParameter<"::mlir::moe::CPUKernel", "::mlir::moe::CPUKernel::Fma">:$kernel
  );
  let extraClassDeclaration = [{
    bool usesAMX() const { return getKernel() == ::mlir::moe::CPUKernel::Amx; }
    /// Whether vectors of bf16 are multiplied in pairs.
    bool usesBf16Dot() const { return getKernel() == ::mlir::moe::CPUKernel::Bf16Dot; }
    /// Elements of k that a step multiplies.
    int64_t getStep() const {
      return getKernel() == ::mlir::moe::CPUKernel::Fma ? getLanes() : 2 * getLanes();
    }
  }];
}

def MoE_CPURoutingAttr : MoE_LoweringConfig<"CPURouting", "cpu_routing"> {
  let summary = "how a gate or a plan runs on a CPU";
  let description = [{
    A task of a `moe.gate` has `block_tokens` tokens; one of a `moe.plan` a multiple
    of that. As the same tokens are in a task whatever the number of threads, so
    are results the same.

    * cpu_routing_c1: block_tokens is at least 1.

    Example: `#moe.cpu_routing<block_tokens = 32>`
  }];
  let parameters = (ins "int64_t":$block_tokens);
}

def MoE_GPUMatmulAttr : MoE_LoweringConfig<"GPUMatmul", "gpu_matmul"> {
  let summary = "how a grouped matmul runs on an NVIDIA GPU";
  let description = [{
    A block of `warp_rows` × `warp_columns` warps computes a tile of `tile_rows` ×
    `tile_columns` results (of every product) with tensor cores, from `tile_sum`
    elements of k at a time. `stages` such steps are in shared memory: all but one
    of them on their way while one is multiplied. With `permuted`, a kernel before
    writes the rows to memory in the order of the experts, as a prologue makes them;
    otherwise this one gathers them.

    * gpu_matmul_c1: all sizes are at least 1; the number of warps is a
      power of two from 2 to 32.
    * gpu_matmul_c2: the tile of a warp, tile_rows / warp_rows × tile_columns /
      warp_columns, has multiples of 16 rows and of 16 columns: what matrix
      instructions take.
    * gpu_matmul_c3: tile_sum is 64 or, for factors of f32, 32: rows of 128 bytes,
      the span of shared memory's banks.
    * gpu_matmul_c4: there are at least 2 stages.

    Example: `#moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 64,
    warp_rows = 2, warp_columns = 4, stages = 4>`
  }];
  let parameters = (ins
    "int64_t":$tile_rows, "int64_t":$tile_columns, "int64_t":$tile_sum,
    "int64_t":$warp_rows, "int64_t":$warp_columns, "int64_t":$stages,
    DefaultValuedParameter<"bool", "false">:$permuted
  );
  let extraClassDeclaration = [{
    int64_t getNumThreads() const { return 32 * getWarpRows() * getWarpColumns(); }
    /// Rows and columns of the tile of a warp.
    int64_t getWarpTileRows() const { return getTileRows() / getWarpRows(); }
    int64_t getWarpTileColumns() const { return getTileColumns() / getWarpColumns(); }
  }];
}

def MoE_GPUWgmmaAttr : MoE_LoweringConfig<"GPUWgmma", "gpu_wgmma"> {
  let summary = "how a grouped matmul runs on an NVIDIA GPU with TMA and wgmma (sm_90a)";
  let description = [{
    A persistent block of `groups` + 1 warp groups (of 128 threads) computes tile after
    tile of `tile_rows` × `tile_columns` results (of every product): one group copies
    `tile_sum` elements of k at a time into a ring of `stages` steps in shared memory,
    the others multiply what has arrived. Matrix instructions take 64 of one side, 8 to
    256 of the other: 64 rows or, with `swapped`, for few rows, 64 columns. `permuted`
    is that of `#moe.gpu_matmul`.

    * gpu_wgmma_c1: all sizes are at least 1; there are 1 or 2 groups.
    * gpu_wgmma_c2: the side of 64, tile_rows (swapped: tile_columns), is a multiple of
      64 · groups and at most 256: what one bulk copy takes.
    * gpu_wgmma_c3: the other side is a multiple of 8 and at most 256.
    * gpu_wgmma_c4: tile_sum is 64: rows of 128 bytes, the span of shared memory's banks.
    * gpu_wgmma_c5: there are at least 2 stages.

    Example: `#moe.gpu_wgmma<tile_rows = 128, tile_columns = 256, tile_sum = 64,
    groups = 2, stages = 4>`
  }];
  let parameters = (ins
    "int64_t":$tile_rows, "int64_t":$tile_columns, "int64_t":$tile_sum,
    "int64_t":$groups, "int64_t":$stages,
    DefaultValuedParameter<"bool", "false">:$swapped,
    DefaultValuedParameter<"bool", "false">:$permuted
  );
  let extraClassDeclaration = [{
    /// Threads that multiply, and all.
    int64_t getNumConsumers() const { return 128 * getGroups(); }
    int64_t getNumThreads() const { return getNumConsumers() + 128; }
    /// The side that instructions take 64 of, and the other.
    int64_t getTileM() const { return getSwapped() ? getTileColumns() : getTileRows(); }
    int64_t getTileN() const { return getSwapped() ? getTileRows() : getTileColumns(); }
  }];
}

#endif // MOE_ATTRS_TD
