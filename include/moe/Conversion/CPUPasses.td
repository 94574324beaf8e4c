//===- CPUPasses.td - Kernel-level ops to code for CPUs -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_CONVERSION_CPUPASSES_TD
#define MOE_CONVERSION_CPUPASSES_TD

include "mlir/Pass/PassBase.td"

def MoESelectCPUStrategy : Pass<"moe-select-cpu-strategy"> {
  let summary = "decides how grouped matmuls, gates and plans run on a CPU";
  let description = [{
    Writes a `moe.lowering_config = #moe.cpu_matmul<…>` on each
    `moe.grouped_matmul` that moe-grouped-matmul-to-vector can lower, from the
    vector instructions that `isa` names and the sizes of the op; an op that has
    one (pinned by a user) keeps it. Later passes only read it. A *passed* remark
    says what was chosen and why; ops that get none decompose, and a *missed* remark
    says why and what to change.

    Sizes follow from a core's caches: the weights of a tile, or their panel, take
    half of the first, a block of rows at most half of the second. The module says
    how large they are, otherwise they are taken to be 48 KB and 1 MB. Of packed
    weights a part of a panel takes two thirds of the first, or a sixteenth of the
    second where tiles are tall: 12 × 32 with 32 registers.

    ```mlir
    module attributes {dlti.target_system_spec = #dlti.target_system_spec<
        "CPU" = #dlti.target_device_spec<"vector_isa" = "avx512",
            "L1_cache_size_in_bytes" = 32768 : i64, "L2_cache_size_in_bytes" = 2097152 : i64>>} {}
    ```

    What can be lowered: static N and K, factors of f32, f16 or bf16, weights with
    k or n as the last index, packed as moe-pack-weights does it (all of an op's or
    none), or computed by a decode region of elementwise ops, extras that n indexes
    at most as the last index, and an epilogue and prologues of elementwise ops.

    A `moe.gate` that moe-gate-to-vector can lower (static E up to 512, static k up
    to 64) gets `moe.lowering_config = #moe.cpu_routing<block_tokens = 32>`, the
    tokens of a task; a `moe.plan` that moe-plan-to-loops can lower (no capacity)
    256, the least.

    Before:

    ```mlir
    %h = moe.grouped_matmul offsets(...) products(%x[t, k] * %w[e, n, k] : ...) outs(...) { ... }
    ```

    After `moe-select-cpu-strategy{isa=avx512bf16}`:

    ```mlir
    %h = moe.grouped_matmul offsets(...) products(%x[t, k] * %w[e, n, k] : ...) outs(...)
        attributes {moe.lowering_config = #moe.cpu_matmul<tile_rows = 4, tile_columns = 6, ...>} { ... }
    ```
  }];
  let options = [
    Option<"isa", "isa", "std::string", "\"\"",
           "The vector instructions: generic, avx2, avx512, avx512bf16 or amx-bf16; "
           "without, what the target says, or generic">
  ];
}

def MoESplitRoute : Pass<"moe-split-route"> {
  let summary = "makes a moe.route matmul, gate and plan again";
  let description = [{
    On a CPU the parts of a route have code of their own: the logits are a grouped
    matmul of dense rows, gate and plan are ops, which moe-select-cpu-strategy
    decides on. The region of the logits is the matmul's epilogue where it has
    nothing but ops of arith, which round alike in vectors; what else it may have
    (a tanh) stays scalar, in loops between matmul and gate, as the region of the
    weights does after the gate. Rows are cut into up to 16 groups, for threads.

    Before: `%w, %ids, %offsets, %slots, %source = moe.route ... logits { ... }`

    After (shortened):

    ```mlir
    %logits = moe.grouped_matmul offsets(%groups : tensor<17xi32>) products(%x[m, k] * %router[n, k] : ...)
        outs(%empty : tensor<?x64xf32>) { ... }
    %w, %ids = moe.gate score(softmax) ins(%logits : tensor<?x64xf32>) outs(...)
    %offsets, %slots, %source = moe.plan ids(%ids : tensor<?x8xi32>) outs(...)
    ```
  }];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::scf::SCFDialect",
    "::mlir::tensor::TensorDialect", "::mlir::moe::MoEDialect"
  ];
}

def MoEGroupedMatmulToVector : Pass<"moe-grouped-matmul-to-vector"> {
  let summary = "lowers configured grouped matmuls on memrefs to vector code";
  let description = [{
    Takes each `moe.grouped_matmul` on memrefs that has a
    `#moe.cpu_matmul` as `moe.lowering_config`; others are left alone.

    Rows and weights are read where they are, in the layout they have: both run
    along k, so a tile of `tile_rows` × `tile_columns` results keeps one vector of
    partial sums for each, and adds their lanes at the end; gathering costs one
    index a row. Weights that moe-pack-weights packed are read along n, a panel of
    32 columns at a time, and an element of a row, or a pair of bf16, is broadcast.
    The sums of a block of columns go to a scratch block that stays in the cache;
    the epilogue runs over it, along n.

    Tasks of one parallel loop: (non-empty expert, block of columns) for stored
    rows; a block of columns for combined ones, which adds the experts' rows in
    ascending order into a slice of its own. So no result depends on the number
    of threads, nor, as the order of a sum over k is one, on the other rows.

    With `kernel = amx`, weights with k last are the first operand of
    `amx.tile_mulf` as they are, 16 columns a tile; rows are turned into a panel of
    pairs of k, once for a block of columns; and four tiles of results, n × rows,
    stay in registers. Weights with n last are the second operand, from a panel of
    pairs of k, once for a block of rows, and results rows × n. Packed weights are
    the second operand where they lie, and stored rows, but for the last few of a
    block, the first one where they lie.

    Before:

    ```mlir
    moe.grouped_matmul offsets(%o : memref<65xi32>) products(%x[m, k] * %w[e, n, k] : ...) outs(%y : ...) { ... }
    ```

    After (shortened):

    ```mlir
    scf.parallel (%task) = (%c0) to (%num_tasks) step (%c1) {
      %sums = memref.alloca() : memref<1x128x48xf32>
      scf.for %n = ... {
        scf.for %row = ... {
          %acc:24 = scf.for %k = ... iter_args(...) {
            %a = vector.load %x[%m, %k] : memref<?x2048xbf16>, vector<32xbf16>
            %b = vector.load %w[%e, %n, %k] : memref<64x1024x2048xbf16>, vector<32xbf16>
            %s = x86vector.avx512.dot %acc, %a, %b : vector<32xbf16> -> vector<16xf32>
            ...
          }
          ... vector.shuffle, arith.addf: sums of lanes; vector.store %sums
        }
      }
      scf.for %row = ... { ... epilogue on vectors; vector.store %y[%m, %n] }
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::amx::AMXDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect",
    "::mlir::x86vector::X86VectorDialect"
  ];
}

def MoEGateToVector : Pass<"moe-gate-to-vector"> {
  let summary = "lowers configured gates on memrefs to vector code";
  let description = [{
    Takes each `moe.gate` on memrefs whose `moe.lowering_config` is
    `#moe.cpu_routing<block_tokens = N>`; others are left alone. A task of a
    parallel loop has N tokens.

    The experts of a token are vectors of 16, the lanes of the fixed tree of sums,
    and the recipe for exp runs on them: scores are those of `moe-decompose` bit
    for bit. A key becomes an i64 that sorts as (key, −id), so that a choice is one
    maximum over registers, ties and NaN included; k rounds take one each. Groups
    are ranked in the same way.

    Before:

    ```mlir
    moe.gate score(softmax) ins(%logits : memref<?x64xf32>) outs(%weights, %ids : memref<?x8xf32>, memref<?x8xi32>)
        {moe.lowering_config = #moe.cpu_routing<block_tokens = 32>}
    ```

    After (shortened):

    ```mlir
    scf.parallel (%task) = (%c0) to (%num_tasks) step (%c1) {
      scf.for %t = ... {
        %x0 = vector.load %logits[%t, %c0] : memref<?x64xf32>, vector<16xf32>
        ...
        %chosen:9 = scf.for %j = %c0 to %c8 step %c1 iter_args(...) {
          %max = arith.maxsi %number0, %number1 : vector<8xi64>
          ...
          memref.store %id, %ids[%t, %j] : memref<?x8xi32>
          ...
        }
        vector.maskedstore %weights[%t, %c0], ...
      }
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
    "::mlir::vector::VectorDialect"
  ];
}

def MoEForallToParallel : Pass<"moe-forall-to-parallel"> {
  let summary = "gives the tasks of scf.forall on memrefs to threads";
  let description = [{
    An `scf.forall` over one dimension becomes an `scf.parallel`, for
    `moe-outline-parallel`. Left alone, and so run in turn, are loops over several
    dimensions, those around or inside other parallel loops, and those whose
    bodies allocate memory, call functions or hold moe ops.

    Before: `scf.forall (%task) in (%num_tasks) { ... }`

    After: `scf.parallel (%task) = (%c0) to (%num_tasks) step (%c1) { ... }`
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::scf::SCFDialect"];
}

def MoEPackToVector : Pass<"moe-pack-to-vector"> {
  let summary = "lowers packing of weights on tensors to vector code";
  let description = [{
    Takes each `linalg.pack` on tensors that packs E×N×K or E×K×N weights of f32,
    f16 or bf16 as `moe-pack-weights` lays them out, with static N and K; columns
    at regular distances (gate and up in turns) are read where they are. Others
    are left alone, for `moe-decompose-pack`.

    A task of a parallel loop is a panel of 32 columns. Where k runs last, squares
    of registers of lanes of 32 bits, an f32 or two narrower elements, are loaded
    along k, transposed by shuffles, and stored along n. Where n does, rows are
    copied, two at a time interleaved for bf16. The ends of N and K have no
    scalar loops and no masks: vectors there begin earlier, and zeros take the
    place of what is none of theirs.

    Before:

    ```mlir
    %p = linalg.pack %w inner_dims_pos = [1, 2] inner_tiles = [32, 2] into %e
        : tensor<?x1024x2048xbf16> -> tensor<?x32x1024x32x2xbf16>
    ```

    After, with `isa=avx512` (shortened):

    ```mlir
    %p = scf.forall (%task) in (%num_tasks) shared_outs(%out = %e) -> (tensor<?x32x1024x32x2xbf16>) {
      ... %panel = tensor.extract_slice %out[%expert, %p, 0, 0, 0] [1, 1, 1024, 32, 2] [1, 1, 1, 1, 1]
      %copied = scf.for %row = %c0 to %c1024 step %c16 iter_args(...) {
        %a = vector.transfer_read %w[%expert, %n, %k] : tensor<?x1024x2048xbf16>, vector<32xbf16>
        ... vector.shuffle %a, %b [0, 16, 1, 17, 4, 20, 5, 21, ...] : vector<16xi32>, vector<16xi32>
        ... vector.transfer_write %columns, %panel[%row, %c0] : vector<32xbf16>, tensor<1024x64xbf16>
      }
      ... tensor.parallel_insert_slice
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect",
    "::mlir::vector::VectorDialect"
  ];
  let options = [
    Option<"isa", "isa", "std::string", "\"\"",
           "The vector instructions: generic, avx2, avx512, avx512bf16 or amx-bf16; "
           "without, what the target says, or generic">
  ];
}

def MoEPlanToLoops : Pass<"moe-plan-to-loops"> {
  let summary = "lowers configured plans on memrefs to a parallel counting sort";
  let description = [{
    Takes each `moe.plan` on memrefs without a capacity whose
    `moe.lowering_config` is `#moe.cpu_routing<block_tokens = N>`; others are left
    alone.

    Tokens are cut into up to 32 chunks of a multiple of N, which follows from
    their number alone. A parallel loop counts the choices of each expert in each
    chunk, a scan over (expert, chunk) finds where a chunk's rows of an expert
    begin, and another parallel loop hands them out: a stable sort, the same on
    any number of threads.

    Before:

    ```mlir
    moe.plan ids(%ids : memref<?x8xi32>) outs(%offsets, %slots, %source : ...)
        {moe.lowering_config = #moe.cpu_routing<block_tokens = 256>}
    ```

    After (shortened):

    ```mlir
    %counts = memref.alloc() : memref<32x64xi32>
    scf.parallel (%chunk) = (%c0) to (%num_chunks) step (%c1) { ... memref.store %more, %counts[%chunk, %e] }
    scf.for %e = ... { scf.for %chunk = ... { memref.store %row, %counts[%chunk, %e] } }
    scf.parallel (%chunk) = (%c0) to (%num_chunks) step (%c1) {
      ... memref.store %row, %slots[%t, %j]; memref.store %choice, %source[%row]
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect"
  ];
}

def MoEApproximateVectorMath : Pass<"moe-approximate-vector-math"> {
  let summary = "computes functions of vectors by polynomials";
  let description = [{
    `math` ops on vectors become polynomials (upstream's, within a few units in
    the last place of f32), as no library is called for a vector; those on scalars
    are left for libm. NaN and infinities come out as from libm.

    Before: `%e = math.exp %x : vector<16xf32>`

    After: a reduction of the argument, six `math.fma`, a scaling by a power of 2.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
    "::mlir::vector::VectorDialect"
  ];
}

def MoEOutlineParallel : Pass<"moe-outline-parallel", "::mlir::ModuleOp"> {
  let summary = "makes parallel loops calls of moe_rt_parallel_for";
  let description = [{
    The body of each one-dimensional `scf.parallel` without results becomes a
    function, which `moe_rt_parallel_for` calls once for each task: an artifact
    knows no threads, its host brings them (`moe/Runtime/moe.h`). Without a host's
    function the tasks run one after the other, and so does a single one: no
    thread is woken for it. The values that the body uses
    travel in a struct on the stack.

    Before:

    ```mlir
    scf.parallel (%i) = (%c0) to (%n) step (%c1) { use(%buffer, %i) }
    ```

    After (shortened):

    ```mlir
    llvm.store %buffer, %context[0]
    llvm.call @moe_rt_parallel_for(%n, %layer_task0, %context)
    ...
    func.func private @layer_task0(%context: !llvm.ptr, %i: i64) { use(%buffer, %i) }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::LLVM::LLVMDialect", "::mlir::scf::SCFDialect"
  ];
}

def MoEEmulateAMX : Pass<"moe-emulate-amx"> {
  let summary = "makes AMX's tiles loops over vectors";
  let description = [{
    Tiles of the `amx` dialect become buffers on the stack, and its ops loops over
    their rows, so that code for AMX runs on any machine: for tests. A product of
    bf16 adds up in the order of Intel's manual; denormals, which the instruction
    takes as 0, are kept. A loop carries tiles or other values, not both.

    Before:

    ```mlir
    %c = amx.tile_mulf %a, %b, %acc : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
    ```

    After (shortened):

    ```mlir
    scf.for %m = %c0 to %c16 step %c1 {
      %sums:2 = scf.for %k = %c0 to %c16 step %c1 iter_args(...) {
        %even, %odd = vector.deinterleave %row : vector<32xbf16> -> vector<16xbf16>
        ... vector.fma
      }
      %sum = arith.addf %sums#0, %sums#1 : vector<16xf32>
      ...
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"
  ];
}

#endif // MOE_CONVERSION_CPUPASSES_TD
