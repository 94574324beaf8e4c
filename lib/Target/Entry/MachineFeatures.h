//===- MachineFeatures.h - What a machine can do, as LLVM dialect -*- C++
//-*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_MACHINEFEATURES_H
#define MOE_LIB_TARGET_MACHINEFEATURES_H

#include "llvm/ADT/StringRef.h"

namespace mlir::moe {

inline constexpr llvm::StringLiteral kMachineFeaturesName =
    "moe.machine_features";
inline constexpr llvm::StringLiteral kRequestTilesName = "moe.request_tiles";

/// What the cpu has (CPUID) and the operating system saves (XCR0): the bits of
/// MachineFeature. The compiler's run time, which could tell, is no part of an
/// artifact. The text says, in the LLVM dialect:
///
///   uint32_t machine_features(void) {
///     if (cpuid(0, 0).eax < 7 || cpuid(0x80000000, 0).eax < 0x80000001)
///       return 0;
///     basic = cpuid(1, 0), extended = cpuid(7, 0), amd = cpuid(0x80000001, 0);
///     // sse3, ssse3, fma, cx16, sse4.1, sse4.2, movbe, popcnt, osxsave, avx,
///     // f16c
///     if ((basic.ecx & 0x38d83201) != 0x38d83201) return 0;
///     saved = xgetbv(0);
///     avx2 = (saved & 0x6) == 0x6            // xmm, ymm
///         && (extended.ebx & 0x128) == 0x128 // bmi1, avx2, bmi2
///         && (amd.ecx & 0x21) == 0x21;       // lahf, lzcnt
///     avx512 = avx2 && (saved & 0xe6) == 0xe6 // masks, zmm
///         && (extended.ebx & 0xd0030000) == 0xd0030000; // f, dq, cd, bw, vl
///     bf16 = avx512 && extended.eax >= 1 && cpuid(7, 1).eax >> 5 & 1;
///     amx = bf16 && (saved & 0x60000) == 0x60000 // configuration, tiles
///         && (extended.edx & 0x1400000) == 0x1400000; // amx-bf16, amx-tile
///     return avx2 | avx512 << 1 | bf16 << 2 | amx << 3;
///   }
///
/// Linux lets a process use tiles that has asked to, and answers with 0:
///
///   uint64_t request_tiles(void) {
///     return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
///   }
inline constexpr llvm::StringLiteral kMachineFeaturesText = R"mlir(
!registers = !llvm.struct<(i32, i32, i32, i32)>

llvm.func internal @moe.cpuid(%leaf: i32, %subleaf: i32) -> !registers attributes {no_inline} {
  %result = llvm.inline_asm has_side_effects "cpuid",
      "={ax},={bx},={cx},={dx},{ax},{cx},~{dirflag},~{fpsr},~{flags}" %leaf, %subleaf
      : (i32, i32) -> !registers
  llvm.return %result : !registers
}

llvm.func internal @moe.request_tiles() -> i64 attributes {no_inline} {
  %arch_prctl = llvm.mlir.constant(158 : i64) : i64
  %request = llvm.mlir.constant(0x1023 : i64) : i64
  %tiles = llvm.mlir.constant(18 : i64) : i64
  %result = llvm.inline_asm has_side_effects "syscall",
      "={ax},{ax},{di},{si},~{rcx},~{r11},~{memory},~{dirflag},~{fpsr},~{flags}"
      %arch_prctl, %request, %tiles : (i64, i64, i64) -> i64
  llvm.return %result : i64
}

llvm.func internal @moe.machine_features() -> i32 attributes {no_inline} {
  %zero = llvm.mlir.constant(0 : i32) : i32
  %one = llvm.mlir.constant(1 : i32) : i32
  %two = llvm.mlir.constant(2 : i32) : i32
  %three = llvm.mlir.constant(3 : i32) : i32
  %five = llvm.mlir.constant(5 : i32) : i32
  %seven = llvm.mlir.constant(7 : i32) : i32
  %amd_first = llvm.mlir.constant(0x80000000 : i32) : i32
  %amd_second = llvm.mlir.constant(0x80000001 : i32) : i32

  %last = llvm.call @moe.cpuid(%zero, %zero) : (i32, i32) -> !registers
  %last_leaf = llvm.extractvalue %last[0] : !registers
  %amd_last = llvm.call @moe.cpuid(%amd_first, %zero) : (i32, i32) -> !registers
  %amd_last_leaf = llvm.extractvalue %amd_last[0] : !registers
  %has_seven = llvm.icmp "uge" %last_leaf, %seven : i32
  %has_amd = llvm.icmp "uge" %amd_last_leaf, %amd_second : i32
  %has_leaves = llvm.and %has_seven, %has_amd : i1
  llvm.cond_br %has_leaves, ^basic, ^return(%zero : i32)

^basic:
  %basic = llvm.call @moe.cpuid(%one, %zero) : (i32, i32) -> !registers
  %extended = llvm.call @moe.cpuid(%seven, %zero) : (i32, i32) -> !registers
  %amd = llvm.call @moe.cpuid(%amd_second, %zero) : (i32, i32) -> !registers
  %basic_ecx = llvm.extractvalue %basic[2] : !registers
  %extended_eax = llvm.extractvalue %extended[0] : !registers
  %extended_ebx = llvm.extractvalue %extended[1] : !registers
  %amd_ecx = llvm.extractvalue %amd[2] : !registers
  %basic_mask = llvm.mlir.constant(0x38d83201 : i32) : i32
  %basic_has = llvm.and %basic_ecx, %basic_mask : i32
  %has_basic = llvm.icmp "eq" %basic_has, %basic_mask : i32
  llvm.cond_br %has_basic, ^saved, ^return(%zero : i32)

^saved:
  %xcr0 = llvm.inline_asm has_side_effects "xgetbv",
      "={ax},={dx},{cx},~{dirflag},~{fpsr},~{flags}" %zero : (i32) -> !llvm.struct<(i32, i32)>
  %saved = llvm.extractvalue %xcr0[0] : !llvm.struct<(i32, i32)>
  %ymm_mask = llvm.mlir.constant(0x6 : i32) : i32
  %ymm_has = llvm.and %saved, %ymm_mask : i32
  %has_ymm = llvm.icmp "eq" %ymm_has, %ymm_mask : i32
  %avx2_mask = llvm.mlir.constant(0x128 : i32) : i32
  %avx2_has = llvm.and %extended_ebx, %avx2_mask : i32
  %has_avx2 = llvm.icmp "eq" %avx2_has, %avx2_mask : i32
  %amd_mask = llvm.mlir.constant(0x21 : i32) : i32
  %amd_has = llvm.and %amd_ecx, %amd_mask : i32
  %has_lzcnt = llvm.icmp "eq" %amd_has, %amd_mask : i32
  %avx2_saved = llvm.and %has_ymm, %has_avx2 : i1
  %avx2 = llvm.and %avx2_saved, %has_lzcnt : i1

  %zmm_mask = llvm.mlir.constant(0xe6 : i32) : i32
  %zmm_has = llvm.and %saved, %zmm_mask : i32
  %has_zmm = llvm.icmp "eq" %zmm_has, %zmm_mask : i32
  %avx512_mask = llvm.mlir.constant(0xd0030000 : i32) : i32
  %avx512_has = llvm.and %extended_ebx, %avx512_mask : i32
  %has_avx512 = llvm.icmp "eq" %avx512_has, %avx512_mask : i32
  %avx512_saved = llvm.and %has_zmm, %has_avx512 : i1
  %avx512 = llvm.and %avx2, %avx512_saved : i1

  %has_subleaf = llvm.icmp "uge" %extended_eax, %one : i32
  %subleaf = llvm.zext %has_subleaf : i1 to i32
  %more = llvm.call @moe.cpuid(%seven, %subleaf) : (i32, i32) -> !registers
  %more_eax = llvm.extractvalue %more[0] : !registers
  %bf16_shifted = llvm.lshr %more_eax, %five : i32
  %has_bf16 = llvm.trunc %bf16_shifted : i32 to i1
  %bf16_told = llvm.and %has_subleaf, %has_bf16 : i1
  %bf16 = llvm.and %avx512, %bf16_told : i1

  %tile_mask = llvm.mlir.constant(0x60000 : i32) : i32
  %tile_has = llvm.and %saved, %tile_mask : i32
  %has_tile = llvm.icmp "eq" %tile_has, %tile_mask : i32
  %extended_edx = llvm.extractvalue %extended[3] : !registers
  %amx_mask = llvm.mlir.constant(0x1400000 : i32) : i32
  %amx_has = llvm.and %extended_edx, %amx_mask : i32
  %has_amx = llvm.icmp "eq" %amx_has, %amx_mask : i32
  %amx_saved = llvm.and %has_tile, %has_amx : i1
  %amx = llvm.and %bf16, %amx_saved : i1

  %avx2_bit = llvm.zext %avx2 : i1 to i32
  %avx512_bit = llvm.zext %avx512 : i1 to i32
  %bf16_bit = llvm.zext %bf16 : i1 to i32
  %avx512_shifted = llvm.shl %avx512_bit, %one : i32
  %bf16_placed = llvm.shl %bf16_bit, %two : i32
  %vectors = llvm.or %avx2_bit, %avx512_shifted : i32
  %with_bf16 = llvm.or %vectors, %bf16_placed : i32
  %amx_bit = llvm.zext %amx : i1 to i32
  %amx_placed = llvm.shl %amx_bit, %three : i32
  %features = llvm.or %with_bf16, %amx_placed : i32
  llvm.br ^return(%features : i32)

^return(%result: i32):
  llvm.return %result : i32
}
)mlir";

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_MACHINEFEATURES_H
