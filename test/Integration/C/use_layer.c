/*===- use_layer.c - Calls a compiled MoE layer -------------------*- C -*-===*\
|*                                                                            *|
|* Part of the MoE compiler, under the Apache License v2.0 with LLVM          *|
|* Exceptions.                                                                *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/
/*
 * How a C program uses what moe-compile makes:
 *
 *   moe-compile layer.mlir -o layer.so
 *   cc use_layer.c layer.so -Wl,-rpath,'$ORIGIN' -o use_layer
 *   ./use_layer
 *
 * The comment in layer.h documents the function: its tensors, what it checks,
 * what it returns. Copy this file and change the shapes.
 */
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 5, EXPERTS = 4, HIDDEN = 8, INNER = 6 };

/* Numbers that stand for a checkpoint's: in [-1, 1), the same on each run. */
static void fill(float *data, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    data[i] = (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
  }
}

/* A row-major tensor of floats around `data`; `shape` must outlive it. */
static moe_tensor make_tensor(float *data, const int64_t *shape, int32_t rank) {
  moe_tensor tensor;
  tensor.data = data;
  tensor.shape = shape;
  tensor.strides = NULL; /* row-major */
  tensor.rank = rank;
  tensor.type = MOE_F32;
  return tensor;
}

int main(void) {
  /* The memory is yours: mapped from a file, on the stack, wherever. */
  static float x[TOKENS * HIDDEN], y[TOKENS * HIDDEN];
  static float router[EXPERTS * HIDDEN];
  static float w_gate[EXPERTS * INNER * HIDDEN], w_up[EXPERTS * INNER * HIDDEN];
  static float w_down[EXPERTS * HIDDEN * INNER];
  fill(x, TOKENS * HIDDEN, 1);
  fill(router, EXPERTS * HIDDEN, 2);
  fill(w_gate, EXPERTS * INNER * HIDDEN, 3);
  fill(w_up, EXPERTS * INNER * HIDDEN, 4);
  fill(w_down, EXPERTS * HIDDEN * INNER, 5);

  /* The number of tokens is free: layer.h calls it T. */
  const int64_t x_shape[] = {TOKENS, HIDDEN};
  const int64_t router_shape[] = {EXPERTS, HIDDEN};
  const int64_t up_shape[] = {EXPERTS, INNER, HIDDEN};
  const int64_t down_shape[] = {EXPERTS, HIDDEN, INNER};
  moe_tensor tx = make_tensor(x, x_shape, 2);
  moe_tensor trouter = make_tensor(router, router_shape, 2);
  moe_tensor tgate = make_tensor(w_gate, up_shape, 3);
  moe_tensor tup = make_tensor(w_up, up_shape, 3);
  moe_tensor tdown = make_tensor(w_down, down_shape, 3);
  moe_tensor ty = make_tensor(y, x_shape, 2);

  /* So is the memory that the layer works in, at a multiple of 64: it allocates
   * none. Keep it for the next call. */
  size_t bytes = layer_workspace(TOKENS);
  char *memory = malloc(bytes + 63);
  if (!memory)
    return EXIT_FAILURE;
  void *workspace = memory + (64 - (uintptr_t)memory % 64) % 64;

  int32_t status =
      layer(&tx, &trouter, &tgate, &tup, &tdown, &ty, workspace, bytes);
  if (status != MOE_OK) {
    fprintf(stderr, "layer: code %d for tensor %d\n", (int)MOE_STATUS_CODE(status),
            (int)MOE_STATUS_TENSOR(status));
    return EXIT_FAILURE;
  }
  for (int t = 0; t < TOKENS; ++t) {
    for (int h = 0; h < HIDDEN; ++h)
      printf(" %.9g", y[t * HIDDEN + h]);
    printf("\n");
  }
  free(memory);
  return EXIT_SUCCESS;
}
