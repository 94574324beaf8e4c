/*
 * Compares dense.mlir (45 elements of k, 19 columns) with plain loops, on small
 * integers: sums are exact in any order.
 */
#include "dense.h"

#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 37, SUM = 45, COLUMNS = 19 };

static float x[TOKENS * SUM], w[COLUMNS * SUM], y[TOKENS * COLUMNS];
static uint16_t x_bits[TOKENS * SUM], w_bits[COLUMNS * SUM];

/* Integers in [-8, 8), and what they are in bf16. */
static void fill(float *values, uint16_t *bits, int count, uint32_t seed) {
  for (int i = 0; i < count; ++i) {
    union {
      float value;
      uint32_t bits;
    } number;
    seed = seed * 1664525u + 1013904223u;
    number.value = (float)(int)(seed >> 28) - 8.0f;
    values[i] = number.value;
    bits[i] = (uint16_t)(number.bits >> 16);
  }
}

int main(void) {
  fill(x, x_bits, TOKENS * SUM, 1);
  fill(w, w_bits, COLUMNS * SUM, 2);
  const int64_t x_shape[] = {TOKENS, SUM}, w_shape[] = {COLUMNS, SUM};
  const int64_t y_shape[] = {TOKENS, COLUMNS};
  const moe_tensor tx = {x_bits, x_shape, NULL, 2, MOE_BF16};
  const moe_tensor tw = {w_bits, w_shape, NULL, 2, MOE_BF16};
  const moe_tensor ty = {y, y_shape, NULL, 2, MOE_F32};
  size_t bytes = dense_workspace(TOKENS);
  char *memory = malloc(bytes + 63);
  if (!memory)
    return EXIT_FAILURE;
  int32_t status = dense(&tx, &tw, &ty, memory + (64 - (uintptr_t)memory % 64) % 64, bytes);
  int wrong = 0;
  for (int t = 0; t < TOKENS; ++t)
    for (int n = 0; n < COLUMNS; ++n) {
      float sum = 0;
      for (int k = 0; k < SUM; ++k)
        sum += x[t * SUM + k] * w[n * SUM + k];
      wrong += sum != y[t * COLUMNS + n];
    }
  printf("status %d, %d of %d wrong\n", (int)status, wrong, TOKENS * COLUMNS);
  free(memory);
  return status != MOE_OK || wrong;
}
