/*
 * The two layers of this folder in plain loops, in double, and the numbers that
 * the tests and use_layer.c run them on.
 */
#ifndef MOE_TEST_REFERENCE_H
#define MOE_TEST_REFERENCE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 8, INNER = 6 };

/* The numbers of use_layer.c. */
static inline void fill(float *data, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    data[i] = (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
  }
}

static inline float *make(size_t count, uint32_t seed) {
  float *data = malloc((count + 1) * sizeof(float));
  fill(data, count, seed);
  return data;
}

/* A workspace of exactly `bytes`, aligned to 64, full of NaN: what was in it must
 * not matter. Its first 64 bytes in memory hold where that begins. */
static inline void *make_workspace(size_t bytes) {
  char *memory = malloc(bytes + 127);
  char *data = memory + 64 + (64 - (uintptr_t)memory % 64) % 64;
  memset(data - 64, 0xff, bytes + 64);
  memcpy(data - 64, &memory, sizeof(memory));
  return data;
}

static inline void free_workspace(void *data) {
  char *memory;
  memcpy(&memory, (char *)data - 64, sizeof(memory));
  free(memory);
}

static inline double dot(const float *a, const float *b) {
  double sum = 0;
  for (int i = 0; i < HIDDEN; ++i)
    sum += (double)a[i] * b[i];
  return sum;
}

/* The expert with the largest logit but `not_this`; ties go to the lower. */
static inline int arg_max(const double *logits, int experts, int not_this) {
  int best = -1;
  for (int e = 0; e < experts; ++e)
    if (e != not_this && (best < 0 || logits[e] > logits[best]))
      best = e;
  return best;
}

/* Adds weight * SwiGLU(x) to y. */
static inline void add_swiglu(double weight, const float *x, const float *gate,
                       const float *up, const float *down, double *y) {
  double inner[INNER];
  for (int i = 0; i < INNER; ++i) {
    double g = dot(x, gate + i * HIDDEN);
    inner[i] = g / (1 + exp(-g)) * dot(x, up + i * HIDDEN);
  }
  for (int h = 0; h < HIDDEN; ++h)
    for (int i = 0; i < INNER; ++i)
      y[h] += weight * inner[i] * down[h * INNER + i];
}

/* layer.mlir: two of four SwiGLU experts, softmax weights that add up to 1. */
static inline void reference_layer(int tokens, const float *x, const float *router,
                            const float *gate, const float *up,
                            const float *down, double *y) {
  for (int t = 0; t < tokens; ++t, x += HIDDEN, y += HIDDEN) {
    double logits[4];
    for (int e = 0; e < 4; ++e)
      logits[e] = dot(x, router + e * HIDDEN);
    int first = arg_max(logits, 4, -1), second = arg_max(logits, 4, first);
    double weight = 1 / (1 + exp(logits[second] - logits[first]));
    for (int h = 0; h < HIDDEN; ++h)
      y[h] = 0;
    for (int j = 0; j < 2; ++j) {
      size_t w = (size_t)(j ? second : first) * INNER * HIDDEN;
      add_swiglu(j ? 1 - weight : weight, x, gate + w, up + w, down + w, y);
    }
  }
}

/* any_experts.mlir: x + sigmoid(logit) * W x of the expert with the largest. */
static inline void reference_any_experts(int tokens, int experts, const float *x,
                                  const float *router, const float *w,
                                  double *y) {
  double *logits = malloc(experts * sizeof(double));
  for (int t = 0; t < tokens; ++t, x += HIDDEN, y += HIDDEN) {
    for (int e = 0; e < experts; ++e)
      logits[e] = dot(x, router + e * HIDDEN);
    int best = arg_max(logits, experts, -1);
    double weight = 1 / (1 + exp(-logits[best]));
    for (int h = 0; h < HIDDEN; ++h)
      y[h] = x[h] + weight * dot(x, w + (best * HIDDEN + h) * HIDDEN);
  }
  free(logits);
}

/* max |actual - expected| over max |expected| of the same token, the worst. */
static inline double relative_error(int tokens, const float *actual,
                             const double *expected) {
  double worst = 0;
  for (int t = 0; t < tokens; ++t) {
    double error = 0, size = 1e-30;
    for (int h = 0; h < HIDDEN; ++h, ++actual, ++expected) {
      error = fmax(error, fabs(*actual - *expected));
      size = fmax(size, fabs(*expected));
    }
    worst = fmax(worst, error / size);
  }
  return worst;
}

#endif
