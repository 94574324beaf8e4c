//===- Passes.td - Passes that make a C entry of a function -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_PASSES_TD
#define MOE_TARGET_PASSES_TD

include "mlir/Pass/PassBase.td"

def MoEPrepareEntry : Pass<"moe-prepare-entry"> {
  let summary = "makes a function on tensors write its results in place";
  let description = [{
    Prepares one function on tensors, the *entry*, for being called from C
    (`moe-create-c-entry` does the rest, after bufferization):

    * Results become memref arguments after the others. Each is filled with
      `bufferization.materialize_in_destination`, so that bufferization computes
      in the caller's memory where it can and copies where it cannot. Arguments
      become read-only for bufferization.
    * A private function `@NAME.shapes` takes the dynamic sizes of the arguments,
      in order, and returns a status of `moe/Runtime/moe.h` and all sizes of all
      results. The status is MOE_TOO_MANY_CHOICES where tokens times k of a
      `moe.gate`, `moe.dispatch`, `moe.route` or `moe.plan` reaches 2^31,
      MOE_BAD_SHAPE where the sizes of two arguments contradict each other (two
      operands of an op disagree), else 0. Nothing of the computation is left in
      it. A size that depends on the data is -1, and a remark says so; a check
      that does is left out.
    * Other public functions become private.
    * With `statistics`, those of `moe-instrument`, a private copy `@NAME.stats`
      of the entry fills these as well, after the results. The attribute
      `moe.stats` of the entry names it, its shapes, and for each statistic the
      layer and the member of `moe_stats` (`moe/Runtime/moe_stats.h`).
    * With `companion`, a second function is prepared alike: what packs the
      entry's weights (`moe-pack-weights`). Its tensors are slabs of experts,
      `?×…` with no other unknown size, which `slabs` in `moe.entry` says:
      moe-create-c-entry makes a function for one expert as well.

    Names of its arguments (`moe.name`) say what a size is: "T" the tokens of the
    first of these ops, "E" the number of stacked or packed experts, else the
    argument's name and the dimension.

    Runs on any op with a symbol table. Not for functions that others in the
    module call, for functions of several blocks, or after bufferization: each
    is an error.

    Before:

    ```mlir
    func.func @layer(%x: tensor<?x8xf32> {moe.name = "x"}) -> tensor<?x8xf32> {
      ...
      %weights, %ids = moe.gate score(softmax) ... outs(... : tensor<?x2xf32>, tensor<?x2xi32>)
      ...
      return %y : tensor<?x8xf32>
    }
    ```

    After:

    ```mlir
    func.func @layer(%x: tensor<?x8xf32> {bufferization.writable = false, moe.name = "x"},
                     %out: memref<?x8xf32> {moe.name = "y"})
        attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes}} {
      ...
      bufferization.materialize_in_destination %y in restrict writable %out
          : (tensor<?x8xf32>, memref<?x8xf32>) -> ()
      return
    }
    func.func private @layer.shapes(%T: index {moe.name = "T"}) -> (i32, index, index) {
      %0 = arith.muli %T, %c2 : index
      %1 = arith.cmpi uge, %0, %c2147483648 : index
      ...
      return %status, %T, %c8 : i32, index, index
    }
    ```
  }];
  let options = [
    Option<"entryName", "entry", "std::string", "",
           "The function to prepare; by default the only public one with a body">,
    Option<"companionName", "companion", "std::string", "",
           "A function that packs the entry's weights, to be prepared as well; none by default">,
    ListOption<"statistics", "statistics", "std::string",
               "Statistics for callers that ask: any of tokens, choices, contribution, ids">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::affine::AffineDialect",
    "::mlir::bufferization::BufferizationDialect", "::mlir::func::FuncDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"
  ];
}

def MoEAllocationsToWorkspace : Pass<"moe-allocations-to-workspace"> {
  let summary = "places the allocations of an entry in memory of its caller";
  let description = [{
    Gives an entry that `moe-prepare-entry` prepared, and that is on memrefs, one
    more argument, the *workspace*: each `memref.alloc` becomes a view of it, and
    deallocations go. A private function `@NAME.workspace` takes the dynamic sizes
    of the arguments, as `@NAME.shapes` does, and returns how many bytes that
    takes; an *analysis* remark shows the formula. `moe-create-c-entry` checks
    that a caller brings as much.

    Every buffer begins at a multiple of 64 bytes, and has memory of its own, also
    when others are no longer needed: the sum can be checked by hand. Buffers of
    sequential loops are used again in each iteration.

    An allocation stays, with a *missed* remark, if its size depends on data
    rather than on the sizes of arguments (the rows of one expert, in a body that
    is not fused), if a parallel loop makes it, if a loop or branch hands it on,
    or if it is in another function.

    Runs on any op with a symbol table, after bufferization and deallocation.
    Functions without `moe.entry` are left alone.

    Before:

    ```mlir
    func.func @layer(%x: memref<?x8xf32>, %out: memref<?x8xf32>)
        attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes}} {
      %T = memref.dim %x, %c0 : memref<?x8xf32>
      %a = memref.alloc() : memref<65xi32>
      %b = memref.alloc(%T) : memref<?x2xf32>
      ...
      memref.dealloc %a : memref<65xi32>
      memref.dealloc %b : memref<?x2xf32>
      return
    }
    ```

    After:

    ```mlir
    func.func @layer(%x: memref<?x8xf32>, %out: memref<?x8xf32>, %workspace: memref<?xi8>)
        attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes, workspace = @layer.workspace}} {
      %T = memref.dim %x, %c0 : memref<?x8xf32>
      %a = memref.view %workspace[%c0][] : memref<?xi8> to memref<65xi32>
      %b = memref.view %workspace[%c320][%T] : memref<?xi8> to memref<?x2xf32>
      ...
      return
    }
    // (T * 8 + 63) / 64 * 64 + 320
    func.func private @layer.workspace(%T: index {moe.name = "T"}) -> index { ... }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::memref::MemRefDialect"
  ];
}

def MoELaunchesToCalls : Pass<"moe-launches-to-calls", "::mlir::ModuleOp"> {
  let summary = "makes the launches of an entry calls of our run time";
  let description = [{
    For entries that `moe-gpu-lowering` lowered, when `gpu-module-to-binary` has
    compiled the kernels. Each `gpu.launch_func` becomes a call of
    `moe_cuda_call_kernel` (`moe/Runtime/CUDALayer.h`); the entry gets one more
    argument, the record of its call, which keeps the first error. The binaries
    become `@NAME.program`: PTX, the cubin if there is one, and for each kernel
    its name and the shared memory that it is launched with. `moe-create-c-entry`
    then gives its functions a stream.

    Shared memory and the sizes of clusters must be constants. What a kernel is
    passed must be of LLVM's types, or a tensor map that
    `nvgpu.tma.create.descriptor` makes of a memref; it is encoded before the
    launch. `moe.cooperative` on a launch becomes `moe_cuda_call_cooperative`: no more
    blocks than run at the same time, and a number of its own in the last operand.
    `moe.blocks_per_multiprocessor = N` on a launch limits its blocks to N
    for each multiprocessor of the device.

    Before:

    ```mlir
    func.func @layer(%x: memref<?x8xf32>, %out: memref<?x8xf32>)
        attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes}} {
      gpu.launch_func @moe_kernels::@layer_loop blocks in (%n, %c1, %c1) threads in (%c256, %c1, %c1)
          args(%p : !llvm.ptr)
      return
    }
    gpu.binary @moe_kernels [...]
    ```

    After (shortened):

    ```mlir
    func.func @layer(%x: memref<?x8xf32>, %out: memref<?x8xf32>, %call: !llvm.ptr)
        attributes {moe.entry = {program = @layer.program, results = 1 : i64, shapes = @layer.shapes}} {
      llvm.call @moe_cuda_call_kernel(%call, %c0, %sizes, %shared, %args) : (!llvm.ptr, i32, !llvm.ptr, i32, !llvm.ptr) -> ()
      return
    }
    llvm.mlir.global internal @layer.program() : !llvm.struct<(ptr, ptr, i32, ptr)> { ... }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::LLVM::LLVMDialect", "::mlir::memref::MemRefDialect"
  ];
}

def MoECreateCEntry : Pass<"moe-create-c-entry"> {
  let summary = "builds the C functions around a prepared entry";
  let description = [{
    Builds the functions of `moe/Runtime/moe.h` around the function that
    `moe-prepare-entry` prepared and bufferization turned to memrefs, which
    becomes the private `@NAME.body`:

    * `@NAME(tensors..., workspace, workspace_bytes)` and
      `@NAME_packed(tensors, workspace, workspace_bytes)`, where NAME is the
      entry's name as a C identifier.
    * `@NAME_workspace(sizes...)` and `@NAME_workspace_packed(tensors)`: the bytes
      of workspace that a call needs, from the sizes that the caller chooses (each
      once, in the order of the arguments), or from the arguments themselves, 0
      where a call would refuse these. 0 as well without
      `moe-allocations-to-workspace`.
    * `@NAME_shapes(arguments, sizes)`, with `export-shapes`: checks the
      arguments and writes what `@NAME.shapes` returns. For a JIT, whose caller
      has to allocate the results.
    * `@NAME_expert(expert, tensors..., workspace, workspace_bytes)` and
      `@NAME_expert_packed(expert, tensors, workspace, workspace_bytes)`, where
      `moe.entry` has `slabs`: the same call on arguments of one expert, `1×…`,
      which fills slab `expert` of results that have those of all experts.

    Where `moe.entry` names a program (`moe-launches-to-calls`), the data is a
    GPU's: `@NAME` and `@NAME_packed` take a `void *stream` at the end, check that
    data is aligned to 16 bytes, and return MOE_DEVICE_ERROR where the driver
    reports an error; `@NAME_error()` has its text.

    Where `moe.stats` names a variant with statistics, both take `moe_stats *stats`
    after the tensors. NULL calls the plain layer; else the variant runs, and
    `stats[N]` is filled for layer N, where members are not NULL.

    They check every tensor (null, rank, type, shape, row-major strides) before
    they read the first element: arguments against the static sizes, then results
    against the sizes that `@NAME.shapes` computes. Sizes of 1 may have any
    stride, tensors without elements any strides and no data. Then the workspace:
    as many bytes as `@NAME.workspace` computes, aligned to 64, if it is any.

    An entry that runs one of several versions names in `moe.entry` the function
    that chooses: `isa = @NAME.isa`, an `llvm.func` that returns a number from 0
    up, or a negated status, which a call then returns before it checks anything.

    Runs on any op with a symbol table, between bufferization (with identity
    layouts at function boundaries) and the lowering to LLVM. It makes `llvm` ops
    and leaves the conversion of the calls inside, on memrefs and indices, to
    that lowering, with `builtin.unrealized_conversion_cast` between. Functions
    without `moe.entry` are left alone.

    Before:

    ```mlir
    func.func @layer(%x: memref<?x8xf32>, %out: memref<?x8xf32>)
        attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes}} { ... }
    ```

    After (shortened):

    ```mlir
    func.func private @layer.body(%x: memref<?x8xf32>, %out: memref<?x8xf32>) { ... }
    llvm.func internal @layer.check(%arguments: !llvm.ptr, %sizes: !llvm.ptr) -> i32 { ... }
    llvm.func internal @layer.run(%tensors: !llvm.ptr) -> i32 {
      %status = llvm.call @layer.check(%tensors, %sizes) : (!llvm.ptr, !llvm.ptr) -> i32
      ...
      %x = builtin.unrealized_conversion_cast %descriptor : !llvm.struct<...> to memref<?x8xf32>
      ...
      func.call @layer.body(%x, %out) : (memref<?x8xf32>, memref<?x8xf32>) -> ()
      llvm.return %ok : i32
    }
    llvm.func @layer(%0: !llvm.ptr, %1: !llvm.ptr, %workspace: !llvm.ptr, %bytes: i64) -> i32
    llvm.func @layer_packed(%tensors: !llvm.ptr, %workspace: !llvm.ptr, %bytes: i64) -> i32
    ```
  }];
  let options = [
    Option<"exportShapes", "export-shapes", "bool", "false",
           "Also build NAME_shapes, which computes the results' shapes">
  ];
  let dependentDialects = [
    "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect"
  ];
}

#endif // MOE_TARGET_PASSES_TD
