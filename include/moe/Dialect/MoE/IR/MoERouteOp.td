//===- MoERouteOp.td - moe.route -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_ROUTE_OP_TD
#define MOE_ROUTE_OP_TD

include "moe/Dialect/MoE/IR/MoEBase.td"

def MoE_RouteOp : MoE_BufferizableOp<"route", [
    SingleBlockImplicitTerminator<"::mlir::moe::YieldOp">]> {
  let summary = "router matmul, gate and plan in one, with scalar regions between them";
  let description = [{
    ```
    x: T×K, router: E×K [, extras …] [, bias: E] [, weight extras …] [, id_map: E]
      →  weights: T×k,  ids: T×k,  offsets: E'+1,  slots: T×k,  source: M
    sum[t, e]          = Σ_k x[t, k] · router[e, k]
    logit[t, e], mix   = logits(sum[t, e], extras …)
    weight[t, j], r    = moe.gate of logits, bias and mix; r is the expert chosen
    weights[t, j]      = weights(weight[t, j], weight extras …)
    ids[t, j]          = id_map[r]
    offsets, slots, source = moe.plan of ids
    ```

    From tokens to a plan of rows in one pass over the tokens: exactly the
    matmul, `moe.gate` and `moe.plan` that it stands for, with the scalar work
    between them in two regions, so that any bias, rounding, soft cap or score
    function is part of it and none is named.

    * *Logits.* Products are added in f32 (operands are extended first), in
      ascending k on the general lowering; other lowerings may add in another
      order, one order for a logit whatever the number of tokens, tiles or
      threads. The region `logits` maps the sum to the logit of the gate, and
      with a second result to its `mix`; without the region the sum is the
      logit. Casts in it are rounding points.
    * *Gate.* `score`, `select_on`, `scope`, `groups`, `renormalize`, `scale` and
      `bias` mean what they mean for `moe.gate`, with the same recipe for exp, the
      same ties and the same rules for NaN and infinities: from equal logits, ids
      and weights are equal bit for bit.
    * *Weights.* The region `weights` maps each of the k weights (f32, after
      `scale`) to what is stored: a scale of the chosen expert, a rounding.
      Without it the weight is stored as it is.
    * *Ids.* `id_map` gives the id under which the router's expert is known
      further on (a replica, a place on this rank, −1 for none). The E' of
      `offsets` may be another number than the router's E: an id outside [0, E')
      is nowhere, as everywhere (identity experts).
    * *Plan.* `capacity`, `order` and `tokens_per_group` mean what they mean for
      `moe.plan`; M ≥ offsets[E'], T·k always suffices.

    What an operand is indexed by stands behind its name, in affine expressions
    of t (the token), e (the router's expert; for weight extras the one chosen),
    j (the choice) and k (the position in the sum).

    Constraints:

    * route_c1: operands are all tensors or all memrefs.
    * route_c2: there are five inits: weights (f32, f16 or bf16, rank 2), ids
      (i32, rank 2), offsets (i32, rank 1), slots (i32, rank 2) and source (i32,
      rank 1).
    * route_c3: weights, ids and slots have one shape T×k, with the T of x.
    * route_c4: x is indexed `[t, k]`, the router `[e, k]` or `[k, e]`, and their
      K agree.
    * route_c5: an extra has one index expression per dimension, of t and e; a
      weight extra one of t, j and e.
    * route_c6: `bias` and `id_map` have E elements.
    * route_c7: no index expression leaves its dimension.
    * route_c8: 1 ≤ k ≤ E.
    * route_c9: score, scope, groups and scale go together as in gate_c7 to
      gate_c11.
    * route_c10: offsets has at least one element.
    * route_c11: `order` and `tokens_per_group` need `capacity`.
    * route_c12: the arguments of `logits` are an f32 and the element of each
      extra; it yields one or two f32. Extras need it.
    * route_c13: the arguments of `weights` are an f32 and the element of each
      weight extra; it yields the element of the weights' destination. Weight
      extras, and destinations other than f32, need it.
    * route_c14: the regions have no side effects.

    Example (OLMoE in bf16, whose logits are rounded; then gpt-oss, whose router
    has a bias; Gemma 4 scales each expert):

    ```mlir
    %weights, %ids, %offsets, %slots, %source = moe.route score(softmax)
        router(%x[t, k] * %w[e, k] : tensor<?x2048xbf16>, tensor<64x2048xbf16>)
        outs(%wi, %ii, %oi, %si, %ri
             : tensor<?x8xf32>, tensor<?x8xi32>, tensor<65xi32>, tensor<?x8xi32>, tensor<?xi32>)
        logits {
    ^bb0(%sum: f32):
      %rounded = arith.truncf %sum : f32 to bf16
      %logit = arith.extf %rounded : bf16 to f32
      moe.yield %logit : f32
    }

    %weights, %ids, %offsets, %slots, %source = moe.route score(softmax) scope(selected)
        router(%x[t, k] * %w[e, k] : tensor<?x2880xf32>, tensor<32x2880xf32>)
        extras(%b[e] : tensor<32xf32>) weight_extras(%s[e] : tensor<32xf32>)
        outs(%wi, %ii, %oi, %si, %ri
             : tensor<?x4xf32>, tensor<?x4xi32>, tensor<33xi32>, tensor<?x4xi32>, tensor<?xi32>)
        logits {
    ^bb0(%sum: f32, %bias: f32):
      %logit = arith.addf %sum, %bias : f32
      moe.yield %logit : f32
    } weights {
    ^bb0(%weight: f32, %scale: f32):
      %scaled = arith.mulf %weight, %scale : f32
      moe.yield %scaled : f32
    }
    ```
  }];

  let arguments = (ins
    MoE_Shaped<[F32, F16, BF16], [2]>:$x,
    MoE_Shaped<[F32, F16, BF16], [2]>:$router,
    Variadic<MoE_AnyShaped>:$extras,
    Optional<MoE_Shaped<[F32], [1]>>:$bias,
    Variadic<MoE_AnyShaped>:$weight_extras,
    Optional<MoE_Shaped<[I32], [1]>>:$id_map,
    Optional<Index>:$capacity,
    Optional<Index>:$tokens_per_group,
    Variadic<MoE_Shaped<[F32, F16, BF16, I32], [1, 2]>>:$inits,
    AffineMapArrayAttr:$router_maps,
    DefaultValuedAttr<AffineMapArrayAttr, "{}">:$extra_maps,
    DefaultValuedAttr<AffineMapArrayAttr, "{}">:$weight_extra_maps,
    MoE_ScoreAttr:$score,
    DefaultValuedAttr<MoE_SelectOnAttr, "::mlir::moe::SelectOn::Scores">:$select_on,
    DefaultValuedAttr<MoE_SoftmaxScopeAttr, "::mlir::moe::SoftmaxScope::All">:$softmax_scope,
    OptionalAttr<MoE_GroupsAttr>:$groups,
    OptionalAttr<MoE_RenormalizeAttr>:$renormalize,
    DefaultValuedAttr<F32Attr, "1.0f">:$scale,
    DefaultValuedAttr<MoE_CapacityOrderAttr, "::mlir::moe::CapacityOrder::TokenMajor">:$order
  );
  let regions = (region AnyRegion:$logits, AnyRegion:$weights);

  let assemblyFormat = [{
    `score` `(` `` custom<Keyword>($score) `)`
    (`select_on` `(` `` custom<Keyword>($select_on)^ `)`)?
    (`scope` `(` `` custom<Keyword>($softmax_scope)^ `)`)?
    (`groups` `` $groups^)?
    (`renormalize` `` $renormalize^)?
    (`scale` `(` $scale^ `)`)?
    `router` `(` custom<Router>($x, type($x), $router, type($router), $router_maps) `)`
    (`extras` `(` custom<RouteExtras>($extras, type($extras), $extra_maps)^ `)`)?
    (`bias` `(` $bias^ `:` type($bias) `)`)?
    (`weight_extras` `(` custom<RouteExtras>($weight_extras, type($weight_extras), $weight_extra_maps)^ `)`)?
    (`id_map` `(` $id_map^ `:` type($id_map) `)`)?
    (`capacity` `(` $capacity^ `)`)?
    (`order` `(` `` custom<Keyword>($order)^ `)`)?
    (`tokens_per_group` `(` $tokens_per_group^ `)`)?
    custom<Outs>($inits, type($inits), type($results))
    attr-dict-with-keyword
    (`logits` $logits^)?
    (`weights` $weights^)?
  }];

  let hasRegionVerifier = 1;
  let extraClassDeclaration = destinationStyleDecl # [{
    /// What an index expression is made of, in the order of the maps' dimensions.
    enum Dim : unsigned { kToken, kExpert, kChoice, kSum, kNumDims };
    /// t, e, j, k.
    static ::llvm::ArrayRef<::llvm::StringRef> getDimNames();

    ::mlir::Value getWeightsInit() { return getInits()[0]; }
    ::mlir::Value getIdsInit() { return getInits()[1]; }
    ::mlir::Value getOffsetsInit() { return getInits()[2]; }
    ::mlir::Value getSlotsInit() { return getInits()[3]; }
    ::mlir::Value getSourceInit() { return getInits()[4]; }

    ::mlir::AffineMap getRouterMap();
    /// True for a router E×K, `[e, k]`; false for K×E, `[k, e]`.
    bool isExpertMajor();
    /// True if the logits region yields a second value, the mix of the gate.
    bool hasMix();
    /// T, the router's E, k, K, and the E' of offsets; kDynamic if unknown.
    int64_t getNumTokens();
    int64_t getNumRouterExperts();
    int64_t getTopK();
    int64_t getLength();
    int64_t getNumExperts();
    void getAsmBlockArgumentNames(::mlir::Region &, ::mlir::OpAsmSetValueNameFn);
  }];
}

#endif // MOE_ROUTE_OP_TD
