//===- Passes.td - Passes of the moe dialect ---------------*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_TRANSFORMS_PASSES_TD
#define MOE_DIALECT_MOE_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"
include "moe/Dialect/MoE/Transforms/PackingPasses.td"

def MoEDecompose : Pass<"moe-decompose"> {
  let summary = "replaces moe ops by upstream dialects";
  let description = [{
    Replaces every op of the dialect by `scf` loops over `tensor`, `arith`,
    `math` and `linalg`, one op at a time, through `AggregatedOpInterface`. This
    is what the ops mean: the reference that all other lowerings are checked
    against, and what a host without our kernels runs. It is simple rather than
    fast, but its work follows the rows that are routed: an expert without rows
    costs two loads.

    Works on tensors. An op on memrefs is rewritten on tensors between
    `bufferization.to_tensor` and `bufferization.materialize_in_destination`, so
    run one-shot-bufferize after it. Ops of other dialects are left alone.

    Before:

    ```mlir
    %y = moe.combine rows(%r : tensor<?x64xf32>) slots(%s : tensor<?x2xi32>)
        weights(%w : tensor<?x2xf32>) outs(%init : tensor<?x64xf32>)
    ```

    After (shortened):

    ```mlir
    %y = scf.for %t = %c0 to %num_tokens step %c1 iter_args(%out = %init) -> (tensor<?x64xf32>) {
      %sum = scf.for %n = %c0 to %c2 step %c1 iter_args(...) -> (tensor<64xf32>) {
        // the choice with the n-th smallest slot; nothing for a dropped one
        %next = scf.if %has_row -> (tensor<64xf32>) { linalg.generic ... math.fma ... }
        ...
      }
      %row = linalg.generic ... arith.truncf ...
      %next = tensor.insert_slice %row into %out[%t, 0] [1, 64] [1, 1]
      scf.yield %next : tensor<?x64xf32>
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::bufferization::BufferizationDialect", "::mlir::linalg::LinalgDialect",
    "::mlir::math::MathDialect", "::mlir::scf::SCFDialect",
    "::mlir::tensor::TensorDialect", "::mlir::memref::MemRefDialect"
  ];
  let options = [
    Option<"keepConfigured", "keep-configured", "bool", /*default=*/"false",
           "Leave ops that have a moe.lowering_config: a code generator takes them">
  ];
  let statistics = [
    Statistic<"numDecomposed", "num-decomposed", "Number of moe ops replaced">
  ];
}

def MoEFuseRouting : Pass<"moe-fuse-routing"> {
  let summary = "fuses router matmul, gate and plan into moe.route";
  let description = [{
    A `moe.plan` of the ids of a `moe.gate` whose logits come elementwise from a
    matmul becomes one `moe.route`:

    * the matmul (`linalg.matmul` or a `linalg.generic` that is one) adds
      products of f32, f16 or bf16 in f32; the router is E×K or K×E, read
      through transposes and extensions. What it starts from, if not zeros, is
      added after the sum.
    * Elementwise work between matmul and gate is the region `logits`: biases
      broadcast over tokens, casts, soft caps, any scalar function, as arith and
      math on whole tensors or linalg. Tensors that do not depend on the matmul
      become `extras`, those of other matmuls as well (learned noise): of several,
      the one that is found first from the logits is the router's. The gate's
      `mix` is the region's second result.
    * A softmax over the experts in front of a gate with `score(none)`, as
      linalg.softmax or as exp(x − max x) / Σ exp(x − max x), is `score(softmax)`:
      the same for finite logits, and by the gate's rules for others.
    * The weights divided by their sum, as a reduction and a quotient, with a
      constant added to the sum or as its lower bound, are `renormalize<…>`: the
      same but for the order of the sum, and 0 where the sum is 0. So it is where
      nothing else reads the weights, and the gate has neither `renormalize` nor
      `scale`.
    * Elementwise work on these weights that nothing else reads in between is the
      region `weights`: casts, scales, a table gathered by id.

    Each cast stays a cast, so values round where they did. The sums may be added
    in another order.

    Declines, with a missed remark that says what to change, if the ids are not
    those of one gate (tables, two gates), the logits are not elementwise work on
    a matmul (a norm between matmul and gate), the matmul does not add in f32, capacity goes by
    priority, or something else reads the logits.

    Run moe-fuse-dispatch before, which makes plans of dispatches. A `moe.dispatch`
    that stays, since a body that could not be cut reads its rows, goes on copying
    them, by the ids of a `moe.route` that gives the offsets and slots.

    Before:

    ```mlir
    %sums = linalg.matmul indexing_maps = [#tk, #ek, #te]
        ins(%x, %w : tensor<?x8xbf16>, tensor<4x8xbf16>) outs(%zeros : tensor<?x4xf32>)
    %narrow = arith.truncf %sums : tensor<?x4xf32> to tensor<?x4xbf16>
    %logits = arith.extf %narrow : tensor<?x4xbf16> to tensor<?x4xf32>
    %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
        outs(%wi, %ii : tensor<?x2xf32>, tensor<?x2xi32>)
    %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
        outs(%oi, %si, %ri : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
    ```

    After:

    ```mlir
    %weights, %ids, %offsets, %slots, %source = moe.route score(softmax)
        router(%x[t, k] * %w[e, k] : tensor<?x8xbf16>, tensor<4x8xbf16>)
        outs(%wi, %ii, %oi, %si, %ri
             : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
        logits {
    ^bb0(%sum: f32):
      %narrow = arith.truncf %sum : f32 to bf16
      %logit = arith.extf %narrow : bf16 to f32
      moe.yield %logit : f32
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect"
  ];
  let statistics = [
    Statistic<"numFused", "num-fused", "Number of plans and dispatches with a moe.route">,
    Statistic<"numKept", "num-kept", "Number of plans and dispatches without">
  ];
}

def MoELinalgReductionsToLoops : Pass<"moe-linalg-reductions-to-loops"> {
  let summary = "lowers linalg reductions to loops that add in registers";
  let description = [{
    Upstream's convert-linalg-to-loops loads and stores the output element at
    every step of a reduction, which costs a store-to-load delay a step (about
    five times the time of the addition). This pass keeps the sums of eight
    neighbouring outputs in registers: eight independent chains, each in
    ascending order of the reduction, so that no result differs by a bit from
    that of convert-linalg-to-loops.

    Takes linalg ops on memrefs with one output, projected-permutation maps and
    at least one reduction loop, none of which the output depends on; others are
    left for convert-linalg-to-loops.

    Before:

    ```mlir
    linalg.matmul ins(%a, %b : memref<?x8xf32>, memref<8x6xf32>) outs(%c : memref<?x6xf32>)
    ```

    After (the remainder of six columns; eight have eight carried sums):

    ```mlir
    scf.for %m = ... {
      scf.for %n = ... {
        %init = memref.load %c[%m, %n]
        %sum = scf.for %k = ... iter_args(%s = %init) -> (f32) {
          %x = memref.load %a[%m, %k]
          %y = memref.load %b[%k, %n]
          %p = arith.mulf %x, %y
          %next = arith.addf %s, %p
          scf.yield %next : f32
        }
        memref.store %sum, %c[%m, %n]
      }
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect"
  ];
}

def MoEExpertToGroupedMatmul : Pass<"moe-expert-to-grouped-matmul"> {
  let summary = "cuts expert bodies into grouped matmuls with epilogues";
  let description = [{
    Replaces a `moe.expert` by stages that store rows. Where the results of
    matmuls meet elementwise, up to the rows of the next matmul or the result,
    that is one `moe.grouped_matmul`: the matmuls are its products, and the
    elementwise work its epilogue, cast by cast, so that values round where the
    body rounds. Elementwise work on the rows themselves in front of a matmul (a
    weight multiplied before the first one) is a prologue of its product. Whatever
    else the body does with rows (a norm or a softmax of each row, work across
    rows) stays as a smaller `moe.expert` between them.

    There is no list of bodies and no form to keep to: elementwise work may be
    arith and math on whole tensors, `linalg.generic`, `linalg.map`, broadcasts;
    views (slices, reshapes, transposes, casts) become index expressions. So gate
    and up may be two weights, halves of one, or interleaved, as `E×N×K` or
    `E×K×N`, before or after the matmul: nothing is copied. A matmul that starts
    from another matmul adds its terms to that (LoRA); one that starts from a
    broadcast bias has the bias added in the epilogue, after the sum instead of
    before it. An intermediate that two later stages read, or a product that two
    stages need, is stored once.

    A body stays as it is, with a missed remark that says what to change, if it
    has no matmul of rows and weights that adds in f32, has a per-expert result,
    or has no rows. A matmul is not taken if its result has an unknown width, or
    its weight is computed in the body.

    Before:

    ```mlir
    %y = moe.expert offsets(%o : tensor<5xi32>) rows(%x : tensor<?x8xf32>)
        params(%up, %down : tensor<4x16x8xf32>, tensor<4x8x16xf32>)
        outs(%init : tensor<?x8xf32>) {
    ^bb0(%expert: index, %xe: tensor<?x8xf32>, %u: tensor<16x8xf32>, %d: tensor<8x16xf32>):
      ...
      %h = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%xe, %u : ...) outs(%zeros : ...)
      %a = arith.maximumf %h, %zeros : tensor<?x16xf32>
      %r = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%a, %d : ...) outs(%zeros2 : ...)
      moe.yield %r : tensor<?x8xf32>
    }
    ```

    After:

    ```mlir
    %a = moe.grouped_matmul offsets(%o : tensor<5xi32>)
        products(%x[m, k] * %up[e, n, k] : tensor<?x8xf32>, tensor<4x16x8xf32>)
        outs(%empty : tensor<?x16xf32>) {
    ^bb0(%product: f32):
      %relu = arith.maximumf %product, %zero : f32
      moe.yield %relu : f32
    }
    %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
        products(%a[m, k] * %down[e, n, k] : tensor<?x16xf32>, tensor<4x8x16xf32>)
        outs(%init : tensor<?x8xf32>) {
    ^bb0(%product: f32):
      moe.yield %product : f32
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect"
  ];
  let statistics = [
    Statistic<"numRewritten", "num-rewritten", "Number of moe.experts cut into stages">,
    Statistic<"numKept", "num-kept", "Number of moe.experts left as they are">
  ];
}

def MoEFuseDispatch : Pass<"moe-fuse-dispatch"> {
  let summary = "lets grouped matmuls read tokens instead of dispatched rows";
  let description = [{
    A `moe.grouped_matmul` that reads `%rows[m, k]` of a `moe.dispatch` reads the
    tokens themselves, `%x[t, k]`, through `source`; payloads of choices become
    extras `%w[t, j]`. A dispatch of which nobody reads rows any more becomes a
    `moe.plan`: the sort without the copies. Capacity, order, priority and groups
    carry over; the promise of `in_bounds`, which run-time verification checks on
    the dispatch, is one that a plan has no use for.

    Payloads that something else reads, such as a `moe.expert`, stay with a
    `moe.dispatch` beside the plan, and grouped matmuls read those rows in place;
    if that spares no copy of whole tokens, nothing changes. The dispatch is left
    alone as well if k is unknown. Missed remarks say what reads the rows.

    Before:

    ```mlir
    %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>)
        tokens(%x : tensor<?x8xf32>)
        outs(%o, %s, %r : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
    %h = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
        products(%rows[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x16x8xf32>) ...
    ```

    After:

    ```mlir
    %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x2xi32>)
        outs(%o, %s, %empty : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
    %h = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
        source(%source : tensor<?xi32>) top_k(2)
        products(%x[t, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x16x8xf32>) ...
    ```
  }];
  let dependentDialects = ["::mlir::tensor::TensorDialect"];
  let statistics = [
    Statistic<"numFused", "num-fused", "Number of dispatches whose rows are read as tokens">
  ];
}

def MoEFuseCombine : Pass<"moe-fuse-combine"> {
  let summary = "lets the last grouped matmul add its rows into the tokens";
  let description = [{
    A `moe.combine` of rows that a `moe.grouped_matmul` makes becomes the
    `combine(…) base(…)` of that op. The epilogue still yields rows of the stored
    type, so they round as before, and the sum is the same: in ascending order of
    the slots, in f32, `base` last.

    A tensor that is added to the f32 result of a combine (a residual, a shared
    expert) becomes its `base` first, together with a truncation of the sum, and
    tokens are not read again. The bits are the same.

    Declines, with a missed remark, if the rows have other readers, the grouped
    matmul has more than one result, or its offsets and the slots do not come
    from one dispatch or plan. What is added to a result that rounded to a
    narrower type stays behind it.

    Before:

    ```mlir
    %rows = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
        products(%h[m, k] * %w[e, n, k] : tensor<?x16xf32>, tensor<4x8x16xf32>)
        outs(%init : tensor<?x8xf32>) { ... }
    %y = moe.combine rows(%rows : tensor<?x8xf32>) slots(%slots : tensor<?x2xi32>)
        weights(%weights : tensor<?x2xf32>) outs(%out : tensor<?x8xf32>)
    %z = arith.addf %y, %x : tensor<?x8xf32>
    ```

    After:

    ```mlir
    %z = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
        products(%h[m, k] * %w[e, n, k] : tensor<?x16xf32>, tensor<4x8x16xf32>)
        combine(%slots : tensor<?x2xi32>, %weights : tensor<?x2xf32>) base(%x : tensor<?x8xf32>)
        outs(%out : tensor<?x8xf32>) { ... }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect"];
  let statistics = [
    Statistic<"numFused", "num-fused", "Number of combines that became part of a matmul">
  ];
}

def MoERelaxRounding : Pass<"moe-relax-rounding"> {
  let summary = "rounds once where a grouped matmul stores, not after each step";
  let description = [{
    A model in bf16 or f16 rounds after every operation, and so do we by default:
    results are those of the framework. This pass computes the epilogues, prologues
    and decode regions of `moe.grouped_matmul` in f32 and rounds what they yield:
    fewer instructions, smaller errors, other bits. What decides ids (gates,
    routers) is left as it is, and so is what rows are stored in between matmuls.

    Left alone: operations that are not the same function of f32 (`arith.bitcast`),
    operations with regions, and their operands, which round as before.

    Before:

    ```mlir
    ^bb0(%product: f32, %bias: bf16):
      %rounded = arith.truncf %product : f32 to bf16
      %sum = arith.addf %rounded, %bias : bf16
      moe.yield %sum : bf16
    ```

    After:

    ```mlir
    ^bb0(%product: f32, %bias: bf16):
      %wide = arith.extf %bias : bf16 to f32
      %sum = arith.addf %product, %wide : f32
      %rounded = arith.truncf %sum : f32 to bf16
      moe.yield %rounded : bf16
    ```
  }];
  let statistics = [
    Statistic<"numDropped", "num-dropped", "Number of operations that no longer round">
  ];
}

def MoECostReport : Pass<"moe-cost-report"> {
  let summary = "counts operations and bytes of layers, without running them";
  let description = [{
    For each function with moe ops: operations of contractions, bytes of weights
    of the experts that have rows, bytes of other tensors that each op reads and
    writes, and operations a byte; op by op and in total. Changes nothing, so it
    may stand anywhere in a pipeline: before and after moe-fuse it tells what
    fusion saves. [Cost](Cost.md) has the formulas and an example to check by
    hand.

    Graph-level and kernel-level ops on tensors, linalg ops and elementwise work.
    What stands inside control flow is not counted, and said so. A size that is
    neither in the IR nor in an option is an error.

    Before: any layer.

    After `moe-cost-report{tokens=256 routing=zipf:1.0}`: the same layer, and on
    standard error

    ```
    cost of @layer: 256 tokens, routing zipf:1.0
      2048 rows on 64 of 64 experts, at most 256 rows on one
      op                          FLOP    weight bytes    bytes read   bytes written   FLOP/byte
      moe.route:12            67108864          262144       1048576           ...
    ```
  }];
  let options = [
    Option<"tokens", "tokens", "int64_t", "-1",
           "The number of tokens T, where the layer does not say it">,
    Option<"experts", "experts", "int64_t", "-1",
           "The number of stacked experts, where the layer does not say it">,
    Option<"routing", "routing", "std::string", "\"uniform\"",
           "Which experts tokens choose: uniform, zipf:EXPONENT, or file:PATH with a count for each "
           "expert (JSON, or numbers)">,
    Option<"format", "format", "std::string", "\"text\"", "text or json">,
    Option<"output", "output", "std::string", "\"\"",
           "The file to write; - is standard output, and nothing standard error">
  ];
}

def MoEInstrument : Pass<"moe-instrument"> {
  let summary = "appends statistics of the routing to the results";
  let description = [{
    For each `moe.dispatch` or `moe.plan` at the top level of a function, a
    *layer*, the chosen statistics become further results, called `statsN.NAME`
    for layer N:

    | NAME | type | what |
    |---|---|---|
    | `tokens` | E × i64 | the rows of each expert |
    | `choices` | 3 × i64 | choices with a row; those that name an expert but have no row (dropped over capacity); those whose id is no expert's (nowhere). Together T·k |
    | `contribution` | E × f64 | √(Σ \|w·row\|²) over the expert's rows, with the weights w of the `moe.combine` |
    | `ids` | T×k × i32 | the expert of each choice |

    Counts and sums only: shares, entropy and max/mean load follow from `tokens`
    (`moe-run --stats` prints them). The layer itself does not change and gives
    the same bits.

    Runs before `moe-fuse`. `tokens`, `choices` and `ids` are read from what
    routing leaves anyway and keep nothing from being fused. `contribution` reads
    the rows that `moe.combine` adds: these are stored and read once more, so
    moe-fuse-combine declines ("something else reads the rows"), and it adds
    2·T·k·H operations in f64.

    Declines, with a missed remark, for functions that others call (inline them
    first) or with several blocks, for layers inside loops and branches, fused
    (`moe.route`) or on memrefs, and for a gate whose ids nothing dispatches.
    `contribution` alone is left out where not exactly one `moe.combine` reads
    the slots. An unknown NAME is an error.

    Before:

    ```mlir
    func.func @layer(%x: tensor<?x8xf32>, ...) -> tensor<?x8xf32> {
      ...
      %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) ...
      ...
      return %y : tensor<?x8xf32>
    }
    ```

    After `moe-instrument{statistics=tokens,ids}`:

    ```mlir
    func.func @layer(%x: tensor<?x8xf32>, ...) -> (tensor<?x8xf32>,
        tensor<4xi64> {moe.name = "stats0.tokens"}, tensor<?x2xi32> {moe.name = "stats0.ids"}) {
      ...
      %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) ...
      ...
      %tokens = linalg.generic ... {
        %e = linalg.index 0 : index
        %begin = tensor.extract %offsets[%e] : tensor<5xi32>
        ...
      } -> tensor<4xi64>
      return %y, %tokens, %ids : tensor<?x8xf32>, tensor<4xi64>, tensor<?x2xi32>
    }
    ```
  }];
  let options = [
    ListOption<"statisticNames", "statistics", "std::string",
               "Any of tokens, choices, contribution, ids; nothing by default">
  ];
  let statistics = [
    Statistic<"numAppended", "num-appended", "Number of results appended">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
    "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"
  ];
}

def MoEReplayIds : Pass<"moe-replay-ids"> {
  let summary = "takes the ids of another run as arguments";
  let description = [{
    To find out where two runs part (other machines, types, lowerings), the second
    takes the first one's decisions. For each layer (`moe.dispatch` or `moe.plan`
    at the top level of a function) the ids become a further argument of the
    function, called `replay_idsN` for layer N, wherever they are used. The gate
    that made them goes; its weights are computed at the given ids instead, by its
    own rule from its own logits. With the ids that the gate would choose, they
    have the same bits.

    An id outside [0, E) is nowhere, as everywhere: its weight is 0, and it counts
    neither in a softmax over the selected nor in `renormalize`.

    Ids that other IR makes (tables, two gates) are replaced as well, with a
    missed remark that their weights stay what the function computes. Declines,
    with a missed remark, for ids that are an argument already (replay them by
    passing them), and where `moe-instrument` declines: functions that others call
    or with several blocks, layers inside loops and branches, fused or on memrefs.

    Before:

    ```mlir
    func.func @layer(%x: tensor<?x8xf32>, ...) -> tensor<?x8xf32> {
      ...
      %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
          outs(%wi, %ii : tensor<?x2xf32>, tensor<?x2xi32>)
      %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) ...
    ```

    After:

    ```mlir
    func.func @layer(%x: tensor<?x8xf32>, ..., %ids: tensor<?x2xi32> {moe.name = "replay_ids0"})
        -> tensor<?x8xf32> {
      ...
      %weights = scf.for %t = ... iter_args(%out = %wi) -> (tensor<?x2xf32>) {
        // softmax of the logits of token t, read at %ids[%t, 0], %ids[%t, 1]
      }
      %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) ...
    ```
  }];
  let statistics = [
    Statistic<"numReplayed", "num-replayed", "Number of ids that became arguments">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::math::MathDialect", "::mlir::scf::SCFDialect",
    "::mlir::tensor::TensorDialect"
  ];
}

#endif // MOE_DIALECT_MOE_TRANSFORMS_PASSES_TD
