// RUN: moe-opt %s --split-input-file --moe-merge-launches --canonicalize --cse | FileCheck %s
// RUN: moe-opt %s --split-input-file --moe-merge-launches --remarks-filter-missed=.* --remark-format=emitRemark \
// RUN:     -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK
// RUN: moe-opt %s --split-input-file --moe-merge-launches=all --canonicalize --cse | FileCheck %s --check-prefix=ALL

// Two phases: the first shares a loop, so that it takes any grid; the second is
// run for each of the blocks that it had, by part of the threads.
module attributes {gpu.container_module} {
  // CHECK-LABEL: func.func @two(
  // CHECK-SAME:    %[[X:.*]]: memref<64xi32>, %[[Y:.*]]: memref<64xi32>)
  // CHECK:       %[[FLAGS:.*]] = memref.alloc() : memref<18xi64>
  // CHECK-DAG:   memref.extract_aligned_pointer_as_index %[[FLAGS]]
  // CHECK:       gpu.launch_func @moe_kernels::@two_phases blocks in (%c9, %c1, %c1) threads in (%c64, %c1, %c1)
  // CHECK-SAME:    dynamic_shared_memory_size %c512_i32
  // CHECK-SAME:    args(%{{.*}} : !llvm.ptr, %{{.*}} : !llvm.ptr, %{{.*}} : !llvm.ptr, %c0_i64 : i64) {moe.cooperative}
  // CHECK-NOT:   gpu.launch_func
  // ALL:         @two_phases
  func.func @two(%x: memref<64xi32>, %y: memref<64xi32>) attributes {moe.merge_launches = true} {
    %c1 = arith.constant 1 : index
    %c5 = arith.constant 5 : index
    %c9 = arith.constant 9 : index
    %c32 = arith.constant 32 : index
    %c64 = arith.constant 64 : index
    %s256 = arith.constant 256 : i32
    %s512 = arith.constant 512 : i32
    %n = arith.constant 64 : i32
    %xi = memref.extract_aligned_pointer_as_index %x : memref<64xi32> -> index
    %xn = arith.index_cast %xi : index to i64
    %xp = llvm.inttoptr %xn : i64 to !llvm.ptr
    gpu.launch_func @moe_kernels::@fill blocks in (%c9, %c1, %c1) threads in (%c64, %c1, %c1)
        dynamic_shared_memory_size %s256 args(%xp : !llvm.ptr, %n : i32)
    %yi = memref.extract_aligned_pointer_as_index %y : memref<64xi32> -> index
    %yn = arith.index_cast %yi : index to i64
    %yp = llvm.inttoptr %yn : i64 to !llvm.ptr
    gpu.launch_func @moe_kernels::@copy blocks in (%c5, %c1, %c1) threads in (%c32, %c1, %c1)
        dynamic_shared_memory_size %s512 args(%xp : !llvm.ptr, %yp : !llvm.ptr)
    return
  }

  // CHECK:       gpu.module @moe_kernels
  // CHECK-NOT:   llvm.func @fill
  // CHECK-NOT:   llvm.func @copy
  // CHECK:       llvm.func @two_phases(%[[A:.*]]: !llvm.ptr<1>, %[[B:.*]]: !llvm.ptr<1>, %[[F:.*]]: !llvm.ptr<1>, %[[TICKET:.*]]: i64)
  // CHECK-SAME:    nvvm.maxntid = array<i32: 64, 1, 1>
  // CHECK-DAG:   %[[THREAD:.*]] = nvvm.read.ptx.sreg.tid.x
  // CHECK-DAG:   %[[BLOCK:.*]] = nvvm.read.ptx.sreg.ctaid.x
  // CHECK-DAG:   %[[GRID:.*]] = nvvm.read.ptx.sreg.nctaid.x
  // The first phase; its barrier is of all threads.
  // CHECK:       scf.for %[[I:.*]] = %[[BLOCK]] to %c64_i32{{.*}} step %[[GRID]]
  // CHECK:         llvm.store %[[I]]
  // CHECK:         nvvm.barrier0
  // The hand-off.
  // CHECK:       %[[NUMBER:.*]] = arith.addi %[[TICKET]], %c1_i64
  // CHECK:       nvvm.barrier0
  // CHECK:       %[[IS_FIRST:.*]] = arith.cmpi eq, %[[BLOCK]], %c0_i32
  // CHECK:       scf.if %[[IS_FIRST]] {
  // CHECK:         scf.for
  // CHECK:           scf.while
  // CHECK:             %[[SEEN:.*]] = llvm.load %{{.*}} atomic syncscope("device") acquire
  // CHECK:             arith.cmpi ne, %[[SEEN]], %[[NUMBER]]
  // CHECK:             nvvm.nanosleep
  // CHECK:         nvvm.barrier0
  // CHECK:         scf.for
  // CHECK:           llvm.store %[[NUMBER]], %{{.*}} atomic syncscope("device") release
  // CHECK:       } else {
  // CHECK:         llvm.store %[[NUMBER]], %{{.*}} atomic syncscope("device") release
  // CHECK:         scf.while
  // CHECK:           llvm.load %{{.*}} atomic syncscope("device") acquire
  // CHECK:         nvvm.barrier0
  // CHECK:       }
  // The second phase: 5 blocks, 32 threads, a barrier of these.
  // CHECK:       %[[WARP:.*]] = arith.divui %[[THREAD]], %c32_i32
  // CHECK:       %[[UNIFORM:.*]] = nvvm.shfl.sync idx %{{.*}}, %[[WARP]]
  // CHECK:       %[[WORKS:.*]] = arith.cmpi slt, %[[UNIFORM]], %c1_i32
  // CHECK:       scf.if %[[WORKS]] {
  // CHECK:         scf.for %[[NUMBER2:.*]] = %[[BLOCK]] to %c5_i32{{.*}} step %[[GRID]]
  // CHECK:           llvm.getelementptr %[[A]][%[[NUMBER2]]]
  // CHECK:           llvm.load %{{.*}} : !llvm.ptr<1> -> i32
  // CHECK:           nvvm.barrier id = %c1_i32{{.*}} number_of_threads = %c32_i32
  // What was a constant of the grid's size.
  // CHECK:           llvm.store %c5_i32
  // CHECK:           nvvm.barrier id = %c1_i32{{.*}} number_of_threads = %c32_i32
  // The flags are no arrivals of a replay.
  // CHECK:       llvm.store %c0_i64, %{{.*}} : i64, !llvm.ptr<1>
  // CHECK:       llvm.store %c0_i64, %{{.*}} : i64, !llvm.ptr<1>
  // CHECK:       llvm.return
  gpu.module @moe_kernels {
    llvm.func @fill(%x: !llvm.ptr<1>, %n: i32) attributes {gpu.kernel, nvvm.kernel} {
      %block = nvvm.read.ptx.sreg.ctaid.x : i32
      %grid = nvvm.read.ptx.sreg.nctaid.x : i32
      scf.for %i = %block to %n step %grid : i32 {
        %p = llvm.getelementptr %x[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
        llvm.store %i, %p : i32, !llvm.ptr<1>
        nvvm.barrier0
      }
      llvm.return
    }
    llvm.func @copy(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>) attributes {gpu.kernel, nvvm.kernel} {
      %block = nvvm.read.ptx.sreg.ctaid.x : i32
      %grid = nvvm.read.ptx.sreg.nctaid.x : i32
      %p = llvm.getelementptr %x[%block] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
      %v = llvm.load %p invariant : !llvm.ptr<1> -> i32
      nvvm.barrier0
      %q = llvm.getelementptr %y[%v] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
      llvm.store %grid, %q : i32, !llvm.ptr<1>
      llvm.return
    }
  }
}

// -----

// Phases of one block each need no barrier of the grid; a grid that is not a
// constant is a parameter; what stands between launches, and what cannot be a
// phase, splits them.
module attributes {gpu.container_module} {
  // CHECK-LABEL: func.func @split(
  // CHECK:       %[[BLOCKS:.*]] = arith.maxui %{{.*}}, %c1
  // CHECK:       %[[GRID:.*]] = arith.minui %[[BLOCKS]], %c1024
  // CHECK:       gpu.launch_func @moe_kernels::@split_phases blocks in (%[[GRID]], %c1, %c1)
  // CHECK-SAME:    args(%{{.*}} : !llvm.ptr, %{{.*}} : i64, %{{.*}} : !llvm.ptr, %c0_i64 : i64) {moe.cooperative}
  // CHECK:       scf.if
  // CHECK-NEXT:    gpu.launch_func @moe_kernels::@step
  // CHECK:       gpu.launch_func @moe_kernels::@registers
  // CHECK:       gpu.launch_func @moe_kernels::@split_phases_0 blocks in (%c1, %c1, %c1)
  // REMARK:      remark: [Missed] gpu-merge | Category:MoEMergeLaunches | {{.*}}'scf.if' stands between launches
  // REMARK:      remark: [Missed] gpu-merge | {{.*}}stays a launch: its threads share registers out by setmaxnreg
  func.func @split(%p: !llvm.ptr, %n: index, %some: i1) attributes {moe.merge_launches = true} {
    %c1 = arith.constant 1 : index
    %c32 = arith.constant 32 : index
    gpu.launch_func @moe_kernels::@step blocks in (%c1, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    gpu.launch_func @moe_kernels::@step blocks in (%n, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    scf.if %some {
      gpu.launch_func @moe_kernels::@step blocks in (%c1, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    }
    gpu.launch_func @moe_kernels::@registers blocks in (%c1, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    gpu.launch_func @moe_kernels::@step blocks in (%c1, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    gpu.launch_func @moe_kernels::@step blocks in (%c1, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    return
  }

  // Nobody asked.
  // CHECK-LABEL: func.func @plain(
  // CHECK-COUNT-2: gpu.launch_func @moe_kernels::@step
  // ALL-LABEL:   func.func @plain(
  // ALL:         gpu.launch_func @moe_kernels::@plain_phases
  func.func @plain(%p: !llvm.ptr) {
    %c1 = arith.constant 1 : index
    %c32 = arith.constant 32 : index
    gpu.launch_func @moe_kernels::@step blocks in (%c1, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    gpu.launch_func @moe_kernels::@step blocks in (%c1, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    return
  }

  // Somebody declined.
  // ALL-LABEL:   func.func @declined(
  // ALL-COUNT-2: gpu.launch_func @moe_kernels::@step
  func.func @declined(%p: !llvm.ptr) attributes {moe.merge_launches = false} {
    %c1 = arith.constant 1 : index
    %c32 = arith.constant 32 : index
    gpu.launch_func @moe_kernels::@step blocks in (%c1, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    gpu.launch_func @moe_kernels::@step blocks in (%c1, %c1, %c1) threads in (%c32, %c1, %c1) args(%p : !llvm.ptr)
    return
  }

  // CHECK:       llvm.func @split_phases(
  // CHECK:         scf.while
  // CHECK:       llvm.func @split_phases_0(
  // CHECK-NOT:     scf.while
  // CHECK:         nvvm.barrier0
  // CHECK-NOT:     scf.while
  // CHECK:         llvm.return
  gpu.module @moe_kernels {
    llvm.func @step(%x: !llvm.ptr<1>) attributes {gpu.kernel, nvvm.kernel} {
      %block = nvvm.read.ptx.sreg.ctaid.x : i32
      %p = llvm.getelementptr %x[%block] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
      llvm.store %block, %p : i32, !llvm.ptr<1>
      llvm.return
    }
    llvm.func @registers(%x: !llvm.ptr<1>) attributes {gpu.kernel, nvvm.kernel} {
      nvvm.setmaxregister decrease 40
      llvm.return
    }
  }
}
