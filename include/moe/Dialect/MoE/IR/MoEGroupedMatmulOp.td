//===- MoEGroupedMatmulOp.td - moe.grouped_matmul -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_GROUPED_MATMUL_OP_TD
#define MOE_GROUPED_MATMUL_OP_TD

include "moe/Dialect/MoE/IR/MoEBase.td"

def MoE_GroupedMatmulOp : MoE_BufferizableOp<"grouped_matmul", [
    SingleBlockImplicitTerminator<"::mlir::moe::YieldOp">]> {
  let summary = "products of each expert's rows and weights, with a scalar epilogue";
  let description = [{
    ```
    offsets: E+1 [, source: M], lhs …, weights …, extras … [, slots: T×k, weights: T×k, base: T×N]
      →  rows: M×N …   (or, combined, y: T×N)
    product_p[m, n] = Σ_terms Σ_k lhs[m or t, k] · weight[e, n, k]
    rows[m, n] = epilogue(product_0[m, n], …, extras …)
    ```

    For every expert e, each of its rows m in [offsets[e], offsets[e+1]) and
    every column n. What an operand is indexed by stands behind its name, in
    affine expressions of

    | name | what                                              |
    |------|---------------------------------------------------|
    | `e`  | the expert                                        |
    | `m`  | the row                                           |
    | `t`  | the token of the row, `source[m] floordiv top_k`  |
    | `j`  | its choice, `source[m] mod top_k`                 |
    | `n`  | the column of the result                          |
    | `k`  | the position in the sum, for each term its own    |

    So `%x[t, k]` gathers rows and `%x[m, k]` reads them in place; `%w[e, n, k]`
    and `%w[e, k, n]` are the two layouts of checkpoints, `%w[e, n + 1024, k]` is
    the second half of a stacked weight and `%w[e, 2 * n, k]` one of an
    interleaved pair, `%w[e, n floordiv 32, k floordiv 2, n mod 32, k mod 2]` a
    packed one; `%b[e, n]` is a bias, `%s[t, j]` the weight of a choice, `%r[m]` a
    scale of rows. No layout needs a copy, and none is named.

    * *Products.* A product is a sum of terms `lhs * weight`, added in f32
      (operands are extended first), in ascending k within a term on the general
      lowering; other lowerings may add in another order, one order for an
      output whatever the number of rows, tiles or threads.
    * *Decode.* The weight of a term may be stored in another form: then it is
      written `decode(%w[…], %scales[…], …)`, and a region gives its value from
      n, k and the elements stored.
    * *Prologue.* The lhs of a term may be computed from its rows: then it is
      written `prologue(%x[t, k], %s[t, j], …)`, and a region gives its value
      from the elements of these operands, the first being the rows. What it
      means is that M×K values of the type that it yields are stored first, and
      then multiplied: its casts are rounding points.
    * *Epilogue.* The region maps the products (f32) and the elements of the
      extras to one scalar per destination: any activation, bias, clamp, scale or
      rounding. Its casts are rounding points.
    * *Combine.* With `combine`, the rows are not stored but added into the
      tokens' results, as `moe.combine` does: in ascending order of the slots, in
      f32 with one fused multiply-add each, `base` last, one rounding at the
      store. The destination T×N is overwritten.
    * Without it, rows that nobody owns keep the destination's value. Offsets
      ascend within [0, M], as for `moe.expert`.

    Constraints:

    * grouped_matmul_c1: operands are all tensors or all memrefs.
    * grouped_matmul_c2: offsets has at least one element.
    * grouped_matmul_c3: there is an init; each is M×N, of one shape. With
      `combine` there is one, T×N. An lhs `[m, k]` has M rows.
    * grouped_matmul_c4: a product has at least one term, a term at least two
      factors, and there are as many factors as the terms have.
    * grouped_matmul_c5: an operand has one index expression per dimension.
    * grouped_matmul_c6: an lhs, or the first operand of a prologue, is indexed
      `[m, k]` or `[t, k]`; the others of a prologue are not indexed by n.
    * grouped_matmul_c7: a weight is not indexed by m, t or j.
    * grouped_matmul_c8: an extra is not indexed by k.
    * grouped_matmul_c9: t and j need `source` and `top_k`; top_k ≥ 1.
    * grouped_matmul_c10: combine's slots and weights have one shape T×k, with k =
      top_k where it is given, and `base` has the shape of the result.
    * grouped_matmul_c11: no index expression leaves its dimension; divisors are
      positive.
    * grouped_matmul_c12: the epilogue's arguments are an f32 for each product and
      the element of each extra.
    * grouped_matmul_c13: the epilogue yields a scalar for each init, of its
      element type (with `combine`: one float of at most 32 bits).
    * grouped_matmul_c14: a decode region's arguments are n and k (index) and the
      element of each stored operand; it yields one float of at most 32 bits. A
      term with more than two factors has one.
    * grouped_matmul_c15: factors that no region computes are f32, f16 or bf16.
    * grouped_matmul_c16: the regions have no side effects.
    * grouped_matmul_c17: a prologue's arguments are the element of each of its
      operands; it yields one float of at most 32 bits. A term with more than one
      operand for its lhs has one.

    Example (the first half of SwiGLU, reading the tokens themselves; then the
    second half, adding into the tokens; then tokens that are multiplied by the
    weights of their choices first):

    ```mlir
    %h = moe.grouped_matmul offsets(%offsets : tensor<65xi32>)
        source(%source : tensor<?xi32>) top_k(8)
        products(%x[t, k] * %gate_up[e, n, k], %x[t, k] * %gate_up[e, n + 1024, k]
                 : tensor<?x2048xbf16>, tensor<64x2048x2048xbf16>,
                   tensor<?x2048xbf16>, tensor<64x2048x2048xbf16>)
        outs(%init : tensor<?x1024xbf16>) {
    ^bb0(%g: f32, %u: f32):
      ...
      moe.yield %act : bf16
    }
    %y = moe.grouped_matmul offsets(%offsets : tensor<65xi32>)
        products(%h[m, k] * %down[e, n, k] : tensor<?x1024xbf16>, tensor<64x2048x1024xbf16>)
        combine(%slots : tensor<?x8xi32>, %weights : tensor<?x8xf32>)
        outs(%out : tensor<?x2048xbf16>) {
    ^bb0(%p: f32):
      %row = arith.truncf %p : f32 to bf16
      moe.yield %row : bf16
    }
    %h = moe.grouped_matmul offsets(%offsets : tensor<17xi32>)
        source(%source : tensor<?xi32>) top_k(1)
        products(prologue(%x[t, k], %weights[t, j]) * %up[e, n, k]
                 : tensor<?x5120xbf16>, tensor<?x1xbf16>, tensor<16x8192x5120xbf16>)
        outs(%init : tensor<?x8192xf32>) {
    ^bb0(%p: f32):
      moe.yield %p : f32
    } prologue {
    ^bb0(%row: bf16, %weight: bf16):
      %weighted = arith.mulf %row, %weight : bf16
      moe.yield %weighted : bf16
    }
    ```
  }];

  let arguments = (ins
    MoE_Shaped<[I32], [1]>:$offsets,
    Optional<MoE_Shaped<[I32], [1]>>:$source,
    Variadic<MoE_AnyShaped>:$factors,
    Variadic<MoE_AnyShaped>:$extras,
    Optional<MoE_Shaped<[I32], [2]>>:$slots,
    Optional<MoE_Shaped<[F32, F16, BF16], [2]>>:$weights,
    Optional<MoE_Shaped<[F32, F16, BF16], [2]>>:$base,
    Variadic<MoE_Shaped<[AnyType], [2]>>:$inits,
    OptionalAttr<I64Attr>:$top_k,
    AffineMapArrayAttr:$factor_maps,
    DenseI32ArrayAttr:$term_sizes,
    DenseI32ArrayAttr:$lhs_sizes,
    DenseI32ArrayAttr:$product_sizes,
    DefaultValuedAttr<AffineMapArrayAttr, "{}">:$extra_maps
  );
  // Two factor regions for each term, its prologue and its decode region; empty
  // where a factor is read as it is.
  let regions = (region SizedRegion<1>:$epilogue,
                 VariadicRegion<AnyRegion>:$factor_regions);

  let assemblyFormat = [{
    `offsets` `(` $offsets `:` type($offsets) `)`
    (`source` `(` $source^ `:` type($source) `)`)?
    (`top_k` `(` $top_k^ `)`)?
    custom<Products>($factors, type($factors), $factor_maps, $term_sizes, $lhs_sizes,
                     $product_sizes, $factor_regions)
    (`extras` `(` custom<Extras>($extras, type($extras), $extra_maps)^ `)`)?
    (`combine` `(` $slots^ `:` type($slots) `,` $weights `:` type($weights) `)`)?
    (`base` `(` $base^ `:` type($base) `)`)?
    custom<Outs>($inits, type($inits), type($results))
    attr-dict-with-keyword
    $epilogue
    `` custom<FactorRegions>(ref($factor_regions), ref($epilogue))
  }];

  let hasRegionVerifier = 1;
  let extraClassDeclaration = destinationStyleDecl # [{
    /// What an index expression is made of, in the order of the maps' dimensions.
    enum Dim : unsigned { kExpert, kRow, kToken, kChoice, kColumn, kSum, kNumDims };

    /// lhs * weight, or prologue(lhs, lhsExtras…) * decode(stored…).
    struct Term {
      /// The rows, and what else the prologue reads.
      ::mlir::Value lhs;
      ::mlir::AffineMap lhsMap;
      ::llvm::SmallVector<::mlir::Value, 0> lhsExtras;
      ::llvm::SmallVector<::mlir::AffineMap, 0> lhsExtraMaps;
      /// Null where the rows are read as they are.
      ::mlir::Region *prologue = nullptr;
      /// The weight alone, or what the decode region reads.
      ::llvm::SmallVector<::mlir::Value, 1> stored;
      ::llvm::SmallVector<::mlir::AffineMap, 1> storedMaps;
      /// Null where the weight is read as it is.
      ::mlir::Region *decode = nullptr;
      ::mlir::Value getWeight() const { return stored.front(); }
      ::mlir::AffineMap getWeightMap() const { return storedMaps.front(); }
      /// True if the rows are gathered: the lhs is indexed by t.
      bool isGathered() const;
      /// K: the length of the sum; kDynamic if unknown.
      int64_t getLength() const;
    };
    using Product = ::llvm::SmallVector<Term, 1>;
    ::llvm::SmallVector<Product> getProducts();

    bool isCombining() { return static_cast<bool>(getSlots()); }
    /// E, M and N; kDynamic if unknown.
    int64_t getNumExperts();
    int64_t getNumRows();
    int64_t getNumColumns();
    ::mlir::moe::YieldOp getEpilogueYield();
    /// e, m, t, j, n, k.
    static ::llvm::ArrayRef<::llvm::StringRef> getDimNames();
    void getAsmBlockArgumentNames(::mlir::Region &, ::mlir::OpAsmSetValueNameFn);
  }];
}

#endif // MOE_GROUPED_MATMUL_OP_TD
