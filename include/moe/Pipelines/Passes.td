//===- Passes.td - Passes that the pipelines are made of ---*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PIPELINES_PASSES_TD
#define MOE_PIPELINES_PASSES_TD

include "mlir/Pass/PassBase.td"

def RunOnMoEFunctions : Pass<"moe-run-on-moe-functions"> {
  let summary = "runs a module pipeline on the functions that hold moe ops";
  let description = [{
    Upstream's bufferization and conversions to LLVM run on whole modules. A host
    has functions of its own in there, with dialects and calling conventions that
    are none of our business. So the functions that hold moe ops, and the
    functions and globals connected with them by symbol uses in either direction,
    move to a module of their own; the pipeline runs there; and what came out
    moves back. Nothing else is visited. Modules within the module are treated
    alike, innermost first.

    Declarations connect nobody: two functions that call `expf` have nothing to do
    with each other. One that the pipeline lowered takes the place of the
    original; if functions that stay use that as well, it is an error.

    Runs on any op with a symbol table. `moe-general-lowering` is this pass.

    Before:

    ```mlir
    func.func @layer(...) { ... moe.gate ... }
    func.func @other(%x: !host.type) { host.op %x : !host.type  return }
    ```

    After `moe-run-on-moe-functions{pipeline=builtin.module(moe-decompose)}`:

    ```mlir
    func.func @other(%x: !host.type) { host.op %x : !host.type  return }
    func.func @layer(...) { ... scf.for ... }
    ```
  }];
  let options = [
    Option<"pipelineText", "pipeline", "std::string", "",
           "What to run, as text: builtin.module(...)">
  ];
  let constructor = "::mlir::moe::createRunOnMoEFunctionsPass(::mlir::OpPassManager())";
}

def InPlaceResults : Pass<"moe-in-place-results"> {
  let summary = "tells which results may be computed in the caller's memory";
  let description = [{
    Before `eliminate-empty-tensors`, which lets the computation of a result begin
    in the caller's memory. One-Shot Bufferize does not know that
    `bufferization.materialize_in_destination` writes to that memory, as its
    destination is a memref; so it may put another tensor there that shares a
    beginning with the result, and read it after the result was written over it.

    What may have begun in the memory of a result must not be read after the
    result is written. Where it might be, this pass drops `restrict`, without
    which elimination leaves the result alone: it is computed aside and copied.

    Before:

    ```mlir
    %zeros = linalg.fill ... outs(%empty : tensor<4x4xf32>) -> tensor<4x4xf32>
    %a = linalg.matmul ... outs(%zeros : tensor<4x4xf32>) -> tensor<4x4xf32>
    %b = linalg.matmul ... outs(%zeros : tensor<4x4xf32>) -> tensor<4x4xf32>
    bufferization.materialize_in_destination %a in restrict writable %out_a ...
    bufferization.materialize_in_destination %b in restrict writable %out_b ...
    ```

    After: %b may still be computed in place, as it is read by nothing that comes
    later.

    ```mlir
    ...
    bufferization.materialize_in_destination %a in writable %out_a ...
    bufferization.materialize_in_destination %b in restrict writable %out_b ...
    ```
  }];
}

def ExpandSmallFloats : Pass<"moe-expand-small-floats"> {
  let summary = "extends floats of 8 and 4 bits by operations on their bits";
  let description = [{
    LLVM has no types for f8E4M3FN, f8E5M2, f4E2M1FN and f8E8M0FNU. An `arith.extf`
    of one of them, or of a vector of them, becomes integer operations and a bitcast
    to f32, which has all of their values; to a narrower type that is rounded once.
    Other types stay: what is left of them upstream expands or refuses.

    Before: `%x = arith.extf %code : f8E5M2 to f32`

    After: `%x = arith.bitcast %bits : i32 to f32`, with %bits from shifts and masks of
    `arith.bitcast %code : f8E5M2 to i8`.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
}

def KeepLoopAnnotations : Pass<"moe-keep-loop-annotations"> {
  let summary = "keeps what is said of loops when they become branches";
  let description = [{
    Upstream carries `llvm.loop_annotation` of an `scf.for` along to the branch
    back to the loop's head, but as a discardable attribute, which nothing reads.
    It becomes the branch's own, which is translated to LLVM IR.

    Before: `llvm.br ^head(%i : i32) {llvm.loop_annotation = #rolled}`

    After: `llvm.br ^head(%i : i32) {loop_annotation = #rolled}`
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

def StridedCopies : Pass<"moe-strided-copies"> {
  let summary = "turns copies that are no memcpy into linalg ops";
  let description = [{
    Upstream lowers a `memref.copy` between buffers that are not contiguous to a
    call of `memrefCopy`, a function of MLIR's run time library. An artifact has no
    such library, so these copies become `linalg.generic`, and loops later. Copies
    between contiguous buffers, and of unranked ones, are left alone; with `all`,
    only those of unranked ones: the memory of a GPU is none that the host copies.

    Before:

    ```mlir
    memref.copy %a, %b : memref<4x4xf32, strided<[8, 1]>> to memref<4x4xf32>
    ```

    After:

    ```mlir
    linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
        ins(%a : memref<4x4xf32, strided<[8, 1]>>) outs(%b : memref<4x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    }
    ```
  }];
  let options = [
    Option<"all", "all", "bool", "false", "Copies between contiguous buffers as well">
  ];
  let dependentDialects = ["::mlir::linalg::LinalgDialect"];
}

def DecomposeSoftmax : Pass<"moe-decompose-softmax"> {
  let summary = "replaces linalg.softmax by reductions and elementwise ops";
  let description = [{
    Upstream has a decomposition of `linalg.softmax`, but no pass that uses it, and
    none of its other passes lower the op. Ops on memrefs are left alone.

    Before:

    ```mlir
    %p = linalg.softmax dimension(1) ins(%x : tensor<?x8xf32>) outs(%e : tensor<?x8xf32>)
        -> tensor<?x8xf32>
    ```

    After (shortened):

    ```mlir
    %max = linalg.generic ... ins(%x : tensor<?x8xf32>) outs(%lowest : tensor<?xf32>) { arith.maxnumf }
    %exp = linalg.generic ... ins(%x, %max : ...) outs(%e : tensor<?x8xf32>) { arith.subf, math.exp }
    %sum = linalg.generic ... ins(%exp : ...) outs(%zeros : tensor<?xf32>) { arith.addf }
    %p = linalg.generic ... ins(%exp, %sum : ...) outs(%e : tensor<?x8xf32>) { arith.divf }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect",
    "::mlir::math::MathDialect", "::mlir::tensor::TensorDialect"
  ];
}

def DecomposePack : Pass<"moe-decompose-pack"> {
  let summary = "replaces linalg.pack by an elementwise copy";
  let description = [{
    `linalg.pack` works on tensors alone and does not bufferize. As a
    `linalg.generic` over the packed tensor, each element reads the one that it is
    of the source, or is padding; nothing is stored in between.

    Before:

    ```mlir
    %p = linalg.pack %w padding_value(%zero : f32) inner_dims_pos = [0] inner_tiles = [32] into %e
        : tensor<70x8xf32> -> tensor<3x8x32xf32>
    ```

    After (shortened):

    ```mlir
    %p = linalg.generic ... outs(%e : tensor<3x8x32xf32>) {
      %n = affine.apply affine_map<(i, j) -> (i * 32 + j)>(%panel, %column)
      %is_inside = arith.cmpi ult, %n, %c70 : index
      %value = scf.if %is_inside -> (f32) { tensor.extract %w[%n, %k] } else { %zero }
      linalg.yield %value : f32
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::scf::SCFDialect",
    "::mlir::tensor::TensorDialect"
  ];
}

def SeparateFills : Pass<"moe-separate-fills"> {
  let summary = "gives each op that writes to a filled tensor one of its own";
  let description = [{
    Two matmuls that add to the same zeros, as the gate and up projections of an
    imported expert do after CSE, cannot both write where the zeros are: one of them
    gets a copy, which reads and writes the whole buffer. Filling twice is cheaper,
    and each fill can then be in the memory of its matmul's result.

    Clones each `linalg.fill` of a `tensor.empty` that has several uses, together
    with the `tensor.empty`, for each of them that is the destination of an op. Runs
    right before bufferization; CSE would undo it. Fills of other tensors, and uses
    that only read, are left alone.

    Before:

    ```mlir
    %empty = tensor.empty(%rows) : tensor<?x8xf32>
    %zeros = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x8xf32>) -> tensor<?x8xf32>
    %gate = linalg.matmul ins(%x, %wg : ...) outs(%zeros : tensor<?x8xf32>) -> tensor<?x8xf32>
    %up = linalg.matmul ins(%x, %wu : ...) outs(%zeros : tensor<?x8xf32>) -> tensor<?x8xf32>
    ```

    After:

    ```mlir
    %empty0 = tensor.empty(%rows) : tensor<?x8xf32>
    %zeros0 = linalg.fill ins(%zero : f32) outs(%empty0 : tensor<?x8xf32>) -> tensor<?x8xf32>
    %gate = linalg.matmul ins(%x, %wg : ...) outs(%zeros0 : tensor<?x8xf32>) -> tensor<?x8xf32>
    %empty = tensor.empty(%rows) : tensor<?x8xf32>
    %zeros = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x8xf32>) -> tensor<?x8xf32>
    %up = linalg.matmul ins(%x, %wu : ...) outs(%zeros : tensor<?x8xf32>) -> tensor<?x8xf32>
    ```
  }];
}

def StrictRounding : Pass<"moe-strict-rounding"> {
  let summary = "keeps casts of floats where they are";
  let description = [{
    `arith-emulate-unsupported-floats` puts casts around operations on bf16 and f16
    and marks them `fastmath<contract>`, which lets canonicalization remove a
    rounding to bf16 that is widened again: x * y + z is then rounded once, where
    the program says twice. This pass, right after that one, takes `contract` from
    every `arith.extf` and `arith.truncf`, so that each operation rounds. Casts that
    the program itself marked are kept, too; removing them is allowed and no duty.

    Before:

    ```mlir
    %p = arith.truncf %p_f32 fastmath<contract> : f32 to bf16
    %q = arith.extf %p fastmath<contract> : bf16 to f32
    ```

    After:

    ```mlir
    %p = arith.truncf %p_f32 : f32 to bf16
    %q = arith.extf %p : bf16 to f32
    ```
  }];
}

#endif // MOE_PIPELINES_PASSES_TD
