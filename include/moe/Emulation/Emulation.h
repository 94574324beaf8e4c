//===- Emulation.h - GPU kernels on the CPU, checked --------------*- C -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs kernels that `moe-opt --moe-emulate-nvvm` has redirected to this
// library: fibers for threads, and NVIDIA's warps, barriers, asynchronous
// copies and matrix instructions in software. Finds races, deadlocks and
// accesses out of bounds. docs/Emulation.md says what is modelled and what is not.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EMULATION_EMULATION_H
#define MOE_EMULATION_EMULATION_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What the pass writes for kernel NAME, as the symbol moe_emu_kernel_NAME.
typedef struct MoEEmuKernel {
  const char *name;
  /// Calls the kernel as one thread; args[i] points to argument i.
  void (*entry)(void **args);
  /// Where dynamic shared memory starts in a block's window, in bytes. Static
  /// shared memory lies below it.
  uint32_t dynamic_offset;
  /// Threads a block that the kernel was compiled for; 0: any.
  uint32_t max_threads;
  /// Blocks a cluster that the kernel was compiled for; 0: as launched.
  uint32_t cluster[3];
} MoEEmuKernel;

/// Global memory that the kernel may touch.
typedef struct MoEEmuBuffer {
  const void *base;
  uint64_t bytes;
  uint32_t writable;
  const char *name; /* for messages; may be null */
} MoEEmuBuffer;

typedef struct MoEEmuLaunch {
  uint32_t grid[3];
  uint32_t block[3];
  /// Blocks a cluster; zeros: one.
  uint32_t cluster[3];
  /// Bytes of dynamic shared memory a block.
  uint32_t dynamic_shared;
  /// Blocks that run at the same time, as on a GPU of that many slots; 0: 8.
  uint32_t resident_blocks;
  /// 0: threads in order. Else the order of threads, and when copies land, is
  /// drawn.
  uint64_t seed;
  /// When there are any, an access of global memory outside of them is an
  /// error.
  const MoEEmuBuffer *buffers;
  uint32_t num_buffers;
  /// Largest shared memory of a block in bytes; 0: 227 KiB (sm_90).
  uint32_t shared_limit;
  /// All blocks run at the same time, or the launch is an error; what they read
  /// and write in global memory is checked for races.
  uint32_t cooperative;
} MoEEmuLaunch;

/// Runs all blocks to their end. Returns 0; or 1, and moe_emu_error says why.
/// One launch at a time in a process; not re-entrant.
int32_t moe_emu_launch(const MoEEmuKernel *kernel, const MoEEmuLaunch *launch,
                       void **args);

/// The same for callers without structs (IR); prints the error to stderr.
int32_t moe_emu_launch_simple(const MoEEmuKernel *kernel, uint32_t grid_x,
                              uint32_t grid_y, uint32_t grid_z,
                              uint32_t block_x, uint32_t block_y,
                              uint32_t block_z, uint32_t dynamic_shared,
                              uint64_t seed, void **args);

/// cuTensorMapEncodeTiled for kernels that are emulated: writes the 128 bytes of
/// a tensor map to `map`. Types, interleave (0 only) and swizzle are numbered as
/// by the driver; strides are in bytes, of all dimensions but the first. Returns
/// 0, or 1 and a line on stderr if the driver would not take the arguments.
int32_t moe_emu_encode_tensor_map(void *map, uint32_t type, uint32_t rank,
                                  void *base, const uint64_t *dims,
                                  const uint64_t *strides, const uint32_t *box,
                                  const uint32_t *element_strides,
                                  uint32_t interleave, uint32_t swizzle);

/// What the last launch of this process failed of; "" after one that did not.
const char *moe_emu_error(void);

#ifdef __cplusplus
}
#endif

#endif /* MOE_EMULATION_EMULATION_H */
