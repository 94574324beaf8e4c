/* Says at the end how often the pool of host_pool.c was asked. */
#include <stdio.h>
#include <stdlib.h>

long host_pool_regions(void);

static void report(void) { printf("host's pool: %ld regions\n", host_pool_regions()); }

__attribute__((constructor)) static void report_at_exit(void) { atexit(report); }
