/* Calls an artifact of stats.mlir with and without statistics, and counts again. */
#include "stats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { kMaxTokens = 64, kTopK = 2, kExperts = 5, kWidth = 4, kCapacity = 3 };

static int num_failures = 0;

static void expect(int condition, const char *what) {
  if (condition)
    return;
  printf("FAILED: %s\n", what);
  ++num_failures;
}

static float x[kMaxTokens * kWidth], y[kMaxTokens * kWidth];
static float plain[kMaxTokens * kWidth], weights[kMaxTokens * kTopK];
static float scale[kExperts * kWidth];
static int32_t ids[kMaxTokens * kTopK];

/* Numbers from -1 to 1 that repeat late. */
static float next_value(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (float)(int32_t)state / 2147483648.0f;
}

static void fill(void) {
  int i;
  for (i = 0; i < kMaxTokens * kWidth; ++i)
    x[i] = next_value();
  for (i = 0; i < kMaxTokens * kTopK; ++i) {
    weights[i] = next_value();
    ids[i] = (int32_t)(next_value() * 3.9f + 2.5f); /* -1 to 6 */
  }
  for (i = 0; i < kExperts * kWidth; ++i)
    scale[i] = next_value();
}

static int32_t call(int64_t tokens, int64_t id_tokens, float *out,
                    moe_stats *stats, int packed) {
  int64_t x_shape[2], choices_shape[2], scale_shape[2] = {kExperts, kWidth};
  moe_tensor tensors[5];
  const moe_tensor *pointers[5];
  int i;
  x_shape[0] = tokens;
  x_shape[1] = kWidth;
  choices_shape[0] = id_tokens;
  choices_shape[1] = kTopK;
  for (i = 0; i < 5; ++i) {
    tensors[i].strides = NULL;
    tensors[i].rank = 2;
    tensors[i].type = i == 1 ? MOE_I32 : MOE_F32;
    pointers[i] = &tensors[i];
  }
  tensors[0].data = x;
  tensors[1].data = ids;
  tensors[2].data = weights;
  tensors[3].data = scale;
  tensors[4].data = out;
  tensors[0].shape = tensors[4].shape = x_shape;
  tensors[1].shape = tensors[2].shape = choices_shape;
  tensors[3].shape = scale_shape;
  /* More than a layer of these sizes needs. */
  static union {
    char bytes[1 << 20];
    long double aligned;
  } memory;
  char *workspace = memory.bytes + (64 - (uintptr_t)memory.bytes % 64) % 64;
  size_t bytes = sizeof(memory) - 64;
  if (packed)
    return layer_packed(pointers, stats, workspace, bytes);
  return layer(&tensors[0], &tensors[1], &tensors[2], &tensors[3], &tensors[4],
               stats, workspace, bytes);
}

static void recount(int64_t num_tokens, const moe_stats *stats) {
  int64_t tokens[kExperts] = {0}, choices[3] = {0};
  double squares[kExperts] = {0};
  int64_t i;
  int e, h;
  for (i = 0; i < num_tokens * kTopK; ++i) {
    e = ids[i];
    if (e < 0 || e >= kExperts) {
      ++choices[2];
    } else if (tokens[e] == kCapacity) {
      ++choices[1];
    } else {
      ++choices[0];
      ++tokens[e];
      for (h = 0; h < kWidth; ++h) {
        double row = (double)(x[i / kTopK * kWidth + h] * scale[e * kWidth + h]);
        squares[e] += pow((double)weights[i] * row, 2);
      }
    }
  }
  expect(memcmp(tokens, stats->tokens, sizeof tokens) == 0, "tokens");
  expect(memcmp(choices, stats->choices, sizeof choices) == 0, "choices");
  expect(memcmp(ids, stats->ids, (size_t)num_tokens * kTopK * sizeof *ids) == 0,
         "ids");
  for (e = 0; e < kExperts; ++e)
    expect(fabs(stats->contribution[e] - sqrt(squares[e])) <=
               1e-6 * sqrt(squares[e]),
           "contribution");
  printf("%d tokens: %d routed, %d dropped, %d nowhere\n", (int)num_tokens,
         (int)choices[0], (int)choices[1], (int)choices[2]);
}

static void check(int64_t num_tokens, int packed) {
  /* One element more than is written. */
  int64_t tokens[kExperts + 1], choices[4];
  int32_t trace[kMaxTokens * kTopK + 1];
  double contribution[kExperts + 1];
  moe_stats stats, some;
  size_t bytes = (size_t)num_tokens * kWidth * sizeof(float);
  tokens[kExperts] = choices[3] = trace[num_tokens * kTopK] = -7;
  contribution[kExperts] = -7;
  stats.tokens = tokens;
  stats.choices = choices;
  stats.contribution = contribution;
  stats.ids = trace;
  expect(call(num_tokens, num_tokens, plain, NULL, packed) == MOE_OK, "NULL");
  memset(y, 0xff, sizeof y);
  expect(call(num_tokens, num_tokens, y, &stats, packed) == MOE_OK, "all");
  expect(memcmp(y, plain, bytes) == 0, "other bits with statistics");
  recount(num_tokens, &stats);

  memset(&some, 0, sizeof some);
  memset(tokens, 0xff, kExperts * sizeof *tokens);
  some.tokens = tokens;
  memset(y, 0xff, sizeof y);
  expect(call(num_tokens, num_tokens, y, &some, packed) == MOE_OK, "some");
  expect(memcmp(y, plain, bytes) == 0, "other bits with some statistics");
  expect(!some.choices && !some.contribution && !some.ids, "members changed");
  recount(num_tokens, &stats); /* `tokens` anew, the others as they were. */
  expect(tokens[kExperts] == -7 && choices[3] == -7 &&
             contribution[kExperts] == -7 && trace[num_tokens * kTopK] == -7,
         "written beyond the end");
}

int main(void) {
  int64_t tokens[kExperts];
  moe_stats stats = {0};
  fill();
  check(19, 0);
  check(kMaxTokens, 1);
  check(1, 0);
  check(0, 1);
  /* What is refused is refused alike, and nothing is written. */
  stats.tokens = tokens;
  tokens[0] = -7;
  expect(call(8, 9, y, &stats, 0) == call(8, 9, y, NULL, 0), "status");
  expect(MOE_STATUS_CODE(call(8, 9, y, &stats, 0)) == MOE_BAD_SHAPE, "shape");
  expect(call(8, 8, NULL, &stats, 0) == MOE_NULL_POINTER + 256 * 5, "no result");
  expect(tokens[0] == -7, "statistics of a call that was refused");
  printf("%d failures\n", num_failures);
  return num_failures != 0;
}
