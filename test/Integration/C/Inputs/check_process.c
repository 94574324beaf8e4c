/*
 * Two artifacts in one process whose functions have the same names, loaded so
 * that each could see the other's, called from four threads at once with inputs
 * of their own. Every result equals that of a serial call, bit for bit, and the
 * plain loops'. The second artifact runs with several numbers of experts, which
 * have to agree between its tensors.
 *
 *   check_process layer.so any_experts.so
 */
#include "layer.h"

#include "reference.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 200, MAX_TOKENS = 40, UP = 4 * INNER * HIDDEN };
typedef int32_t (*packed_fn)(const moe_tensor *const *, void *, size_t);
typedef size_t (*workspace_fn)(const moe_tensor *const *);

/* layer_packed and layer_workspace_packed of an artifact. */
typedef struct artifact {
  packed_fn packed;
  workspace_fn workspace;
} artifact;

static artifact fixed, any;
static float *weights[4];    /* router, gate, up, down */

/* What a thread works on. */
typedef struct work {
  int index, tokens, experts;
  float *x, *router, *w;
  float *fixed_y, *any_y; /* of the serial calls */
  int failures;
} work;

/* A call with a workspace of its own, which holds no numbers before. */
static int32_t call(artifact of, const moe_tensor *const *tensors) {
  size_t bytes = of.workspace(tensors);
  void *workspace = make_workspace(bytes);
  int32_t status = of.packed(tensors, workspace, bytes);
  free_workspace(workspace);
  return status;
}

static void call_fixed(const work *a, float *y) {
  const int64_t x_shape[] = {a->tokens, HIDDEN}, router_shape[] = {4, HIDDEN};
  const int64_t up_shape[] = {4, INNER, HIDDEN}, down_shape[] = {4, HIDDEN, INNER};
  const moe_tensor tensors[] = {{a->x, x_shape, NULL, 2, MOE_F32},
                                {weights[0], router_shape, NULL, 2, MOE_F32},
                                {weights[1], up_shape, NULL, 3, MOE_F32},
                                {weights[2], up_shape, NULL, 3, MOE_F32},
                                {weights[3], down_shape, NULL, 3, MOE_F32},
                                {y, x_shape, NULL, 2, MOE_F32}};
  const moe_tensor *pointers[6];
  for (int i = 0; i < 6; ++i)
    pointers[i] = &tensors[i];
  if (call(fixed, pointers) != MOE_OK)
    memset(y, 0xff, (size_t)a->tokens * HIDDEN * sizeof(float));
}

static int32_t call_any(const work *a, int more_experts, float *y) {
  const int64_t x_shape[] = {a->tokens, HIDDEN}, router_shape[] = {a->experts, HIDDEN};
  const int64_t w_shape[] = {a->experts + more_experts, HIDDEN, HIDDEN};
  const moe_tensor tensors[] = {{a->x, x_shape, NULL, 2, MOE_F32},
                                {a->router, router_shape, NULL, 2, MOE_F32},
                                {a->w, w_shape, NULL, 3, MOE_F32},
                                {y, x_shape, NULL, 2, MOE_F32}};
  const moe_tensor *pointers[] = {&tensors[0], &tensors[1], &tensors[2], &tensors[3]};
  return call(any, pointers);
}

static work make_work(int index) {
  work a;
  memset(&a, 0, sizeof(a));
  a.index = index;
  a.tokens = MAX_TOKENS - 7 * index;
  a.experts = 3 + index;
  size_t n = (size_t)a.tokens * HIDDEN;
  a.x = make(n, 10 + (uint32_t)index);
  a.router = make((size_t)a.experts * HIDDEN, 20 + (uint32_t)index);
  a.w = make((size_t)a.experts * HIDDEN * HIDDEN, 30 + (uint32_t)index);
  a.fixed_y = make(n, 0);
  a.any_y = make(n, 0);
  return a;
}

/* The serial calls against the plain loops. */
static void check_serial(work *a) {
  double expected[MAX_TOKENS * HIDDEN];
  call_fixed(a, a->fixed_y);
  reference_layer(a->tokens, a->x, weights[0], weights[1], weights[2],
                  weights[3], expected);
  double error = relative_error(a->tokens, a->fixed_y, expected);
  int32_t status = call_any(a, 0, a->any_y);
  reference_any_experts(a->tokens, a->experts, a->x, a->router, a->w, expected);
  double any_error = relative_error(a->tokens, a->any_y, expected);
  if (!(error <= 1e-5) || status != MOE_OK || !(any_error <= 1e-5)) {
    printf("input %d: errors %.3g and %.3g\n", a->index, error, any_error);
    ++a->failures;
  }
  /* One expert more, or fewer, in w (tensor 2) than in the router. */
  for (int more = -1; more <= 1; more += 2)
    if (call_any(a, more, a->any_y) != MOE_BAD_SHAPE + 256 * 3) {
      printf("%d experts and %d in w: not refused\n", a->experts,
             a->experts + more);
      ++a->failures;
    }
}

static void *run(void *argument) {
  work *a = argument;
  float y[MAX_TOKENS * HIDDEN];
  size_t bytes = (size_t)a->tokens * HIDDEN * sizeof(float);
  for (int i = 0; i < ROUNDS; ++i) {
    memset(y, 0, sizeof(y));
    call_fixed(a, y);
    a->failures += memcmp(y, a->fixed_y, bytes) != 0;
    memset(y, 0, sizeof(y));
    call_any(a, 0, y);
    a->failures += memcmp(y, a->any_y, bytes) != 0;
  }
  return NULL;
}

static artifact load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    printf("%s\n", dlerror());
    exit(2);
  }
  artifact loaded;
  *(void **)&loaded.packed = dlsym(library, "layer_packed");
  *(void **)&loaded.workspace = dlsym(library, "layer_workspace_packed");
  return loaded;
}

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  fixed = load(argv[1]);
  any = load(argv[2]);
  weights[0] = make(4 * HIDDEN, 2);
  for (int i = 1; i < 4; ++i)
    weights[i] = make(UP, 2 + (uint32_t)i);

  work works[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; ++i) {
    works[i] = make_work(i);
    check_serial(&works[i]);
  }
  for (int i = 0; i < THREADS; ++i)
    pthread_create(&threads[i], NULL, run, &works[i]);
  int failures = 0;
  for (int i = 0; i < THREADS; ++i) {
    pthread_join(threads[i], NULL);
    failures += works[i].failures;
    free(works[i].x);
    free(works[i].router);
    free(works[i].w);
    free(works[i].fixed_y);
    free(works[i].any_y);
  }
  for (int i = 0; i < 4; ++i)
    free(weights[i]);
  printf("%d failures in %d calls\n", failures, THREADS * ROUNDS * 2);
  return failures != 0;
}
