/* A host's own threads for compiled layers: the even tasks on a second thread, the
 * odd ones on the caller's. At the end it says that it was asked. */
#include "moe/Runtime/moe.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct region {
  int64_t count;
  void (*task)(void *context, int64_t index);
  void *context;
};

static long num_regions, num_tasks;

static void run_from(const struct region *region, int64_t first) {
  for (int64_t index = first; index < region->count; index += 2)
    region->task(region->context, index);
}

static void *run_even(void *region) {
  run_from(region, 0);
  return NULL;
}

void moe_rt_parallel_for(int64_t count,
                         void (*task)(void *context, int64_t index),
                         void *context) {
  struct region region = {count, task, context};
  pthread_t thread;
  if (pthread_create(&thread, NULL, run_even, &region))
    abort();
  run_from(&region, 1);
  pthread_join(thread, NULL);
  ++num_regions;
  num_tasks += count;
}

static void report(void) {
  printf("host threads: %ld regions, %ld tasks\n", num_regions, num_tasks);
}

__attribute__((constructor)) static void report_at_exit(void) { atexit(report); }
