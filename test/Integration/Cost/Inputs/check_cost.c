/*
 * What a call costs, counted and not timed: the pages of the weights that it
 * touches and the memory that it asks for. Linked with --wrap=malloc,
 * --wrap=free.
 *
 * Every page of the weights is closed before a call; a touch is a fault, which
 * opens the page for reading and is counted. A write ends the program.
 */
#define _GNU_SOURCE
#include "routed.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TOKENS = 4, K = 2, H = 32, MATRICES = 3, EXPERT_BYTES = H * H * 4 };

/*===-- Allocations of the layer ------------------------------------------===*/

typedef struct allocations {
  size_t count, bytes, freed;
} allocations;
static allocations counted;

void *__real_malloc(size_t bytes);
void __real_free(void *data);

void *__wrap_malloc(size_t bytes) {
  ++counted.count;
  counted.bytes += bytes;
  return __real_malloc(bytes);
}

void __wrap_free(void *data) {
  counted.freed += data != NULL;
  __real_free(data);
}

/*===-- Weights, and who touches them -------------------------------------===*/

static size_t page;

/* The gate, up or down matrices of all experts. */
typedef struct matrices {
  char *data;
  size_t bytes;
  char *is_touched; /* of each page */
} matrices;
static matrices weights[MATRICES];

static void on_fault(int signal_number, siginfo_t *info, void *context) {
  (void)signal_number;
  (void)context;
  char *at = info->si_addr;
  for (int i = 0; i < MATRICES; ++i) {
    matrices *w = &weights[i];
    if (at < w->data || at >= w->data + w->bytes)
      continue;
    size_t index = (size_t)(at - w->data) / page;
    if (w->is_touched[index])
      abort(); /* Open for reading already: this is a write. */
    w->is_touched[index] = 1;
    mprotect(w->data + index * page, page, PROT_READ);
    return;
  }
  abort();
}

/* Numbers that depend on matrix, expert and place, so that the same expert has
 * the same weights however many others there are. Only `used` experts get any:
 * the rest of the mapping has no memory behind it. */
static void make_weights(int matrix, int64_t experts, int used) {
  matrices *w = &weights[matrix];
  w->bytes = (size_t)experts * EXPERT_BYTES;
  w->data = mmap(NULL, w->bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (w->data == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  for (int i = 0; i < used * H * H; ++i)
    ((float *)w->data)[i] = (float)((i * 37 + matrix * 11) % 101 - 50) / 64;
  w->is_touched = calloc(w->bytes / page + 1, 1);
}

static void free_weights(void) {
  for (int i = 0; i < MATRICES; ++i) {
    munmap(weights[i].data, weights[i].bytes);
    free(weights[i].is_touched);
  }
}

/*===-- Calls -------------------------------------------------------------===*/

typedef struct cost {
  allocations memory;
  size_t workspace;
  int pages_touched, pages_expected, pages_in_common;
} cost;

/* Pages that hold a byte of an expert with rows, in one of the matrices. */
static int expects(const int32_t *ids, int64_t experts, size_t index) {
  for (int i = 0; i < TOKENS * K; ++i) {
    if (ids[i] < 0 || ids[i] >= experts)
      continue;
    size_t begin = (size_t)ids[i] * EXPERT_BYTES;
    if (begin / page <= index && index <= (begin + EXPERT_BYTES - 1) / page)
      return 1;
  }
  return 0;
}

static cost run(int64_t experts, const int32_t *ids, float *y) {
  float x[TOKENS * H], mixing[TOKENS * K];
  for (int i = 0; i < TOKENS * H; ++i)
    x[i] = (float)(i * 29 % 71 - 35) / 32;
  for (int i = 0; i < TOKENS * K; ++i)
    mixing[i] = 0.25f + (float)i / 16;
  for (int i = 0; i < MATRICES; ++i) {
    make_weights(i, experts, 64);
    mprotect(weights[i].data, weights[i].bytes, PROT_NONE);
  }
  const int64_t x_shape[] = {TOKENS, H}, ids_shape[] = {TOKENS, K};
  const int64_t w_shape[] = {experts, H, H};
  moe_tensor tensors[] = {{x, x_shape, NULL, 2, MOE_F32},
                          {(void *)ids, ids_shape, NULL, 2, MOE_I32},
                          {mixing, ids_shape, NULL, 2, MOE_F32},
                          {weights[0].data, w_shape, NULL, 3, MOE_F32},
                          {weights[1].data, w_shape, NULL, 3, MOE_F32},
                          {weights[2].data, w_shape, NULL, 3, MOE_F32},
                          {y, x_shape, NULL, 2, MOE_F32}};
  const moe_tensor *pointers[7];
  for (int i = 0; i < 7; ++i)
    pointers[i] = &tensors[i];

  size_t bytes = layer_workspace_packed(pointers);
  void *workspace = NULL;
  if (posix_memalign(&workspace, 64, bytes)) {
    printf("no workspace\n");
    exit(1);
  }
  memset(&counted, 0, sizeof(counted));
  int32_t status = layer_packed(pointers, workspace, bytes);
  cost result = {counted, bytes, 0, 0, 0};
  __real_free(workspace);
  if (status != MOE_OK) {
    printf("status %d\n", (int)status);
    exit(1);
  }
  for (int i = 0; i < MATRICES; ++i)
    for (size_t p = 0; p < (weights[i].bytes + page - 1) / page; ++p) {
      int touched = weights[i].is_touched[p];
      int expected = expects(ids, experts, p);
      result.pages_touched += touched;
      result.pages_expected += expected;
      result.pages_in_common += touched && expected;
    }
  free_weights();
  return result;
}

static int failures;

static void check(int ok, const char *what) {
  failures += !ok;
  if (!ok)
    printf("FAILED: %s\n", what);
}

/* Touched are the pages of the experts with rows and no others. */
static cost run_and_check(const char *name, int64_t experts,
                          const int32_t *ids, float *y) {
  cost c = run(experts, ids, y);
  printf("%s: %d experts, %d pages touched, %zu bytes of workspace, %zu "
         "allocations\n",
         name, (int)experts, c.pages_touched, c.workspace, c.memory.count);
  check(c.pages_touched == c.pages_expected, "another number of pages");
  check(c.pages_in_common == c.pages_expected, "other pages");
  check(c.memory.count == c.memory.freed, "memory is lost");
  return c;
}

int main(void) {
  page = (size_t)sysconf(_SC_PAGESIZE);
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);

  enum { Y_BYTES = TOKENS * H * sizeof(float) };
  float y[TOKENS * H], other[TOKENS * H];
  /* Five experts, one of them for three choices; one choice goes nowhere. */
  const int32_t ids[TOKENS * K] = {5, 17, 63, 0, 17, 62, -1, 17};

  /* The same routing costs the same among 64 experts and among 4096: but for
   * the i32 of each expert that counts its rows, or says where they start. */
  cost few = run_and_check("few", 64, ids, y);
  cost many = run_and_check("many", 4096, ids, other);
  check(memcmp(y, other, Y_BYTES) == 0, "4096 experts give another result");
  check(few.pages_touched > 0 && few.pages_touched == many.pages_touched,
        "more experts, more pages");
  check(few.memory.count == many.memory.count, "more experts, more allocations");
  check(many.memory.bytes == few.memory.bytes, "more experts, more memory");
  check(many.workspace - few.workspace <= 16 * (4096 - 64),
        "more than 16 bytes an expert without rows");

  /* Without a row there is nothing to read. */
  const int32_t nowhere[TOKENS * K] = {-1, 4096, 5000, -7, -1, -1, 1 << 30, -1};
  cost none = run_and_check("none", 4096, nowhere, other);
  check(none.pages_touched == 0, "no rows, and still pages");
  for (int i = 0; i < TOKENS * H; ++i)
    check(other[i] == 0, "no rows, and still a result");

  /* One artifact serves E and E + 1 experts: tokens that do not choose the
   * additional one do not notice it. */
  run_and_check("E + 1", 65, ids, other);
  check(memcmp(y, other, Y_BYTES) == 0, "65 experts give another result");
  int32_t last[TOKENS * K];
  memcpy(last, ids, sizeof(last));
  last[0] = 64;
  run_and_check("E + 1, chosen", 65, last, other);
  check(memcmp(y, other, H * sizeof(float)) != 0, "expert 64 is not served");
  check(memcmp(y + H, other + H, Y_BYTES - H * sizeof(float)) == 0,
        "expert 64 changes other tokens");

  printf("%d failures\n", failures);
  return failures != 0;
}
