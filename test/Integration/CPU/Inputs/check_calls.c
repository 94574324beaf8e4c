/*
 * What calls of layer.mlir do, counted and not timed: parallel regions, memory
 * that is asked for, bytes written outside of the workspace and of y; and that
 * a token's result depends neither on the threads nor on the other tokens.
 * Compiled with -DTYPE=MOE_F32, MOE_BF16 or MOE_F16, linked with --wrap for each
 * function that allocates.
 */
#include "layer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXPERTS = 20, H = 501, I = 77, MOST = 1700, GUARD = 4096 };
enum { SIZE = TYPE == MOE_F32 ? 4 : 2 };

static int failures;

static void check(int ok, const char *what, int tokens) {
  if (ok)
    return;
  printf("FAILED: %s, %d tokens\n", what, tokens);
  ++failures;
}

/*===-- Memory that a call asks for ---------------------------------------===*/

static long allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *data, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes) {
  ++allocations;
  return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes) {
  ++allocations;
  return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *data, size_t bytes) {
  ++allocations;
  return __real_realloc(data, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
  ++allocations;
  return __real_aligned_alloc(alignment, bytes);
}

/*===-- The host's threads ------------------------------------------------===*/

enum { IN_ORDER, BACKWARDS, TWO_THREADS, NUM_MODES };
static int mode;
static long regions;

struct region {
  int64_t count;
  void (*task)(void *context, int64_t index);
  void *context;
};

static void run_every_other(const struct region *region, int64_t first) {
  for (int64_t index = first; index < region->count; index += 2)
    region->task(region->context, index);
}

static void *run_even(void *region) {
  run_every_other(region, 0);
  return NULL;
}

void moe_rt_parallel_for(int64_t count, void (*task)(void *context, int64_t index),
                         void *context) {
  struct region region = {count, task, context};
  pthread_t thread;
  ++regions;
  check(count > 1, "a region of one task", 0);
  if (mode == TWO_THREADS && !pthread_create(&thread, NULL, run_even, &region)) {
    run_every_other(&region, 1);
    pthread_join(thread, NULL);
    return;
  }
  for (int64_t i = 0; i < count; ++i)
    task(context, mode == BACKWARDS ? count - 1 - i : i);
}

/*===-- Tensors -----------------------------------------------------------===*/

/* All in one place, so that they are compared at once with what they were. */
static struct tensors {
  char x[MOST * H * SIZE], router[EXPERTS * H * SIZE];
  char gate[EXPERTS * I * H * SIZE], up[EXPERTS * I * H * SIZE];
  char down[EXPERTS * I * H * SIZE];
} inputs, before;

static char whole[MOST * H * SIZE], y[MOST * H * SIZE + GUARD];

/* The bits of a number of magnitude < 1 in the layer's type, cut off. */
static uint32_t bits_of(float value) {
  union {
    float value;
    uint32_t bits;
  } number = {value};
  if (TYPE == MOE_F32)
    return number.bits;
  if (TYPE == MOE_BF16)
    return number.bits >> 16;
  uint32_t sign = number.bits >> 16 & 0x8000, exponent = number.bits >> 23 & 0xff;
  if (exponent < 113)
    return sign; /* no subnormal numbers */
  return sign | (exponent - 112) << 10 | (number.bits >> 13 & 0x3ff);
}

static void fill(char *data, size_t bytes, uint32_t seed) {
  for (size_t at = 0; at < bytes; at += SIZE) {
    seed = seed * 1664525u + 1013904223u;
    uint32_t bits = bits_of((float)(seed >> 8) / (float)(1 << 23) - 1.0f);
    memcpy(data + at, &bits, SIZE); /* little-endian */
  }
}

static int is_filled_with(const char *data, size_t bytes, int value) {
  for (size_t i = 0; i < bytes; ++i)
    if (data[i] != (char)value)
      return 0;
  return 1;
}

static moe_tensor tensor(void *data, const int64_t *shape, int32_t rank) {
  const moe_tensor t = {data, shape, NULL, rank, TYPE};
  return t;
}

/*===-- Calls -------------------------------------------------------------===*/

static void call(int tokens, char *result, char *workspace, size_t bytes) {
  const int64_t x_shape[] = {tokens, H}, router_shape[] = {EXPERTS, H};
#ifdef TRANSPOSED
  const int64_t up_shape[] = {EXPERTS, H, I}, down_shape[] = {EXPERTS, I, H};
#else
  const int64_t up_shape[] = {EXPERTS, I, H}, down_shape[] = {EXPERTS, H, I};
#endif
  const moe_tensor x = tensor(inputs.x, x_shape, 2), out = tensor(result, x_shape, 2);
  const moe_tensor router = tensor(inputs.router, router_shape, 2);
  const moe_tensor gate = tensor(inputs.gate, up_shape, 3);
  const moe_tensor up = tensor(inputs.up, up_shape, 3);
  const moe_tensor down = tensor(inputs.down, down_shape, 3);
  regions = allocations = 0;
  int32_t status = layer(&x, &router, &gate, &up, &down, &out, workspace, bytes);
  check(status == MOE_OK, "status", tokens);
  check(allocations == 0, "memory was allocated", tokens);
}

/* In each mode, with a workspace of exactly the bytes that it is said to need. */
static void check_tokens(int tokens) {
  size_t bytes = layer_workspace(tokens), result = (size_t)tokens * H * SIZE;
  char *workspace = aligned_alloc(64, (bytes + GUARD + 63) / 64 * 64);
  for (mode = 0; mode < NUM_MODES; ++mode) {
    memset(workspace, 0xff, bytes + GUARD); /* NaN: nothing there may matter. */
    memset(y, 0x5a, sizeof(y));
    call(tokens, y, workspace, bytes);
    check(memcmp(y, whole, result) == 0, "bits differ from those among more tokens",
          tokens);
    check(is_filled_with(y + result, GUARD, 0x5a), "a write beyond y", tokens);
    check(is_filled_with(workspace + bytes, GUARD, 0xff),
          "a write beyond the workspace", tokens);
  }
  printf("%d tokens: %ld regions\n", tokens, regions);
  free(workspace);
}

int main(void) {
  fill(inputs.x, sizeof(inputs.x), 1);
  fill(inputs.router, sizeof(inputs.router), 2);
  fill(inputs.gate, sizeof(inputs.gate), 3);
  fill(inputs.up, sizeof(inputs.up), 4);
  fill(inputs.down, sizeof(inputs.down), 5);
  memcpy(&before, &inputs, sizeof(inputs));
  size_t bytes = layer_workspace(MOST);
  char *workspace = aligned_alloc(64, (bytes + 63) / 64 * 64);
  call(MOST, whole, workspace, bytes);
  free(workspace);
  check(!is_filled_with(whole, sizeof(whole), 0), "nothing was computed", MOST);
  const int counts[] = {0, 1, 2, 5, 13, 32, 33, 64, 150, 256, 257, MOST};
  for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); ++i)
    check_tokens(counts[i]);
  check(memcmp(&before, &inputs, sizeof(inputs)) == 0, "weights or x changed", MOST);
  printf("%d failures\n", failures);
  return failures != 0;
}
