//===- CUDA.h - Launching compiled kernels on an NVIDIA GPU -------*- C -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a host links to run kernels that were compiled for NVIDIA GPUs. It opens
// the CUDA driver when it is first used: nothing of CUDA is needed to build it,
// and a program that never calls it runs where there is no driver.
//
// Everything happens in the CUDA context of the calling thread, which a host
// has (PyTorch, the CUDA run time), or else in the primary context of device 0.
// Functions return MOE_CUDA_OK or an error, and moe_cuda_error says what it
// was. All are safe to call from several threads.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUNTIME_CUDA_H
#define MOE_RUNTIME_CUDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Positive errors are those of the driver (CUresult).
enum {
  MOE_CUDA_OK = 0,
  /// The driver's library could not be opened.
  MOE_CUDA_NO_DRIVER = -1,
  /// The driver is older than a function that is needed.
  MOE_CUDA_OLD_DRIVER = -2,
  /// An argument that is wrong whatever the driver says.
  MOE_CUDA_BAD_ARGUMENT = -3,
  /// A layer has no code for the device.
  MOE_CUDA_NO_IMAGE = -4
};

/// What the last call of this thread that failed failed of, with the driver's
/// own name and text; "" if none did. Valid until this thread's next failure.
const char *moe_cuda_error(void);

/// Opens the driver, if no other call has: libcuda.so.1, by the rules of
/// dlopen.
int32_t moe_cuda_init(void);

/// The device of the context.
typedef struct moe_cuda_device {
  int32_t major, minor;    /* compute capability, 9.0 for H100 */
  int32_t multiprocessors; /* blocks that a persistent kernel starts */
  int32_t shared_memory;   /* bytes a block can get */
} moe_cuda_device;
int32_t moe_cuda_get_device(moe_cuda_device *device);

/// Code on the GPU; belongs to the context that it was loaded in.
typedef struct moe_cuda_module moe_cuda_module;
typedef struct moe_cuda_kernel moe_cuda_kernel;

/// Loads a cubin, a fat binary, or PTX text that ends with 0.
int32_t moe_cuda_load(moe_cuda_module **module, const void *image);
int32_t moe_cuda_unload(moe_cuda_module *module);

/// Kernel `name` of a module, for as long as that is loaded. A kernel may be
/// launched with up to `shared_memory` bytes of dynamic shared memory, and,
/// with `large_clusters`, as clusters of more than 8 blocks.
int32_t moe_cuda_find(moe_cuda_kernel **kernel, moe_cuda_module *module,
                      const char *name, uint32_t shared_memory,
                      int32_t large_clusters);

typedef struct moe_cuda_launch_config {
  uint32_t grid[3];
  uint32_t block[3];
  /// Blocks a cluster; all 0: none.
  uint32_t cluster[3];
  /// Dynamic shared memory of a block in bytes.
  uint32_t shared_memory;
  /// The kernel may start before the one in front of it in the stream has
  /// ended. Only for kernels that wait by griddepcontrol before they read its
  /// results.
  int32_t programmatic;
  /// All blocks run at the same time, or the launch is an error: for kernels
  /// whose blocks wait for each other.
  int32_t cooperative;
  /// A CUstream (= cudaStream_t); null for the default one.
  void *stream;
} moe_cuda_launch_config;

/// How many blocks of so many threads and bytes of dynamic shared memory run at
/// the same time on one multiprocessor.
int32_t moe_cuda_occupancy(int32_t *blocks, moe_cuda_kernel *kernel,
                           uint32_t threads, uint32_t shared_memory);

/// Puts a launch into a stream. args[i] points to argument i.
int32_t moe_cuda_launch(moe_cuda_kernel *kernel,
                        const moe_cuda_launch_config *config, void **args);

/// Memory of the GPU, aligned to 256 bytes; null for 0 bytes.
int32_t moe_cuda_allocate(void **memory, size_t bytes);
int32_t moe_cuda_free(void *memory);

/// Puts a copy to or from the GPU into a stream. The host's memory must stay as
/// it is until moe_cuda_synchronize, which waits for all that is in the stream.
int32_t moe_cuda_upload(void *target, const void *source, size_t bytes,
                        void *stream);
int32_t moe_cuda_download(void *target, const void *source, size_t bytes,
                          void *stream);
int32_t moe_cuda_synchronize(void *stream);

/// 128 bytes that a kernel takes by value (CUtensorMap), aligned to 64.
typedef struct moe_cuda_tensor_map {
#ifdef __cplusplus
  alignas(64)
#else
  _Alignas(64)
#endif
      uint64_t opaque[16];
} moe_cuda_tensor_map;

typedef enum moe_cuda_swizzle {
  MOE_CUDA_SWIZZLE_NONE = 0,
  MOE_CUDA_SWIZZLE_32B = 1,
  MOE_CUDA_SWIZZLE_64B = 2,
  MOE_CUDA_SWIZZLE_128B = 3
} moe_cuda_swizzle;

/// A tensor in GPU memory, of which a kernel copies boxes by TMA.
typedef struct moe_cuda_tensor {
  void *data;       /* aligned to 16 bytes */
  int32_t type;     /* moe_type of moe/Runtime/moe.h: f32, f16, bf16, i32, i8 */
  uint32_t rank;    /* 1 to 5 */
  uint64_t dims[5]; /* elements, the contiguous dimension first */
  uint64_t strides[4]; /* bytes, of dimensions 1 to 4; multiples of 16 */
  uint32_t box[5];     /* elements, at most 256 each */
  moe_cuda_swizzle swizzle;
} moe_cuda_tensor;

/// Encodes a tensor map; what lies outside of the tensor is read as 0.
int32_t moe_cuda_encode(moe_cuda_tensor_map *map,
                        const moe_cuda_tensor *tensor);

#ifdef __cplusplus
}
#endif

#endif /* MOE_RUNTIME_CUDA_H */
