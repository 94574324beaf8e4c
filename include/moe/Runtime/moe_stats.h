/*===- moe_stats.h - Where the tokens of a call went ---------------*- C -*-===*\
|*                                                                            *|
|* Part of the MoE compiler, under the Apache License v2.0 with LLVM          *|
|* Exceptions.                                                                *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/
/*
 * What artifacts of `moe-compile --stats` fill. Their headers repeat this file,
 * and say which members they fill, and how long these are.
 */
#ifndef MOE_RUNTIME_MOE_STATS_H
#define MOE_RUNTIME_MOE_STATS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The routing of one layer with T tokens, k choices a token and E experts, in
 * memory of the caller. A member that is NULL is not written. */
typedef struct moe_stats {
  int64_t *tokens;      /* E: the rows of each expert */
  int64_t *choices;     /* 3: choices that have a row; that name an expert but
                           have none (dropped over capacity); whose id is no
                           expert's. Together T times k */
  double *contribution; /* E: the root of the sum of |w * row|^2 over the rows
                           of each expert, w their weights in the result */
  int32_t *ids;         /* T times k, row-major: the expert of each choice */
} moe_stats;

#ifdef __cplusplus
}
#endif

#endif /* MOE_RUNTIME_MOE_STATS_H */
