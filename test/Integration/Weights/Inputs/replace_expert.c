/*
 * An expert of a running server gets other weights: its slabs are written in
 * place, and nothing else is done. There is no packed copy to be brought up to
 * date (docs/Rationale.md).
 */
#define _GNU_SOURCE
#include "routed.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 150, K = 2, H = 32, EXPERTS = 6, SLAB = H * H, REPLACED = 3, CALLS = 300 };

typedef struct server {
  float *gate, *up, *down;
} server;

static void fill(float *data, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    data[i] = (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
  }
}

static server start_server(void) {
  server s;
  float **matrices[] = {&s.gate, &s.up, &s.down};
  for (uint32_t i = 0; i < 3; ++i) {
    *matrices[i] = malloc(EXPERTS * SLAB * sizeof(float));
    fill(*matrices[i], EXPERTS * SLAB, 10 + i);
  }
  return s;
}

/* Whether the slabs of all experts but one are those of a server that starts. */
static int has_other_slabs(server s, int expert) {
  server fresh = start_server();
  const float *mine[] = {s.gate, s.up, s.down};
  float *theirs[] = {fresh.gate, fresh.up, fresh.down};
  int is_same = 1;
  for (int i = 0; i < 3; ++i) {
    for (int e = 0; e < EXPERTS; ++e)
      is_same &= e == expert || memcmp(mine[i] + e * SLAB, theirs[i] + e * SLAB,
                                       SLAB * sizeof(float)) == 0;
    free(theirs[i]);
  }
  return is_same;
}

static void stop_server(server s) {
  free(s.gate);
  free(s.up);
  free(s.down);
}

/* Writes the three matrices of one expert. */
static void replace_expert(server s, int expert, uint32_t seed) {
  fill(s.gate + expert * SLAB, SLAB, seed);
  fill(s.up + expert * SLAB, SLAB, seed + 1);
  fill(s.down + expert * SLAB, SLAB, seed + 2);
}

static float x[TOKENS * H], mixing[TOKENS * K];

/* Memory for a call, one a thread: as much as any layer of these sizes needs. */
typedef struct workspace {
  char bytes[1 << 22];
} __attribute__((aligned(64))) workspace;
static workspace ours, theirs;

static void serve(server s, const int32_t *ids, float *y, workspace *memory) {
  const int64_t x_shape[] = {TOKENS, H}, ids_shape[] = {TOKENS, K};
  const int64_t w_shape[] = {EXPERTS, H, H};
  const moe_tensor tx = {x, x_shape, NULL, 2, MOE_F32};
  const moe_tensor tids = {(void *)ids, ids_shape, NULL, 2, MOE_I32};
  const moe_tensor tmixing = {mixing, ids_shape, NULL, 2, MOE_F32};
  const moe_tensor tgate = {s.gate, w_shape, NULL, 3, MOE_F32};
  const moe_tensor tup = {s.up, w_shape, NULL, 3, MOE_F32};
  const moe_tensor tdown = {s.down, w_shape, NULL, 3, MOE_F32};
  const moe_tensor ty = {y, x_shape, NULL, 2, MOE_F32};
  int32_t status = layer(&tx, &tids, &tmixing, &tgate, &tup, &tdown, &ty, memory,
                         sizeof(*memory));
  if (status != MOE_OK) {
    printf("status %d\n", (int)status);
    exit(1);
  }
}

/* A client whose tokens do not go to the expert that is being replaced. */
typedef struct client {
  server at;
  int32_t ids[TOKENS * K];
  float expected[TOKENS * H];
  int wrong, is_ready;
} client;

static void *call_again_and_again(void *data) {
  client *c = data;
  static float y[TOKENS * H];
  for (int i = 0; i < CALLS; ++i) {
    serve(c->at, c->ids, y, &theirs);
    c->wrong += memcmp(y, c->expected, sizeof(y)) != 0;
    __atomic_store_n(&c->is_ready, 1, __ATOMIC_RELEASE);
  }
  return NULL;
}

static int failures;

static void check(int ok, const char *what) {
  failures += !ok;
  if (!ok)
    printf("FAILED: %s\n", what);
}

/* Before and after, token by token, against a server that started with the new
 * weights. */
static void check_replacement(void) {
  static int32_t ids[TOKENS * K];
  static float before[TOKENS * H], after[TOKENS * H], fresh[TOKENS * H];
  for (int i = 0; i < TOKENS * K; ++i)
    ids[i] = (i * 7 + i / 5) % (EXPERTS + 1); /* Some go nowhere. */
  server running = start_server(), restarted = start_server();
  serve(running, ids, before, &ours);
  replace_expert(running, REPLACED, 77);
  serve(running, ids, after, &ours);
  replace_expert(restarted, REPLACED, 77);
  serve(restarted, ids, fresh, &ours);
  int changed = 0, kept = 0;
  for (int t = 0; t < TOKENS; ++t) {
    size_t row = (size_t)t * H, bytes = H * sizeof(float);
    int is_there = ids[t * K] == REPLACED || ids[t * K + 1] == REPLACED;
    int is_same = memcmp(before + row, after + row, bytes) == 0;
    check(is_same == !is_there, is_there ? "a token of the expert is as before"
                                         : "a token of other experts changed");
    changed += is_there;
    kept += !is_there;
  }
  check(memcmp(after, fresh, sizeof(after)) == 0, "not what a new server gives");
  check(has_other_slabs(running, REPLACED), "bytes of other experts changed");
  printf("%d tokens changed, %d as before\n", changed, kept);
  stop_server(running);
  stop_server(restarted);
}

/* While others call. */
static void check_running(void) {
  static client c;
  c.at = start_server();
  for (int i = 0; i < TOKENS * K; ++i) {
    c.ids[i] = i % EXPERTS;
    if (c.ids[i] == REPLACED)
      c.ids[i] = 0;
  }
  serve(c.at, c.ids, c.expected, &ours);
  pthread_t thread;
  pthread_create(&thread, NULL, call_again_and_again, &c);
  while (!__atomic_load_n(&c.is_ready, __ATOMIC_ACQUIRE))
    ;
  for (uint32_t i = 0; i < 50; ++i)
    replace_expert(c.at, REPLACED, 100 + i);
  pthread_join(thread, NULL);
  check(c.wrong == 0, "a client of other experts noticed");
  check(has_other_slabs(c.at, REPLACED), "bytes of other experts changed");
  printf("%d calls meanwhile, %d wrong\n", CALLS, c.wrong);
  stop_server(c.at);
}

int main(void) {
  fill(x, TOKENS * H, 1);
  fill(mixing, TOKENS * K, 2);
  check_replacement();
  check_running();
  printf("%d failures\n", failures);
  return failures != 0;
}
