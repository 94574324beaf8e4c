/*===- map_checkpoint.c - A layer on a mapped checkpoint ----------*- C -*-===*\
|*                                                                            *|
|* Part of the MoE compiler, under the Apache License v2.0 with LLVM          *|
|* Exceptions.                                                                *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/
/*
 * How a server starts: it maps the checkpoint and calls the layer on it. The
 * weights are neither read nor copied nor packed first; the first call that
 * needs an expert brings its pages in, and other processes share them.
 *
 *   map_checkpoint FILE
 *
 * prints the result, and then which pages of the weights were touched: before
 * the first call, and by it. A page is counted by its fault: the mapping is
 * closed, and opened page by page.
 */
#define _GNU_SOURCE
#include "routed.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TOKENS = 4, K = 2, H = 32 };

/*===-- The file ----------------------------------------------------------===*/

static char *mapping;
static size_t mapped_bytes;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void map_file(const char *path) {
  int file = open(path, O_RDONLY);
  struct stat info;
  if (file < 0 || fstat(file, &info))
    fail(path);
  mapped_bytes = (size_t)info.st_size;
  mapping = mmap(NULL, mapped_bytes, PROT_READ, MAP_SHARED, file, 0);
  if (mapping == MAP_FAILED)
    fail("mmap");
  close(file);
}

/* Tensor `name` of E×32×32: 8 bytes with the header's length, the header, data.
 * Enough for the headers that this test writes; use a JSON parser for others. */
static moe_tensor find_tensor(const char *name, int64_t shape[3]) {
  uint64_t header_bytes;
  memcpy(&header_bytes, mapping, 8);
  char *header = strndup(mapping + 8, header_bytes), key[64];
  snprintf(key, sizeof(key), "\"%s\":", name);
  char *entry = strstr(header, key);
  char *at_shape = entry ? strstr(entry, "\"shape\":[") : NULL;
  char *at_offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
  unsigned long long begin, end;
  long long experts;
  if (!at_shape || !at_offsets || sscanf(at_shape, "\"shape\":[%lld", &experts) != 1 ||
      sscanf(at_offsets, "\"data_offsets\":[%llu,%llu", &begin, &end) != 2 ||
      8 + header_bytes + end > mapped_bytes ||
      end - begin != (unsigned long long)experts * H * H * sizeof(float)) {
    fprintf(stderr, "%s is not in the file, or is no f32 tensor E×32×32\n", name);
    exit(1);
  }
  free(header);
  shape[0] = experts;
  shape[1] = shape[2] = H;
  moe_tensor tensor = {mapping + 8 + header_bytes + begin, shape, NULL, 3, MOE_F32};
  return tensor;
}

/*===-- Its pages ---------------------------------------------------------===*/

static size_t page, closed_from;
static int touched;

static void on_fault(int signal_number, siginfo_t *info, void *context) {
  (void)signal_number;
  (void)context;
  char *at = info->si_addr;
  if (at < mapping + closed_from || at >= mapping + mapped_bytes)
    abort();
  ++touched;
  mprotect(mapping + (size_t)(at - mapping) / page * page, page, PROT_READ);
}

/* Everything behind the header's pages. */
static void close_pages(void) {
  uint64_t header_bytes;
  memcpy(&header_bytes, mapping, 8);
  page = (size_t)sysconf(_SC_PAGESIZE);
  closed_from = (8 + header_bytes + page - 1) / page * page;
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  mprotect(mapping + closed_from, mapped_bytes - closed_from, PROT_NONE);
}

/*===-- The server --------------------------------------------------------===*/

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: map_checkpoint FILE\n");
    return 1;
  }
  map_file(argv[1]);
  close_pages();
  int64_t gate_shape[3], up_shape[3], down_shape[3];
  moe_tensor gate = find_tensor("gate", gate_shape);
  moe_tensor up = find_tensor("up", up_shape);
  moe_tensor down = find_tensor("down", down_shape);
  int touched_at_start = touched;

  float x[TOKENS * H], mixing[TOKENS * K], y[TOKENS * H];
  const int32_t ids[TOKENS * K] = {5, 17, 63, 0, 17, 62, -1, 17};
  for (int i = 0; i < TOKENS * H; ++i)
    x[i] = (float)(i * 29 % 71 - 35) / 32;
  for (int i = 0; i < TOKENS * K; ++i)
    mixing[i] = 0.25f + (float)i / 16;
  const int64_t x_shape[] = {TOKENS, H}, ids_shape[] = {TOKENS, K};
  const moe_tensor tx = {x, x_shape, NULL, 2, MOE_F32};
  const moe_tensor tids = {(void *)ids, ids_shape, NULL, 2, MOE_I32};
  const moe_tensor tmixing = {mixing, ids_shape, NULL, 2, MOE_F32};
  const moe_tensor ty = {y, x_shape, NULL, 2, MOE_F32};
  /* Memory for the call: more than a layer of these sizes needs. */
  static char workspace[1 << 20] __attribute__((aligned(64)));
  int32_t status = layer(&tx, &tids, &tmixing, &gate, &up, &down, &ty, workspace,
                         sizeof(workspace));
  if (status != MOE_OK) {
    fprintf(stderr, "status %d\n", (int)status);
    return 1;
  }
  for (int i = 0; i < TOKENS * H; ++i)
    printf("%a\n", (double)y[i]);
  fprintf(stderr, "%zu pages of weights: %d touched at start, %d by a call\n",
          (mapped_bytes - closed_from) / page, touched_at_start, touched - touched_at_start);
  return 0;
}
