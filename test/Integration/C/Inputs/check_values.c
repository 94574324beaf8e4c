/*
 * Compares layer.so with plain loops for several numbers of tokens, and, given
 * the name of a file with what use_layer.c printed, that too.
 */
#include "layer.h"

#include "reference.h"
#include <stdio.h>

enum { UP = 4 * INNER * HIDDEN };

static float *router, *gate, *up, *down;

static double check(int tokens, uint32_t seed) {
  size_t n = (size_t)tokens * HIDDEN;
  float *x = make(n, seed), *y = make(n, 0);
  double *expected = malloc((n + 1) * sizeof(double));
  const int64_t x_shape[] = {tokens, HIDDEN}, router_shape[] = {4, HIDDEN};
  const int64_t up_shape[] = {4, INNER, HIDDEN}, down_shape[] = {4, HIDDEN, INNER};
  const moe_tensor tensors[] = {
      {x, x_shape, NULL, 2, MOE_F32},      {router, router_shape, NULL, 2, MOE_F32},
      {gate, up_shape, NULL, 3, MOE_F32},  {up, up_shape, NULL, 3, MOE_F32},
      {down, down_shape, NULL, 3, MOE_F32}, {y, x_shape, NULL, 2, MOE_F32}};
  size_t bytes = layer_workspace(tokens);
  void *workspace = make_workspace(bytes);
  int32_t status = layer(&tensors[0], &tensors[1], &tensors[2], &tensors[3],
                         &tensors[4], &tensors[5], workspace, bytes);
  /* Again in a workspace of zeros: the same bits. */
  float *again = make(n, 0);
  const moe_tensor second = {again, x_shape, NULL, 2, MOE_F32};
  memset(workspace, 0, bytes);
  status |= layer(&tensors[0], &tensors[1], &tensors[2], &tensors[3],
                  &tensors[4], &second, workspace, bytes);
  int same = memcmp(y, again, n * sizeof(float)) == 0;
  if (!same)
    printf("%d tokens: what was in the workspace matters\n", tokens);
  free(again);
  free_workspace(workspace);
  reference_layer(tokens, x, router, gate, up, down, expected);
  double error = status == MOE_OK && same ? relative_error(tokens, y, expected) : INFINITY;
  printf("%d tokens: error %.3g\n", tokens, error);
  free(x);
  free(y);
  free(expected);
  return error;
}

static double check_printed(const char *path) {
  enum { TOKENS = 5 };
  float *x = make(TOKENS * HIDDEN, 1), y[TOKENS * HIDDEN];
  double expected[TOKENS * HIDDEN];
  FILE *file = fopen(path, "r");
  int count = 0;
  while (file && count < TOKENS * HIDDEN && fscanf(file, "%f", &y[count]) == 1)
    ++count;
  if (file)
    fclose(file);
  reference_layer(TOKENS, x, router, gate, up, down, expected);
  free(x);
  double error = count == TOKENS * HIDDEN ? relative_error(TOKENS, y, expected)
                                          : INFINITY;
  printf("use_layer: error %.3g\n", error);
  return error;
}

int main(int argc, char **argv) {
  router = make(4 * HIDDEN, 2);
  gate = make(UP, 3);
  up = make(UP, 4);
  down = make(UP, 5);
  double worst = argc > 1 ? check_printed(argv[1]) : 0;
  const int tokens[] = {0, 1, 2, 7, 64, 1000};
  for (size_t i = 0; i < sizeof(tokens) / sizeof(*tokens); ++i)
    worst = fmax(worst, check(tokens[i], 100 + (uint32_t)i));
  printf("%s\n", worst <= 1e-5 ? "agrees" : "DIFFERS");
  free(router);
  free(gate);
  free(up);
  free(down);
  return !(worst <= 1e-5);
}
