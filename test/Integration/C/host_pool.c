/*===- host_pool.c - Compiled layers on threads of the host's -----*- C -*-===*\
|*                                                                            *|
|* Part of the MoE compiler, under the Apache License v2.0 with LLVM          *|
|* Exceptions.                                                                *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/
/*
 * How a program runs compiled layers on threads of its own, instead of OpenMP's:
 * it defines moe_rt_parallel_for, which artifacts look for when they are loaded.
 *
 *   cc use_layer.c host_pool.c layer.so -rdynamic -lpthread -Wl,-rpath,'$ORIGIN'
 *
 * The threads of this pool wait for work; a caller works with them. Tasks are
 * taken one by one, as they differ in length. A second caller, while the pool is
 * at work, runs its tasks by itself.
 */
#include "moe/Runtime/moe.h"

#include <pthread.h>

enum { THREADS = 3 }; /* and the caller */

/* What the pool works on; written while no thread does. */
static struct {
  void (*task)(void *context, int64_t index);
  void *context;
  int64_t count, next; /* tasks, and the first that nobody has taken */
} work;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t callers = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t has_work = PTHREAD_COND_INITIALIZER;
static pthread_cond_t is_done = PTHREAD_COND_INITIALIZER;
static long num_regions; /* so far: a thread that has seen fewer has work */
static int num_threads, num_busy;

static void run_tasks(void) {
  for (;;) {
    int64_t index = __atomic_fetch_add(&work.next, 1, __ATOMIC_RELAXED);
    if (index >= work.count)
      return;
    work.task(work.context, index);
  }
}

static void *run_thread(void *unused) {
  (void)unused;
  long seen = 0;
  for (;;) {
    pthread_mutex_lock(&lock);
    while (num_regions == seen)
      pthread_cond_wait(&has_work, &lock);
    seen = num_regions;
    pthread_mutex_unlock(&lock);
    run_tasks();
    pthread_mutex_lock(&lock);
    if (--num_busy == 0)
      pthread_cond_signal(&is_done);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

/* As many as the system gives. */
static void start_threads(void) {
  pthread_t thread;
  while (num_threads < THREADS && !pthread_create(&thread, NULL, run_thread, NULL)) {
    pthread_detach(thread);
    ++num_threads;
  }
}

void moe_rt_parallel_for(int64_t count, void (*task)(void *context, int64_t index),
                         void *context) {
  pthread_once(&once, start_threads);
  if (pthread_mutex_trylock(&callers)) {
    for (int64_t index = 0; index < count; ++index)
      task(context, index);
    return;
  }
  pthread_mutex_lock(&lock);
  work.task = task;
  work.context = context;
  work.count = count;
  work.next = 0;
  num_busy = num_threads;
  ++num_regions;
  pthread_cond_broadcast(&has_work);
  pthread_mutex_unlock(&lock);
  run_tasks();
  pthread_mutex_lock(&lock);
  while (num_busy)
    pthread_cond_wait(&is_done, &lock);
  pthread_mutex_unlock(&lock);
  pthread_mutex_unlock(&callers);
}

/* How many parallel regions the pool has run. */
long host_pool_regions(void) { return num_regions; }
