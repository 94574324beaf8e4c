//===- MoEOps.td - Operations of the moe dialect -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_OPS_TD
#define MOE_OPS_TD

include "moe/Dialect/MoE/IR/MoEBase.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"

//===----------------------------------------------------------------------===//
// moe.gate
//===----------------------------------------------------------------------===//

def MoE_GateOp : MoE_BufferizableOp<"gate"> {
  let summary = "chooses k experts a token, and their weights";
  let description = [{
    ```
    logits: T×E  [, bias: E]  [, mix: T×E]  →  weights: T×k,  ids: T×k
    ```

    For every token t:

    1. *Score.* s = `score`(logits[t]): `softmax` over the E experts, `sigmoid`,
       `sqrt_softplus` (√ln(1 + eˣ)), or `none`.
    2. *Select* the k largest selection keys. The key of an expert is its score
       (`select_on(scores)`, the default) or its logit (`select_on(logits)`:
       a sigmoid in f32 is 1.0 from logit 17.5 on, so that selecting on scores
       makes ties that selecting on logits does not), plus `bias` when given.
       With `groups`, only experts of the kept groups take part.
    3. *Weight.* The weight of a selected expert is its score, without the bias,
       or its entry of `mix` when given (selection and mixing may come from
       different tensors). With `scope(selected)` the softmax runs over the k
       selected logits (or entries of `mix`) instead of all E; the key is then
       the logit. `renormalize` divides the k weights by their sum; then they
       are multiplied by `scale`.

    Rules:

    * Ids are distinct and come in descending order of the key; ties go to the
      lower id.
    * NaN counts as −inf: in logits, in score + bias, in the score of a group.
      A NaN in `mix` counts as −inf under `scope(selected)` and stays NaN else.
    * The softmax of a row whose maximum is −inf is all 0. With n entries of
      +inf it is 1/n on those and 0 elsewhere.
    * Renormalizing a zero sum gives 0.
    * All arithmetic is f32: one scalar recipe for exp and ln, sums over the
      fixed tree of `docs/Rationale.md`, the same on every path, so that equal
      logits give equal ids and weights bit for bit on any target.

    Constraints:

    * gate_c1: operands are all tensors or all memrefs.
    * gate_c2: there are two inits; weights and ids have the same shape T×k.
    * gate_c3: T of logits, weights and ids agree.
    * gate_c4: `bias` has E elements.
    * gate_c5: `mix` has the shape of logits.
    * gate_c6: 1 ≤ k ≤ E.
    * gate_c7: `scope(selected)` needs `score(softmax)`.
    * gate_c8: `count` of the groups divides E.
    * gate_c9: the kept groups hold at least k experts.
    * gate_c10: `top2_sum` needs groups of at least two experts.
    * gate_c11: `scale` is finite.
    * groups_c1: count ≥ 1. groups_c2: 1 ≤ keep ≤ count.
    * renormalize_c1: eps is a finite, non-negative f32.

    Example (OLMoE; then DeepSeek-V3):

    ```mlir
    %weights, %ids = moe.gate score(softmax)
        ins(%logits : tensor<?x64xf32>)
        outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)

    %weights, %ids = moe.gate score(sigmoid)
        groups<count = 8, keep = 4, score = top2_sum>
        renormalize<eps = 1.0e-20 : f32> scale(2.5)
        ins(%logits : tensor<?x256xf32>) bias(%b : tensor<256xf32>)
        outs(%w, %i : tensor<?x8xf32>, tensor<?x8xi32>)
    ```
  }];

  let arguments = (ins
    MoE_Shaped<[F32], [2]>:$logits,
    Optional<MoE_Shaped<[F32], [1]>>:$bias,
    Optional<MoE_Shaped<[F32], [2]>>:$mix,
    Variadic<MoE_Shaped<[F32, I32], [2]>>:$inits,
    MoE_ScoreAttr:$score,
    DefaultValuedAttr<MoE_SelectOnAttr, "::mlir::moe::SelectOn::Scores">:$select_on,
    DefaultValuedAttr<MoE_SoftmaxScopeAttr, "::mlir::moe::SoftmaxScope::All">:$softmax_scope,
    OptionalAttr<MoE_GroupsAttr>:$groups,
    OptionalAttr<MoE_RenormalizeAttr>:$renormalize,
    DefaultValuedAttr<F32Attr, "1.0f">:$scale
  );

  let assemblyFormat = [{
    `score` `(` `` custom<Keyword>($score) `)`
    (`select_on` `(` `` custom<Keyword>($select_on)^ `)`)?
    (`scope` `(` `` custom<Keyword>($softmax_scope)^ `)`)?
    (`groups` `` $groups^)?
    (`renormalize` `` $renormalize^)?
    (`scale` `(` $scale^ `)`)?
    `ins` `(` $logits `:` type($logits) `)`
    (`bias` `(` $bias^ `:` type($bias) `)`)?
    (`mix` `(` $mix^ `:` type($mix) `)`)?
    custom<Outs>($inits, type($inits), type($results))
    attr-dict
  }];

  let builders = [
    /// Plain gate: weights and ids of k experts from fresh destinations.
    OpBuilder<(ins "::mlir::Value":$logits, "int64_t":$topK, "::mlir::moe::Score":$score,
      CArg<"::mlir::Value", "{}">:$bias)>
  ];

  let extraClassDeclaration = destinationStyleDecl # [{
    ::mlir::Value getWeightsInit() { return getInits()[0]; }
    ::mlir::Value getIdsInit() { return getInits()[1]; }
    /// Number of tokens, experts, and choices a token; kDynamic if unknown.
    int64_t getNumTokens();
    int64_t getNumExperts();
    int64_t getTopK();
  }];
}

//===----------------------------------------------------------------------===//
// moe.dispatch
//===----------------------------------------------------------------------===//

def MoE_DispatchOp : MoE_BufferizableOp<"dispatch"> {
  let summary = "sorts choices by expert and copies their payloads to rows";
  let description = [{
    ```
    ids: T×k, token payloads: T×…, choice payloads: T×k×…
      →  offsets: E+1,  slots: T×k,  one row value M×… per payload
    ```

    Sorts the choices (t, j) by (expert, token, choice). Expert e owns the rows
    [offsets[e], offsets[e+1]); `slots[t, j]` is the row of choice (t, j), −1
    when it has none. Row `slots[t, j]` of a row value holds the payload of its
    choice: `tokens[t]` or `choices[t, j]`. Token payloads come first among the
    row values, choice payloads after them.

    * A choice whose id is outside [0, E) has no row.
    * The layout is compact and starts at row 0: offsets[0] is 0 here. (Readers
      of offsets do not rely on that.)
    * M is the number of rows of the destination: any M ≥ offsets[E]; T·k always
      suffices, min(T·k, E·capacity) with a capacity. Rows that nobody owns keep
      the destination's value, and no op reads them. An M that is too small is
      an error that runtime verification reports (on tensors), and undefined
      behaviour without it.
    * `capacity`: an expert takes at most that many choices of each group of
      `tokens_per_group` consecutive tokens (default: all T tokens are one
      group); the others are dropped, i.e. have no row. It keeps the first ones
      in `token_major` order (by t, then j: the default) or `choice_major` order
      (by j, then t: all first choices before any second choice); with
      `priority`, those with the highest priority, ties in that order, NaN as
      −inf. A negative capacity counts as 0; `tokens_per_group` below 1 counts as
      1, and runtime verification reports it.
    * `in_bounds` is a promise that every id is in [0, E); runtime verification
      asserts it. Nothing else depends on it.

    Constraints:

    * dispatch_c1: operands are all tensors or all memrefs.
    * dispatch_c2: there are 2 + #tokens + #choices inits: offsets (i32, rank
      1), slots (i32, rank 2), and a row value per payload.
    * dispatch_c3: slots have the shape of ids.
    * dispatch_c4: a token payload has T as its first dimension.
    * dispatch_c5: a choice payload has T×k as its first dimensions.
    * dispatch_c6: a row value has the element type and the inner dimensions of
      its payload.
    * dispatch_c7: all row values have the same number of rows M.
    * dispatch_c8: offsets has at least one element.
    * dispatch_c9: `priority` has the shape of ids.
    * dispatch_c10: `order`, `priority` and `tokens_per_group` need `capacity`.

    Example:

    ```mlir
    %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x8xi32>)
        tokens(%x : tensor<?x2048xbf16>)
        outs(%o, %s, %r : tensor<65xi32>, tensor<?x8xi32>, tensor<?x2048xbf16>)

    // Switch: at most %c tokens an expert in every sequence of %n.
    %offsets, %slots, %rows, %row_weights = moe.dispatch ids(%ids : tensor<?x1xi32>)
        tokens(%x : tensor<?x768xf32>) choices(%weights : tensor<?x1xf32>)
        capacity(%c) tokens_per_group(%n)
        outs(%o, %s, %r, %rw : tensor<9xi32>, tensor<?x1xi32>, tensor<?x768xf32>, tensor<?xf32>)
    ```
  }];

  let arguments = (ins
    MoE_Shaped<[I32], [2]>:$ids,
    Variadic<MoE_AnyShaped>:$tokens,
    Variadic<MoE_AnyShaped>:$choices,
    Optional<Index>:$capacity,
    Optional<MoE_Shaped<[F32], [2]>>:$priority,
    Optional<Index>:$tokens_per_group,
    Variadic<MoE_AnyShaped>:$inits,
    DefaultValuedAttr<MoE_CapacityOrderAttr, "::mlir::moe::CapacityOrder::TokenMajor">:$order,
    UnitAttr:$in_bounds
  );

  let assemblyFormat = [{
    (`in_bounds` $in_bounds^)?
    `ids` `(` $ids `:` type($ids) `)`
    (`tokens` `(` $tokens^ `:` type($tokens) `)`)?
    (`choices` `(` $choices^ `:` type($choices) `)`)?
    (`capacity` `(` $capacity^ `)`)?
    (`order` `(` `` custom<Keyword>($order)^ `)`)?
    (`priority` `(` $priority^ `:` type($priority) `)`)?
    (`tokens_per_group` `(` $tokens_per_group^ `)`)?
    custom<Outs>($inits, type($inits), type($results))
    attr-dict
  }];

  let builders = [
    /// Dropless dispatch of token and choice payloads into fresh destinations
    /// of T·k rows.
    OpBuilder<(ins "::mlir::Value":$ids, "int64_t":$numExperts, "::mlir::ValueRange":$tokens,
      CArg<"::mlir::ValueRange", "{}">:$choices)>
  ];

  let extraClassDeclaration = destinationStyleDecl # [{
    ::mlir::Value getOffsetsInit() { return getInits()[0]; }
    ::mlir::Value getSlotsInit() { return getInits()[1]; }
    ::mlir::OperandRange getRowInits() { return getInits().drop_front(2); }
    /// Token payloads, then choice payloads: payload i goes to row value i.
    ::llvm::SmallVector<::mlir::Value> getPayloads();
    /// E, from the offsets; kDynamic if unknown.
    int64_t getNumExperts();
  }];
}

//===----------------------------------------------------------------------===//
// moe.expert
//===----------------------------------------------------------------------===//

def MoE_ExpertOp : MoE_DestinationOp<"expert", [
    RecursiveMemoryEffects, SingleBlockImplicitTerminator<"::mlir::moe::YieldOp">]> {
  let summary = "applies a region to the rows of each non-empty expert";
  let description = [{
    ```
    offsets: E+1, row values: M×…, per-expert values: E×…
      →  row values: M×…,  per-expert values: E×…
    ```

    Runs the region once for each expert e whose rows [offsets[e],
    offsets[e+1]) are not empty. Its arguments are `%expert : index`, the rows
    of each row value (`?×…`), and slice e of each per-expert value (`…`). It may
    use values from above: shared weights, constants.

    `moe.yield` gives the rows of each row result, then slice e of each
    per-expert result. A yielded value with the rank of its init is a row
    result; one rank less makes it a per-expert result.

    * The region has no side effects and works on whole tensors: `linalg`,
      `arith` and `math` on tensors, `tensor`, `scf`.
    * Offsets ascend within [0, M]; offsets[0] need not be 0 nor offsets[E] be M.
      Others are an error that runtime verification reports, and undefined
      behaviour without it. Rows that nobody owns, and the slice of an expert without rows, keep
      the value of the init (which is how weight gradients are written).
    * A body that mixes rows is legal and means what it says on all rows of the
      expert.
    * The number of rows yielded is the number of rows received; another number
      is an error in the same way.

    Constraints:

    * expert_c1: the region has 1 + #rows + #params arguments; the first is an
      index.
    * expert_c2: all row values and row inits have the same number of rows M.
    * expert_c3: a row argument has the element type and inner dimensions of its
      row value, and a dynamic number of rows.
    * expert_c4: a per-expert value has E (offsets − 1) slices.
    * expert_c5: a per-expert argument has the type of a slice.
    * expert_c6: as many values are yielded as there are inits, rows first.
    * expert_c7: a yielded value has the element type of its init, its rank or
      one less, and its inner dimensions; yielded rows have a dynamic number.
    * expert_c8: the body has no side effects.
    * expert_c9: offsets has at least one element.

    Static dimensions may differ from dynamic ones in c3, c5 and c7 ("agree"
    means: not two different numbers).

    Example (SwiGLU in f32):

    ```mlir
    %y = moe.expert offsets(%offsets : tensor<65xi32>) rows(%x : tensor<?x64xf32>)
        params(%wg, %wu, %wd : tensor<64x32x64xf32>, tensor<64x32x64xf32>, tensor<64x64x32xf32>)
        outs(%init : tensor<?x64xf32>) {
    ^bb0(%expert: index, %rows: tensor<?x64xf32>, %g: tensor<32x64xf32>,
         %u: tensor<32x64xf32>, %d: tensor<64x32xf32>):
      ...
      moe.yield %out : tensor<?x64xf32>
    }
    ```
  }];

  let arguments = (ins
    RankedTensorOf<[I32]>:$offsets,
    Variadic<AnyRankedTensor>:$rows,
    Variadic<AnyRankedTensor>:$params,
    Variadic<AnyRankedTensor>:$inits
  );
  let regions = (region SizedRegion<1>:$body);

  let assemblyFormat = [{
    `offsets` `(` $offsets `:` type($offsets) `)`
    (`rows` `(` $rows^ `:` type($rows) `)`)?
    (`params` `(` $params^ `:` type($params) `)`)?
    custom<Outs>($inits, type($inits), type($results))
    attr-dict-with-keyword
    $body
  }];

  let builders = [
    /// Builds the body with `bodyBuilder(builder, loc, expert, rows, params)`,
    /// which returns the values to yield.
    OpBuilder<(ins "::mlir::Value":$offsets, "::mlir::ValueRange":$rows,
      "::mlir::ValueRange":$params, "::mlir::ValueRange":$inits,
      "::llvm::function_ref<::llvm::SmallVector<::mlir::Value>(::mlir::OpBuilder &, "
      "::mlir::Location, ::mlir::Value, ::mlir::ValueRange, ::mlir::ValueRange)>":$bodyBuilder)>
  ];

  let hasRegionVerifier = 1;
  let extraClassDeclaration = destinationStyleDecl # [{
    ::mlir::Value getExpertArg() { return getBody().getArgument(0); }
    ::mlir::Block::BlockArgListType getRowArgs() {
      return getBody().getArguments().slice(1, getRows().size());
    }
    ::mlir::Block::BlockArgListType getParamArgs() {
      return getBody().getArguments().drop_front(1 + getRows().size());
    }
    ::mlir::moe::YieldOp getYieldOp();
    /// True if init `i` is a row value M×…, false if it is per-expert, E×….
    bool isRowInit(unsigned i);
    int64_t getNumExperts();
    void getAsmBlockArgumentNames(::mlir::Region &, ::mlir::OpAsmSetValueNameFn);
  }];
}

def MoE_YieldOp : Op<MoE_Dialect, "yield", [
    Pure, ReturnLike, Terminator,
    ParentOneOf<["::mlir::moe::ExpertOp", "::mlir::moe::GroupedMatmulOp",
                 "::mlir::moe::RouteOp"]>]> {
  let summary = "returns values from a region of a moe op";
  let description = [{
    In `moe.expert`: the rows of each row result, then the slice of each
    per-expert result. In the regions of kernel-level ops: scalars.

    Example: `moe.yield %y : tensor<?x64xf32>`
  }];
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "attr-dict ($values^ `:` type($values))?";
  let hasCanonicalizer = 1;
  let builders = [OpBuilder<(ins), [{ build($_builder, $_state, ::mlir::ValueRange()); }]>];
}

//===----------------------------------------------------------------------===//
// moe.combine
//===----------------------------------------------------------------------===//

def MoE_CombineOp : MoE_BufferizableOp<"combine"> {
  let summary = "adds the weighted rows of each token";
  let description = [{
    ```
    rows: M×H, slots: T×k, weights: T×k [, base: T×H]  →  y: T×H
    y[t] = Σ_j weights[t, j] · rows[slots[t, j]]  [+ base[t]]
    ```

    Overwrites the destination. The sum starts at +0 and runs in f32 whatever
    the storage types: the rows of a token are added in ascending order of
    their slots (that is, by expert), each with one fused multiply-add; `base`
    (a residual, shared experts) comes last; one rounding at the store. So the
    result depends neither on the order of the choices nor on threads. A
    dropped choice (slot −1) adds exactly 0, whatever its weight. No two choices
    share a slot. Other slots outside [0, M) add 0 as well, but no dispatch makes
    them: runtime verification reports those, and slots that are shared.
    Frameworks that add in the storage type differ by that rounding.

    Constraints:

    * combine_c1: operands are all tensors or all memrefs.
    * combine_c2: weights have the shape of slots.
    * combine_c3: there is one init, T×H: T of slots, H of rows, of a floating
      point type of at most 32 bits.
    * combine_c4: `base` has the shape of the result.

    Example:

    ```mlir
    %y = moe.combine rows(%rows : tensor<?x2048xbf16>) slots(%slots : tensor<?x8xi32>)
        weights(%weights : tensor<?x8xf32>) base(%shared : tensor<?x2048xbf16>)
        outs(%init : tensor<?x2048xbf16>)
    ```
  }];

  let arguments = (ins
    MoE_Shaped<[F32, F16, BF16], [2]>:$rows,
    MoE_Shaped<[I32], [2]>:$slots,
    MoE_Shaped<[F32, F16, BF16], [2]>:$weights,
    Optional<MoE_Shaped<[F32, F16, BF16], [2]>>:$base,
    Variadic<MoE_Shaped<[F32, F16, BF16], [2]>>:$inits
  );

  let assemblyFormat = [{
    `rows` `(` $rows `:` type($rows) `)`
    `slots` `(` $slots `:` type($slots) `)`
    `weights` `(` $weights `:` type($weights) `)`
    (`base` `(` $base^ `:` type($base) `)`)?
    custom<Outs>($inits, type($inits), type($results))
    attr-dict
  }];

  let builders = [
    /// Adds into a fresh destination T×H of the rows' element type.
    OpBuilder<(ins "::mlir::Value":$rows, "::mlir::Value":$slots, "::mlir::Value":$weights,
      CArg<"::mlir::Value", "{}">:$base)>
  ];

  let extraClassDeclaration = destinationStyleDecl # [{
    ::mlir::Value getInit() { return getInits()[0]; }
  }];
}

include "moe/Dialect/MoE/IR/MoEKernelOps.td"
include "moe/Dialect/MoE/IR/MoEGroupedMatmulOp.td"
include "moe/Dialect/MoE/IR/MoERouteOp.td"

#endif // MOE_OPS_TD
