//===- CUDALayer.h - What a layer compiled for GPUs calls ---------*- C -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// moe-compile --target=nvptx writes a moe_cuda_program into the artifact, and
// calls of these functions into its host code. An object file (--emit=obj) is
// linked with libMoECUDARuntime.a; a shared object has it inside. Nobody else
// needs this header.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUNTIME_CUDALAYER_H
#define MOE_RUNTIME_CUDALAYER_H

#include "moe/Runtime/CUDA.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct moe_cuda_layer_kernel {
  const char *name;
  /// Bytes of dynamic shared memory that its launches ask for, at most.
  uint32_t shared_memory;
  int32_t large_clusters;
} moe_cuda_layer_kernel;

/// The kernels of a layer for one kind of GPU.
typedef struct moe_cuda_image {
  const char *chip;  /* "sm_80" */
  int32_t arch;      /* compute capability times 10: 80 */
  int32_t only;      /* runs on nothing else: sm_90a */
  const void *cubin; /* null if there was no ptxas; for this major version */
  const char *ptx;   /* ends with 0; for this chip and later ones */
  const moe_cuda_layer_kernel *kernels;
  uint32_t num_kernels;
} moe_cuda_image;

typedef struct moe_cuda_program {
  const char *layer; /* its name, for messages */
  const moe_cuda_image *images;
  uint32_t num_images;
  /// What is loaded, in each context; the run time's own.
  void *loaded;
} moe_cuda_program;

/// One call of a layer.
typedef struct moe_cuda_call {
  void *stream;
  void *kernels;
  uint32_t num_kernels;
  int32_t image;           /* the image that the device runs */
  int32_t status;          /* of the first function that failed */
  int32_t multiprocessors; /* of the device */
} moe_cuda_call;

/// Begins a call: picks the image that is best for the device of the context,
/// and loads it if no call in this context has.
int32_t moe_cuda_begin(moe_cuda_call *call, moe_cuda_program *program,
                       void *stream);

/// Launches kernel number `kernel` of the image; nothing after a failure.
/// sizes: blocks in x, y, z, threads in x, y, z, blocks of a cluster (0: none),
/// and how many blocks in x a multiprocessor gets at most (0: any number).
void moe_cuda_call_kernel(moe_cuda_call *call, uint32_t kernel,
                          const int64_t *sizes, uint32_t shared_memory,
                          void **args);

/// The same for a kernel whose blocks wait for each other: of the blocks, no
/// more are started than run at the same time. `*ticket`, which one of args
/// points to, becomes a number that no other launch of the process has.
void moe_cuda_call_cooperative(moe_cuda_call *call, uint32_t kernel,
                               const int64_t *sizes, uint32_t shared_memory,
                               void **args, uint64_t *ticket);

/// moe_cuda_encode; nothing after a failure.
void moe_cuda_call_encode(moe_cuda_call *call, moe_cuda_tensor_map *map,
                          const moe_cuda_tensor *tensor);

#ifdef __cplusplus
}
#endif

#endif /* MOE_RUNTIME_CUDALAYER_H */
