/*
 * Provokes every status that a layer returns, in each of its tensors where that
 * makes sense, and checks that nothing is written then.
 */
#include "layer.h"

#include "reference.h"
#include <stdio.h>

enum { TENSORS = 6, ARGUMENTS = 5, Y = 5, TOKENS = 3 };

static int failures = 0;
static const int64_t shapes[TENSORS][3] = {{TOKENS, 8}, {4, 8},    {4, 6, 8},
                                           {4, 6, 8},   {4, 8, 6}, {TOKENS, 8}};
static const int32_t ranks[TENSORS] = {2, 2, 3, 3, 3, 2};
static const char *const names[TENSORS] = {"x",    "router", "w_gate",
                                           "w_up", "w_down", "y"};
static float *memory[TENSORS];
static void *workspace;
static size_t workspace_bytes;

/* A call; the tensors are as they should be until a test spoils one. */
typedef struct call {
  moe_tensor tensors[TENSORS];
  const moe_tensor *pointers[TENSORS];
  int64_t shapes[TENSORS][3], strides[TENSORS][3];
} call;

static size_t count(int i) {
  size_t n = 1;
  for (int32_t d = 0; d < ranks[i]; ++d)
    n *= (size_t)shapes[i][d];
  return n;
}

static call make_call(void) {
  call c;
  for (int i = 0; i < TENSORS; ++i) {
    int64_t stride = 1;
    for (int32_t d = ranks[i] - 1; d >= 0; --d) {
      c.shapes[i][d] = shapes[i][d];
      c.strides[i][d] = stride;
      stride *= shapes[i][d];
    }
    c.tensors[i].data = memory[i];
    c.tensors[i].rank = ranks[i];
    c.tensors[i].type = MOE_F32;
  }
  return c;
}

/* Members that point into the call itself are set here, after it was moved;
 * `without` is a tensor to leave without shape (1), itself (2), strides (3). */
static void expect(const char *what, call *c, int tensor, int without,
                   int32_t code, int blamed) {
  for (int i = 0; i < TENSORS; ++i) {
    c->tensors[i].shape = c->shapes[i];
    c->tensors[i].strides = c->strides[i];
    c->pointers[i] = &c->tensors[i];
  }
  if (without == 1)
    c->tensors[tensor].shape = NULL;
  if (without == 2)
    c->pointers[tensor] = NULL;
  if (without == 3)
    c->tensors[tensor].strides = NULL;
  for (size_t i = 0; i < count(Y); ++i)
    memory[Y][i] = 12345.0f;

  int32_t expected = code == MOE_OK ? MOE_OK : code + 256 * (1 + blamed);
  const moe_tensor *const *p = c->pointers;
  int32_t status =
      layer(p[0], p[1], p[2], p[3], p[4], p[5], workspace, workspace_bytes);
  int32_t packed = layer_packed(c->pointers, workspace, workspace_bytes);
  if (status != expected || packed != expected) {
    printf("%s of %s: %d and %d, expected %d\n", what, names[tensor],
           (int)status, (int)packed, (int)expected);
    ++failures;
  }
  if (code != MOE_OK && (MOE_STATUS_CODE(status) != code ||
                         MOE_STATUS_TENSOR(status) != blamed))
    ++failures;
  int written = 0;
  for (size_t i = 0; i < count(Y); ++i)
    written |= memory[Y][i] != 12345.0f;
  if (written != (code == MOE_OK && c->tensors[0].shape[0] != 0)) {
    printf("%s of %s: the result is %swritten\n", what, names[tensor],
           written ? "" : "not ");
    ++failures;
  }
}

/* What can be wrong with each tensor. */
static void check_tensor(int i) {
  call c = make_call();
  expect("no tensor", &c, i, 2, MOE_NULL_POINTER, i);
  c = make_call();
  expect("no shape", &c, i, 1, MOE_NULL_POINTER, i);
  c = make_call();
  c.tensors[i].data = NULL;
  expect("no data", &c, i, 0, MOE_NULL_POINTER, i);
  c = make_call();
  c.tensors[i].rank = ranks[i] + 1;
  expect("rank", &c, i, 0, MOE_BAD_RANK, i);
  c = make_call();
  c.tensors[i].rank = -1;
  expect("negative rank", &c, i, 0, MOE_BAD_RANK, i);
  c = make_call();
  c.tensors[i].type = MOE_BF16;
  expect("type", &c, i, 0, MOE_BAD_TYPE, i);
  c = make_call();
  c.shapes[i][1] += 1;
  expect("shape", &c, i, 0, MOE_BAD_SHAPE, i);
  c = make_call();
  c.shapes[i][0] = -1;
  expect("negative size", &c, i, 0, MOE_BAD_SHAPE, i);
  c = make_call();
  c.strides[i][ranks[i] - 1] = 2;
  expect("inner stride", &c, i, 0, MOE_BAD_STRIDES, i);
  c = make_call();
  c.strides[i][0] += 8;
  expect("outer stride", &c, i, 0, MOE_BAD_STRIDES, i);
  c = make_call();
  expect("no strides", &c, i, 3, MOE_OK, 0);
}

/* What is wrong between tensors. */
static void check_sizes(void) {
  call c = make_call();
  c.shapes[Y][0] = TOKENS + 1;
  expect("more tokens", &c, Y, 0, MOE_BAD_SHAPE, Y);

  /* 2^30 tokens with two experts each: refused before anything is read. */
  c = make_call();
  c.shapes[0][0] = c.shapes[Y][0] = INT64_C(1) << 30;
  expect("2^31 choices", &c, 0, 0, MOE_TOO_MANY_CHOICES, 0);
  c = make_call();
  c.shapes[0][0] = c.shapes[Y][0] = INT64_C(1) << 62;
  c.strides[0][0] = c.strides[Y][0] = 8;
  expect("2^63 choices", &c, 0, 0, MOE_TOO_MANY_CHOICES, 0);
}

/* What is right though it looks odd. */
static void check_edges(void) {
  call c = make_call();
  c.shapes[0][0] = c.shapes[Y][0] = 0;
  c.tensors[0].data = c.tensors[Y].data = NULL;
  c.strides[0][0] = c.strides[Y][1] = -7;
  expect("no tokens", &c, 0, 0, MOE_OK, 0);
  c = make_call();
  c.shapes[0][0] = c.shapes[Y][0] = 1;
  c.strides[0][0] = 99;
  expect("stride of one token", &c, 0, 0, MOE_OK, 0);
}

/* The workspace: what the header says is enough, a byte less is not. */
static void check_workspace(void) {
  size_t bytes = layer_workspace(TOKENS);
  char *whole = workspace;
  call c = make_call();
  expect("exactly the workspace", &c, 0, 0, MOE_OK, 0);
  if (layer_workspace_packed(c.pointers) != bytes || bytes == 0 ||
      bytes % 64 != 0) {
    printf("%zu bytes of workspace, and %zu from the tensors\n", bytes,
           layer_workspace_packed(c.pointers));
    ++failures;
  }
  workspace_bytes = bytes - 1;
  expect("a byte less", &c, 0, 0, MOE_WORKSPACE_TOO_SMALL, -1);
  workspace_bytes = 0;
  expect("no bytes", &c, 0, 0, MOE_WORKSPACE_TOO_SMALL, -1);
  workspace_bytes = bytes;
  workspace = NULL;
  expect("no workspace", &c, 0, 0, MOE_WORKSPACE_TOO_SMALL, -1);
  workspace = whole + 32;
  expect("workspace at 32", &c, 0, 0, MOE_WORKSPACE_TOO_SMALL, -1);
  workspace = whole;
  c.tensors[0].type = MOE_BF16;
  workspace_bytes = 0;
  expect("type before workspace", &c, 0, 0, MOE_BAD_TYPE, 0);
  workspace_bytes = bytes;
  if (layer_workspace_packed(c.pointers) != 0) {
    printf("workspace for a call that is refused\n");
    ++failures;
  }
}

int main(void) {
  workspace_bytes = layer_workspace(TOKENS);
  workspace = make_workspace(workspace_bytes);
  for (int i = 0; i < TENSORS; ++i)
    memory[i] = make(count(i), (uint32_t)i);
  for (int i = 0; i < TENSORS; ++i)
    check_tensor(i);
  check_sizes();
  check_edges();
  check_workspace();
  if (layer_packed(NULL, NULL, 0) != MOE_NULL_POINTER) {
    printf("no array of tensors: not MOE_NULL_POINTER\n");
    ++failures;
  }
  call good = make_call();
  expect("nothing wrong", &good, 0, 0, MOE_OK, 0);
  for (int i = 0; i < TENSORS; ++i)
    free(memory[i]);
  free_workspace(workspace);
  printf("%d failures\n", failures);
  return failures != 0;
}
