/*===- pack_weights.c - A layer on packed weights -----------------*- C -*-===*\
|*                                                                            *|
|* Part of the MoE compiler, under the Apache License v2.0 with LLVM          *|
|* Exceptions.                                                                *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/
/*
 * How a server packs weights when it starts, replaces an expert while it runs,
 * and maps a file with packed weights the next time:
 *
 *   moe-compile layer.mlir --pack-weights -o packed.so
 *   pack_weights CHECKPOINT PACKED RESULT
 *
 * CHECKPOINT has the weights and a call's other arguments, PACKED and RESULT
 * what `moe-run --pack-weights --save-packed` made of them: all is compared, bit
 * for bit. Compile it with -DELEMENT=uint16_t -DTYPE=MOE_BF16 for bf16.
 */
#include "packed.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef ELEMENT
#define ELEMENT float
#define TYPE MOE_F32
#endif

enum { EXPERTS = 7, TOKENS = 9, K = 2, H = 40, I = 35 };
enum { PANEL = 32, PAIR = TYPE == MOE_BF16 ? 2 : 1 };
enum { RANK = TYPE == MOE_BF16 ? 5 : 4 };
enum { REPLACED = 3, CALLS = 200 }; /* of tokens 0 and 4 */

static int num_failures;

static void expect(int is_so, const char *what) {
  if (is_so)
    return;
  printf("failed: %s\n", what);
  ++num_failures;
}

/*===-- Files -------------------------------------------------------------===*/

static char *map_file(const char *path) {
  int file = open(path, O_RDONLY);
  struct stat info;
  if (file < 0 || fstat(file, &info)) {
    perror(path);
    exit(1);
  }
  char *mapping = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  return mapping == MAP_FAILED ? NULL : mapping;
}

/* The data of tensor `name`, which must have `bytes`. The header is searched for
 * what the test needs; use a JSON parser for other files. */
static void *find_data(char *mapping, const char *name, size_t bytes) {
  uint64_t header_bytes;
  memcpy(&header_bytes, mapping, 8);
  char *header = strndup(mapping + 8, header_bytes), key[64];
  snprintf(key, sizeof(key), "\"%s\":{", name);
  char *entry = strstr(header, key);
  char *offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
  unsigned long long begin = 0, end = 0;
  if (!offsets || sscanf(offsets, "\"data_offsets\":[%llu,%llu", &begin, &end) != 2 ||
      end - begin != bytes) {
    printf("no %s of %zu bytes in the file\n", name, bytes);
    exit(1);
  }
  free(header);
  return mapping + 8 + header_bytes + begin;
}

/*===-- Weights -----------------------------------------------------------===*/

/* A weight: `columns` of a product with sums of `length`. */
typedef struct weight {
  const char *name;
  int64_t columns, length;
  int64_t shape[3], packed_shape[5];
  size_t slab, packed_slab; /* elements of an expert */
  moe_tensor source, packed;
} weight;

static weight make_weight(const char *name, int64_t columns, int64_t length, char *checkpoint) {
  weight w;
  int64_t panels = (columns + PANEL - 1) / PANEL, runs = (length + PAIR - 1) / PAIR;
  const int64_t shape[] = {EXPERTS, columns, length};
  const int64_t packed_shape[] = {EXPERTS, panels, runs, PANEL, PAIR};
  w.name = name;
  w.columns = columns;
  w.length = length;
  w.slab = (size_t)(columns * length);
  w.packed_slab = (size_t)(panels * runs * PANEL * PAIR);
  memcpy(w.shape, shape, sizeof(shape));
  memcpy(w.packed_shape, packed_shape, sizeof(packed_shape));
  w.source.data = find_data(checkpoint, name, EXPERTS * w.slab * sizeof(ELEMENT));
  w.packed.data = calloc(EXPERTS * w.packed_slab, sizeof(ELEMENT));
  w.source.strides = w.packed.strides = NULL;
  w.source.rank = 3;
  w.packed.rank = RANK;
  w.source.type = w.packed.type = TYPE;
  return w;
}

/* Once the weight has its place. */
static void set_shapes(weight *w) {
  w->source.shape = w->shape;
  w->packed.shape = w->packed_shape;
}

/* Whether expert `expert` of `packed` is `source`, one expert's, as the header
 * says that it lies. */
static int is_packed(const weight *w, const ELEMENT *source, const ELEMENT *packed, int expert) {
  ELEMENT *expected = calloc(w->packed_slab, sizeof(ELEMENT));
  int64_t runs = w->packed_shape[2];
  for (int64_t n = 0; n < w->columns; ++n)
    for (int64_t k = 0; k < w->length; ++k)
      expected[(((n / PANEL) * runs + k / PAIR) * PANEL + n % PANEL) * PAIR + k % PAIR] =
          source[n * w->length + k];
  int is_same = memcmp(packed + (size_t)expert * w->packed_slab, expected,
                       w->packed_slab * sizeof(ELEMENT)) == 0;
  free(expected);
  return is_same;
}

/*===-- Calls -------------------------------------------------------------===*/

static moe_tensor x, ids, mixing;
static weight gate, up, down;

/* Calls the layer on the tokens from `first` on. */
static int32_t run(ELEMENT *y, int64_t first, const moe_tensor *weights[3]) {
  _Alignas(64) static _Thread_local char workspace[1 << 18];
  int64_t numbers[2][2] = {{TOKENS - first, H}, {TOKENS - first, K}};
  const moe_tensor tx = {(ELEMENT *)x.data + first * H, numbers[0], NULL, 2, TYPE};
  const moe_tensor tids = {(int32_t *)ids.data + first * K, numbers[1], NULL, 2, MOE_I32};
  const moe_tensor tmixing = {(float *)mixing.data + first * K, numbers[1], NULL, 2, MOE_F32};
  const moe_tensor ty = {y, numbers[0], NULL, 2, TYPE};
  return layer(&tx, &tids, &tmixing, weights[0], weights[1], weights[2], &ty, workspace,
               sizeof(workspace));
}

static const moe_tensor *packed_weights[3];

static int32_t pack_expert(int64_t expert, const moe_tensor *g, const moe_tensor *u,
                           const moe_tensor *d) {
  return layer_pack_expert(expert, g, u, d, &gate.packed, &up.packed, &down.packed, NULL, 0);
}

/* Calls on tokens 5 to 8, which do not use the expert, while it is replaced. */
static ELEMENT expected_late[(TOKENS - 5) * H];

static void *keep_calling(void *wrong) {
  for (int i = 0; i < CALLS; ++i) {
    ELEMENT y[(TOKENS - 5) * H];
    *(int *)wrong += run(y, 5, packed_weights) != MOE_OK || memcmp(y, expected_late, sizeof(y));
  }
  return NULL;
}

/*===-- The test ----------------------------------------------------------===*/

/* Every expert gets another's weights: those of `from`, in `w`. */
static moe_tensor get_expert(const weight *w, int from, int64_t shape[3]) {
  memcpy(shape, w->shape, sizeof(w->shape));
  shape[0] = 1;
  moe_tensor tensor = w->source;
  tensor.data = (ELEMENT *)w->source.data + (size_t)from * w->slab;
  tensor.shape = shape;
  return tensor;
}

static void replace(const ELEMENT *before) {
  enum { FROM = 5 };
  int64_t shapes[3][3];
  moe_tensor g = get_expert(&gate, FROM, shapes[0]), u = get_expert(&up, FROM, shapes[1]);
  moe_tensor d = get_expert(&down, FROM, shapes[2]);
  expect(run(expected_late, 5, packed_weights) == MOE_OK, "a call on few tokens");
  int wrong = 0;
  pthread_t caller;
  pthread_create(&caller, NULL, keep_calling, &wrong);
  for (int i = 0; i < CALLS; ++i)
    expect(pack_expert(REPLACED, &g, &u, &d) == MOE_OK, "an expert is replaced");
  pthread_join(caller, NULL);
  printf("%d calls meanwhile, %d wrong\n", CALLS, wrong);

  const weight *all[] = {&gate, &up, &down};
  for (int i = 0; i < 3; ++i)
    for (int e = 0; e < EXPERTS; ++e)
      expect(is_packed(all[i],
                       (ELEMENT *)all[i]->source.data +
                           (size_t)(e == REPLACED ? FROM : e) * all[i]->slab,
                       all[i]->packed.data, e),
             "slabs after an expert was replaced");
  ELEMENT y[TOKENS * H];
  expect(run(y, 0, packed_weights) == MOE_OK, "a call after an expert was replaced");
  int changed = 0;
  for (int t = 0; t < TOKENS; ++t) {
    const int32_t *chosen = (int32_t *)ids.data + t * K;
    int uses = chosen[0] == REPLACED || chosen[1] == REPLACED;
    int differs = memcmp(y + t * H, before + t * H, H * sizeof(ELEMENT)) != 0;
    expect(uses == differs, "the result of a token changes if it uses the expert");
    changed += differs;
  }
  printf("%d tokens changed, %d as before\n", changed, TOKENS - changed);
}

static void refuse(void) {
  int64_t shapes[3][3], small[5], all_shape[3];
  moe_tensor g = get_expert(&gate, 0, shapes[0]), u = get_expert(&up, 0, shapes[1]);
  moe_tensor d = get_expert(&down, 0, shapes[2]);
  size_t bytes = EXPERTS * gate.packed_slab * sizeof(ELEMENT);
  void *kept = malloc(bytes);
  memcpy(kept, gate.packed.data, bytes);
  enum { GATE = 256, GATE_PACKED = 256 * 4, UP_PACKED = 256 * 5 };
  expect(pack_expert(-1, &g, &u, &d) == MOE_BAD_EXPERT + GATE_PACKED, "expert -1");
  expect(pack_expert(EXPERTS, &g, &u, &d) == MOE_BAD_EXPERT + GATE_PACKED, "expert 7 of 7");
  expect(pack_expert(0, NULL, &u, &d) == MOE_NULL_POINTER + GATE, "no gate");
  expect(layer_pack_expert_packed(0, NULL, NULL, 0) == MOE_NULL_POINTER, "no tensors");
  memcpy(all_shape, gate.shape, sizeof(all_shape));
  g.shape = all_shape;
  expect(pack_expert(0, &g, &u, &d) == MOE_BAD_SHAPE + GATE, "all experts for one");
  g.shape = shapes[0];
  g.type = MOE_F64;
  expect(pack_expert(0, &g, &u, &d) == MOE_BAD_TYPE + GATE, "an expert in f64");
  g.type = TYPE;
  memcpy(small, up.packed_shape, sizeof(small));
  small[1] = 1;
  moe_tensor other = up.packed;
  other.shape = small;
  expect(layer_pack_expert(0, &g, &u, &d, &gate.packed, &other, &down.packed, NULL, 0) ==
             MOE_BAD_SHAPE + UP_PACKED,
         "packed weights of another layer");
  const moe_tensor *weights[] = {&gate.packed, &other, &down.packed};
  ELEMENT y[TOKENS * H];
  expect(run(y, 0, weights) == MOE_BAD_SHAPE + 256 * 5, "a call on weights of another layer");
  weights[1] = &up.source;
  expect(run(y, 0, weights) == MOE_BAD_RANK + 256 * 5, "a call on weights that are not packed");
  expect(memcmp(kept, gate.packed.data, bytes) == 0, "nothing is written after an error");
  free(kept);
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: pack_weights CHECKPOINT PACKED RESULT\n");
    return 1;
  }
  char *checkpoint = map_file(argv[1]), *file = map_file(argv[2]), *result = map_file(argv[3]);
  gate = make_weight("gate", I, H, checkpoint);
  up = make_weight("up", I, H, checkpoint);
  down = make_weight("down", H, I, checkpoint);
  weight *all[] = {&gate, &up, &down};
  for (int i = 0; i < 3; ++i) {
    set_shapes(all[i]);
    packed_weights[i] = &all[i]->packed;
  }
  x.data = find_data(checkpoint, "x", TOKENS * H * sizeof(ELEMENT));
  ids.data = find_data(checkpoint, "ids", TOKENS * K * sizeof(int32_t));
  mixing.data = find_data(checkpoint, "weights", TOKENS * K * sizeof(float));

  /* A first start packs; no memory is needed for it (packed.h says so). */
  expect(layer_pack(&gate.source, &up.source, &down.source, &gate.packed, &up.packed,
                    &down.packed, NULL, 0) == MOE_OK,
         "weights are packed");
  for (int i = 0; i < 3; ++i)
    for (int e = 0; e < EXPERTS; ++e)
      expect(is_packed(all[i], (ELEMENT *)all[i]->source.data + (size_t)e * all[i]->slab,
                       all[i]->packed.data, e),
             "slabs");
  ELEMENT y[TOKENS * H];
  expect(run(y, 0, packed_weights) == MOE_OK, "a call");
  expect(memcmp(y, find_data(result, "y", sizeof(y)), sizeof(y)) == 0, "the bits of moe-run");

  /* A second one maps the file. */
  moe_tensor mapped[3];
  const moe_tensor *mapped_weights[3];
  for (int i = 0; i < 3; ++i) {
    char name[16];
    snprintf(name, sizeof(name), "%s.packed", all[i]->name);
    size_t bytes = EXPERTS * all[i]->packed_slab * sizeof(ELEMENT);
    mapped[i] = all[i]->packed;
    mapped[i].data = find_data(file, name, bytes);
    mapped_weights[i] = &mapped[i];
    expect(memcmp(mapped[i].data, all[i]->packed.data, bytes) == 0, "the bytes of moe-run");
  }
  ELEMENT again[TOKENS * H];
  expect(run(again, 0, mapped_weights) == MOE_OK, "a call on a mapped file");
  expect(memcmp(y, again, sizeof(y)) == 0, "the bits of a call on a mapped file");

  refuse();
  replace(y);
  printf("%d failures\n", num_failures);
  return num_failures != 0;
}
