//===- peak.cpp - How fast this machine multiplies at this moment -*- C++ -*-=//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A core's clock changes with what it did before, with its neighbours and with
// its power: the peak that bounds a call is that of the same threads, with the
// instructions that layers are made of, right after the call. Everything stays
// in registers, so that no cache loses what the next call finds there.
//
//===----------------------------------------------------------------------===//

#include <cstdint>
#include <omp.h>
#include <utility>

#ifdef __x86_64__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/// Sums side by side: a dot product of bf16 takes six cycles, and two begin in
/// each; no more than there are registers for, beside the factors.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kNumSums = 24;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kNumSums = 12;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kNumSums = 24;
#else
constexpr int kVectorBytes = 16, kNumSums = 12;
#endif
typedef float Vector __attribute__((vector_size(kVectorBytes)));
constexpr int kLanes = kVectorBytes / sizeof(float);

/// Of a piece of work: some 25 microseconds, so that a probe ends in time, and
/// its beginning and end do not count.
constexpr int kNumSteps = 8000;

/// `step` on each of the sums, kNumSteps times.
template <typename Step, size_t... I>
static void runChains(Step step, std::index_sequence<I...>) {
  // Equal ones would be merged, and 1 stays 1.
  Vector sums[] = {(Vector{} + float(I + 2))...};
  for (int i = 0; i < kNumSteps; ++i)
    ((sums[I] = step(sums[I])), ...);
  Vector total = (sums[I] + ...);
  volatile float used = total[0] + total[kLanes - 1];
  (void)used;
}

/// Pieces of work return their operations. Values stay near 1.
static double multiplyF32() {
  runChains([](Vector sum) { return sum * 0.5f + 0.5f; },
            std::make_index_sequence<kNumSums>());
  return 2.0 * kNumSteps * kNumSums * kLanes;
}

#ifdef __AVX512BF16__
static double multiplyBF16() {
  __m512bh half = (__m512bh)_mm512_set1_epi16(0x3f00);
  runChains(
      [half](Vector sum) {
        return (Vector)_mm512_dpbf16_ps((__m512)sum, half, half);
      },
      std::make_index_sequence<kNumSums>());
  return 4.0 * kNumSteps * kNumSums * kLanes;
}
#else
/// Layers convert bf16 to f32 here.
static double multiplyBF16() { return multiplyF32(); }
#endif

#ifdef __AMX_BF16__
/// Linux gives a process tiles when it asks for them.
static bool haveTiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const bool have =
      syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return have;
}

/// Sixteen rows of 64 bytes, all eight tiles.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t rowBytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Six sums: a product begins each 16 cycles and takes 52.
static double multiplyTiles() {
  constexpr int kNumTileSteps = kNumSteps / 16;
  static const TileShapes shapes;
  _tile_loadconfig(&shapes); // all tiles are 0
  for (int i = 0; i < kNumTileSteps; ++i) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
    _tile_dpbf16ps(4, 6, 7);
    _tile_dpbf16ps(5, 6, 7);
  }
  _tile_release();
  return kNumTileSteps * 6 * 2.0 * 16 * 16 * 32;
}
#else
static bool haveTiles() { return false; }
static double multiplyTiles() { return multiplyBF16(); }
#endif

/// Operations a second of all threads together, each for so many seconds: of
/// fused multiply-adds of f32, or of the widest products of bf16 that there
/// are. A thread that starts late or is interrupted has its own time.
extern "C" double moe_bench_multiply(bool isBF16, double seconds) {
  double (*work)() = !isBF16       ? multiplyF32
                     : haveTiles() ? multiplyTiles
                                   : multiplyBF16;
  double rate = 0;
#pragma omp parallel reduction(+ : rate)
  {
#pragma omp barrier
    double done = 0, start = omp_get_wtime(), spent;
    do {
      done += work();
      spent = omp_get_wtime() - start;
    } while (spent < seconds);
    rate += done / spent;
  }
  return rate;
}
