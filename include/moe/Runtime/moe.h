/*===- moe.h - The C interface of a compiled MoE layer ------------*- C -*-===*\
|*                                                                            *|
|* Part of the MoE compiler, under the Apache License v2.0 with LLVM          *|
|* Exceptions.                                                                *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/
/*
 * All that a program needs to call an artifact of moe-compile: no MLIR, LLVM or
 * Python. moe-compile writes a header beside each artifact; that header repeats
 * what is here, so that one file is enough, and declares the layer's functions:
 *
 *   int32_t NAME(const moe_tensor *ARGUMENT..., const moe_tensor *RESULT...,
 *                void *workspace, size_t workspace_bytes);
 *   int32_t NAME_packed(const moe_tensor *const *tensors,
 *                       void *workspace, size_t workspace_bytes);
 *   size_t NAME_workspace(int64_t SIZE...);
 *   size_t NAME_workspace_packed(const moe_tensor *const *tensors);
 *
 * Both do the same; NAME_packed takes the tensors in one array, arguments
 * first, results after them, for callers that do not know NAME's arity when
 * they are compiled. They are re-entrant: no state outlives a call. They check
 * every tensor before the first element is read and return a status.
 *
 * The workspace is memory that a call works in, aligned to 64 bytes, so that it
 * need not allocate any (NAME's own comment tells if it does). NAME_workspace says how much it takes, from the sizes that
 * the caller chooses (the tokens, say); NAME_workspace_packed from the arguments.
 * What is in it before a call does not matter, and a second call may use it again
 * when the first has returned. Where nothing is needed, NULL and 0 do.
 *
 * An artifact may hold the layer in versions for several instruction sets: its
 * first call chooses the best one that the machine has, or the one that the
 * environment variable MOE_ISA names, for all calls of the process.
 *
 * An artifact whose weights are packed (moe-compile --pack-weights) has functions
 * that pack them, NAME_pack like NAME, and for an expert that is replaced
 *
 *   int32_t NAME_pack_expert(int64_t expert, const moe_tensor *SOURCE...,
 *                            const moe_tensor *PACKED..., void *workspace,
 *                            size_t workspace_bytes);
 *   int32_t NAME_pack_expert_packed(int64_t expert,
 *                                   const moe_tensor *const *tensors,
 *                                   void *workspace, size_t workspace_bytes);
 *
 * For a GPU (moe-compile --target=nvptx) data and workspace are memory of the
 * device, and NAME and NAME_packed have one more argument at the end, `void
 * *stream`: a CUstream, which is cudaStream_t. They put launches into it and
 * return; const char *NAME_error(void) has the text of this thread's last
 * MOE_DEVICE_ERROR.
 */
#ifndef MOE_RUNTIME_MOE_H
#define MOE_RUNTIME_MOE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Element types. The numbers are part of the interface. */
typedef enum moe_type {
  MOE_F64 = 0,
  MOE_F32 = 1,
  MOE_F16 = 2,
  MOE_BF16 = 3,
  MOE_I64 = 4,
  MOE_I32 = 5,
  MOE_I16 = 6,
  MOE_I8 = 7,
  MOE_BOOL = 8
} moe_type;

/* A dense tensor that the caller owns. */
typedef struct moe_tensor {
  void *data;             /* first element, aligned to its size; may be NULL
                             when the tensor has no elements */
  const int64_t *shape;   /* `rank` sizes; may be NULL when rank is 0 */
  const int64_t *strides; /* in elements; NULL means row-major. Artifacts take
                             row-major tensors only and check it */
  int32_t rank;
  int32_t type;           /* a moe_type */
} moe_tensor;

/* A status is 0, or a code below, plus 256 times (1 + position of the tensor
 * among arguments and results) where a tensor is to blame. */
enum {
  MOE_OK = 0,
  MOE_NULL_POINTER = 1,        /* a tensor, its data or its shape is NULL */
  MOE_BAD_RANK = 2,
  MOE_BAD_TYPE = 3,
  MOE_BAD_SHAPE = 4,           /* a size differs from the compiled one, or from
                                  what the arguments imply */
  MOE_BAD_STRIDES = 5,         /* not row-major */
  MOE_WORKSPACE_TOO_SMALL = 6, /* or NULL, or not aligned to 64 bytes */
  MOE_TOO_MANY_CHOICES = 7,    /* tokens times k reaches 2^31 */
  MOE_UNSUPPORTED_CPU = 8,     /* this machine lacks instructions that the
                                  artifact needs, or that MOE_ISA asks for */
  MOE_UNKNOWN_ISA = 9,         /* the environment variable MOE_ISA names none of
                                  the artifact's instruction sets */
  MOE_DEVICE_ERROR = 10,       /* NAME_error() says of what a GPU, its driver or
                                  a launch failed */
  MOE_BAD_ALIGNMENT = 11,      /* data on a GPU is not aligned to 16 bytes */
  MOE_BAD_EXPERT = 12          /* the tensor has no slab for this expert */
};
#define MOE_STATUS_CODE(status) ((status) & 255)
#define MOE_STATUS_TENSOR(status) (((status) >> 8) - 1)

/* Calls task(context, 0) … task(context, count - 1), in any order and on any
 * threads, and returns when all are done. A compiled layer calls it once for each
 * parallel region; where the process has no such function, the layer runs on the
 * calling thread. libMoERuntime.a has one for OpenMP; a host with threads of its
 * own defines it instead. */
void moe_rt_parallel_for(int64_t count, void (*task)(void *context, int64_t index),
                         void *context);

/* How many threads moe_rt_parallel_for of libMoERuntime.a uses when this thread
 * calls it: at least 1; all there are unless told. */
void moe_rt_set_num_threads(int32_t count);

#ifdef __cplusplus
}
#endif

#endif /* MOE_RUNTIME_MOE_H */
