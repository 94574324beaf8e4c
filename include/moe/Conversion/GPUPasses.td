//===- GPUPasses.td - Kernel-level ops to kernels of NVIDIA GPUs -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_CONVERSION_GPUPASSES_TD
#define MOE_CONVERSION_GPUPASSES_TD

include "mlir/Pass/PassBase.td"

def MoESelectGPUStrategy : Pass<"moe-select-gpu-strategy"> {
  let summary = "decides how each grouped matmul runs on an NVIDIA GPU";
  let description = [{
    Writes a `moe.lowering_config = #moe.gpu_matmul<…>` on each
    `moe.grouped_matmul` that moe-lower-to-gpu can lower, from the shared memory
    of `chip` and the sizes of the op; an op that has one (pinned by a user) keeps
    it, if it fits. Later passes only read it. A *passed* remark says what was
    chosen; ops that get none decompose, and a *missed* remark says why and what
    to change. A function of which each `moe.combine` has at most 16 tokens, a static
    number, gets `moe.merge_launches = true`, unless it has that attribute.

    What can be lowered: rows that are stored (not combined), products of one set
    of rows and one weight each, all f16, all bf16 or all f32 (three products of
    tf32 for each, of which docs/GPU.md says how exact they are) without a decode region,
    static N and K, weights as E×N×K or E×K×N (by linear index expressions) with
    places that are multiples of 16 bytes, or one E×K×2N in which the columns of two
    products alternate, any epilogue of scalar ops. Rows that a prologue computes are
    stored first: `permuted = true`, which can be pinned for others, too.

    Before:

    ```mlir
    %h = moe.grouped_matmul offsets(...) products(%x[t, k] * %w[e, n, k] : ...) outs(...) { ... }
    ```

    After `moe-select-gpu-strategy{chip=sm_80}`:

    ```mlir
    %h = moe.grouped_matmul offsets(...) products(%x[t, k] * %w[e, n, k] : ...) outs(...)
        attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 128, tile_columns = 128, tile_sum = 64,
                                                          warp_rows = 2, warp_columns = 4, stages = 4>} { ... }
    ```
  }];
  let options = [
    Option<"chip", "chip", "std::string", "\"sm_80\"",
           "The GPU: sm_80, sm_86, sm_89, sm_90, sm_90a or sm_120">
  ];
}

def MoEDeviceMath : Pass<"moe-device-math"> {
  let summary = "computes functions of f32 by what a GPU has";
  let description = [{
    `math.exp` and `math.exp2` become `ex2.approx.ftz`: for exp a relative error
    of 2⁻²² + |x| · 2⁻²⁴ at most, subnormal results being 0. Other functions
    become upstream's polynomials, as on a CPU. What NVPTX has instructions for
    (sqrt, fma, floor, …) stays. So nothing of the CUDA toolkit is linked.

    Before: `%e = math.exp %x : f32`

    After:

    ```mlir
    %y = arith.mulf %x, %log2e : f32
    %e = llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f"(%y) : (f32) -> f32
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::math::MathDialect", "::mlir::vector::VectorDialect"
  ];
}

def MoELowerToGPU : Pass<"moe-lower-to-gpu", "::mlir::ModuleOp"> {
  let summary = "lowers configured grouped matmuls, combines and routing to GPU kernels";
  let description = [{
    Takes each `moe.grouped_matmul` on memrefs that has a `#moe.gpu_matmul` or a
    `#moe.gpu_wgmma` as `moe.lowering_config`, and each `moe.combine`, `moe.gate`, `moe.plan` and
    `moe.route` on memrefs in the default layout with static k and H or E (a
    *missed* remark names what stays). The op becomes a
    `gpu.launch_func` (routing: some) of a kernel in `gpu.module @moe_kernels`: an `llvm.func`
    whose parameters are plain pointers, in the order of the op's operands (each
    buffer once), then scalars that the epilogue uses from above, then E where it
    is not static. `docs/GPU.md` has a picture of the kernel.
    A configuration with `permuted` makes two launches: the first stores the rows, as
    a prologue makes them, in the order of the experts.

    Nothing waits for the host: a block finds its tiles from the offsets, on the
    device, and the number of blocks launched is a bound that shapes alone tell
    (any number of blocks gives the same results). Buffers of a kernel are in
    memory that the device can reach, aligned to 16 bytes. Results do not depend
    on tiles that other rows are in: each is one sum in ascending steps of k; a
    token's rows are combined in ascending order of their slots. Plans are
    those of other lowerings bit for bit, and so are ids and weights of equal
    logits; what the kernels of one op share is `memref.alloc`, for later passes
    to place and free.

    A kernel of `#moe.gpu_wgmma` has tensor maps before its other parameters, in
    place of the buffers that only they are of. The launch makes each with
    `nvgpu.tma.create.descriptor` and passes it by value (128 bytes); with `moe.blocks_per_multiprocessor = n` on the launch, n blocks a
    multiprocessor are enough, and the host may start as few. `docs/GPU.md` says
    what a host does for it.

    Before:

    ```mlir
    moe.grouped_matmul offsets(%o : memref<65xi32>) products(%x[m, k] * %w[e, n, k] : ...) outs(%y : ...)
        attributes {moe.lowering_config = #moe.gpu_matmul<...>} { ... }
    ```

    After (shortened):

    ```mlir
    gpu.launch_func @moe_kernels::@layer_matmul blocks in (%blocks, %c1, %c1) threads in (%c256, %c1, %c1)
        dynamic_shared_memory_size %c131072_i32 args(%offsets : !llvm.ptr, %x : !llvm.ptr, ...)
    ...
    gpu.module @moe_kernels {
      llvm.func @layer_matmul(%offsets: !llvm.ptr<1>, ...) attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 256, 1, 1>} {
        scf.for %tile = ... {
          nvvm.cp.async.shared.global ...
          %sums:66 = scf.for %step = ... {
            nvvm.cp.async.wait.group 2
            nvvm.barrier0
            ... nvvm.ldmatrix, nvvm.mma.sync
          }
          ... epilogue, llvm.store
        }
      }
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
    "::mlir::LLVM::LLVMDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::nvgpu::NVGPUDialect",
    "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect",
    "::mlir::vector::VectorDialect"
  ];
}

def MoEDecomposeForGPU : Pass<"moe-decompose-for-gpu"> {
  let summary = "decomposes the moe ops that have no GPU kernel";
  let description = [{
    Replaces, on tensors, each moe op that neither `moe-lower-to-gpu` nor
    `moe-grouped-matmul-to-parallel-loops` takes by its decomposition. Those that
    have a kernel stay.

    Before: `%w, %ids = moe.gate ...  %y = moe.combine ...`

    After: `... scf.for ...  %y = moe.combine ...`
  }];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::bufferization::BufferizationDialect", "::mlir::linalg::LinalgDialect",
    "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"
  ];
}

def MoEGroupedMatmulToParallelLoops : Pass<"moe-grouped-matmul-to-parallel-loops"> {
  let summary = "makes a parallel loop of each grouped matmul";
  let description = [{
    Takes each `moe.grouped_matmul` on memrefs that stores its rows: whatever its
    types, terms and regions, an iteration computes an element of the results, as
    `moe-decompose` does it (one f32 sum in ascending order of k). For GPUs, after
    `moe-lower-to-gpu` took what tensor cores do; an iteration finds its expert
    from the offsets.

    Before:

    ```mlir
    moe.grouped_matmul offsets(%o : memref<65xi32>) products(%x[m, k] * %w[e, n, k] : ...) outs(%y : ...) { ... }
    ```

    After (shortened):

    ```mlir
    scf.parallel (%m, %n) = (%c0, %c0) to (%M, %N) step (%c1, %c1) {
      %e = scf.for ... // counts the offsets up to m
      scf.if %is_owned {
        %sum = scf.for %k = ...
        ... memref.store %result, %y[%m, %n]
      }
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect"
  ];
}

def MoELoopsToGPU : Pass<"moe-loops-to-gpu", "::mlir::ModuleOp"> {
  let summary = "makes GPU kernels of what touches memory besides";
  let description = [{
    After `moe-lower-to-gpu`, for functions that are to leave all memory to the
    device. A `scf.parallel` becomes a kernel with a thread for each iteration;
    other ops that read or write memory become, as long as they follow one
    another, a kernel of one thread, and a *missed* remark names the first. The
    host keeps sizes, views, calls, launches, and loops around launches. What a
    kernel needs from above is a parameter; constants, and what is read of an
    entry's arguments, are computed again in each kernel.

    It is an error if the host would need a value that the device computes, if a
    kernel would have to allocate memory (run `moe-allocations-to-workspace`
    first), or if an op has no code for GPUs.

    Before:

    ```mlir
    scf.parallel (%i) = (%c0) to (%T) step (%c1) { ... memref.store %v, %y[%i] }
    ```

    After (shortened):

    ```mlir
    gpu.launch_func @moe_kernels::@layer_loop blocks in (%blocks, %c1, %c1) threads in (%c256, %c1, %c1)
        args(%y : !llvm.ptr, %T : i64)
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
    "::mlir::LLVM::LLVMDialect", "::mlir::memref::MemRefDialect",
    "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect"
  ];
}

def MoEMergeLaunches : Pass<"moe-merge-launches", "::mlir::ModuleOp"> {
  let summary = "makes one persistent kernel of launches that follow one another";
  let description = [{
    For layers of few tokens, whose kernels are so short that most of their time is
    starting and ending. After `moe-lower-to-gpu`, in functions that have
    `moe.merge_launches = true`, which `moe-select-gpu-strategy` gives to those whose
    `moe.combine`s all have at most 16 tokens, a static number (a user pins true or
    false); with `all`, in all.

    Launches with nothing but sizes, views and addresses between them become one,
    whose kernel runs theirs as phases, one after the other. Its grid is as large
    as the largest of theirs, and at most 1024 blocks; the launch has `moe.cooperative`: the
    host starts no more blocks than run at the same time, so that they can wait for
    each other. A phase whose blocks share a loop (from its block's number in
    steps of the grid) does so with the new grid; another is run once for each
    block that it would have had. Between phases is a barrier of the grid in scratch
    memory (docs/GPU.md has a picture), or of the block, where both are of one block.
    Scratch memory may hold anything: what blocks wait for is told from that by a
    `ticket`, a number of 64 bits that no other launch has. It is the last operand;
    0 here, the run time puts it in. What a kernel has read as constant is read as
    any memory, and results are those of the launches, bit for bit.

    Not merged, with a *missed* remark: a launch between which and the one before is
    anything else, such as a launch under a condition on the number of tokens; one
    whose kernel is not that of an earlier pass (structured, one-dimensional, with
    constant threads and shared memory); kernels with `setmaxnreg`, which count on
    a number of threads.

    Before:

    ```mlir
    gpu.launch_func @moe_kernels::@layer_matmul blocks in (%c24, %c1, %c1) threads in (%c128, %c1, %c1)
        dynamic_shared_memory_size %c73728_i32 args(%a : !llvm.ptr, %b : !llvm.ptr)
    gpu.launch_func @moe_kernels::@layer_combine blocks in (%c4, %c1, %c1) threads in (%c128, %c1, %c1)
        dynamic_shared_memory_size %c0_i32 args(%b : !llvm.ptr, %c : !llvm.ptr)
    ```

    After:

    ```mlir
    %flags = memref.alloc() : memref<48xi64>
    gpu.launch_func @moe_kernels::@layer_phases blocks in (%c24, %c1, %c1) threads in (%c128, %c1, %c1)
        dynamic_shared_memory_size %c73728_i32
        args(%a : !llvm.ptr, %b : !llvm.ptr, %c : !llvm.ptr, %f : !llvm.ptr, %c0_i64 : i64) {moe.cooperative}
    ```
  }];
  let options = [
    Option<"all", "all", "bool", "false", "In all functions that do not decline">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
    "::mlir::LLVM::LLVMDialect", "::mlir::memref::MemRefDialect",
    "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect"
  ];
}

def MoEEmulateNVVM : Pass<"moe-emulate-nvvm", "::mlir::ModuleOp"> {
  let summary = "makes GPU kernels host code that calls the emulation library";
  let description = [{
    Takes each `gpu.module` in the llvm and nvvm dialects, the very IR that is
    translated for NVPTX, and makes it host code next to it: each nvvm op becomes
    a call of `libmoe_emulation` (`moe/Emulation/Emulation.h`), and each load,
    store and atomic of memory that is or may be shared is checked by one before
    it. A kernel `NAME` is launched through the record `moe_emu_kernel_NAME`.
    Objects in shared memory get fixed offsets; dynamic shared memory begins after
    them. docs/Emulation.md says what is modelled.

    An op that is in another dialect, or that the library has nothing for, is an
    error.

    Before:

    ```mlir
    gpu.module @kernels {
      llvm.func @sum(%x: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
        %lane = nvvm.read.ptx.sreg.laneid : i32
        nvvm.barrier0
        ...
      }
    }
    ```

    After (shortened):

    ```mlir
    llvm.func @sum(%x: !llvm.ptr) {
      %lane = llvm.call @moe_emu_laneid() : () -> i32
      llvm.call @moe_emu_bar_sync(%c0, %c0, %where) : (i32, i32, !llvm.ptr) -> ()
      ...
    }
    llvm.mlir.global constant @moe_emu_kernel_sum() : !llvm.struct<(...)> { ... }
    ```
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

#endif // MOE_CONVERSION_GPUPASSES_TD
