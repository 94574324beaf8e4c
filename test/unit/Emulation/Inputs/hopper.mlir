// C[M, N] = A[M, K] · B[N, K]ᵀ, bf16 into f32, as on sm_90a: one warp group loads 128-byte
// swizzled boxes by TMA, another multiplies by wgmma, over two stages with full and empty
// mbarriers. Blocks of 256 threads and 64 x 64 results. Lines with a MARK are what mutants change.
//
// Shared memory: two stages of A (8 KiB) and B (8 KiB), then full[2], empty[2].
!ACC = !llvm.struct<(f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32, f32)>

gpu.module @kernels {
  llvm.mlir.global external @smem() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>

  func.func private @stage(%stage: i32) -> !llvm.ptr<3> {
    %bytes = arith.constant 16384 : i32
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %start = arith.muli %stage, %bytes : i32
    %p = llvm.getelementptr %smem[%start] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
    func.return %p : !llvm.ptr<3>
  }

  // Barrier `stage` of the full ones (kind 0) or the empty ones (1).
  func.func private @barrier(%kind: i32, %stage: i32) -> !llvm.ptr<3> {
    %c3 = arith.constant 3 : i32
    %c4 = arith.constant 4 : i32
    %barriers = arith.constant 32768 : i32
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %k = arith.shli %kind, %c4 : i32
    %s = arith.shli %stage, %c3 : i32
    %ks = arith.addi %k, %s : i32
    %offset = arith.addi %barriers, %ks : i32
    %p = llvm.getelementptr %smem[%offset] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
    func.return %p : !llvm.ptr<3>
  }

  // The stage of step `step`, and the parity that its barriers have the first time.
  func.func private @ring(%step: i32) -> (i32, i32) {
    %c1 = arith.constant 1 : i32
    %stage = arith.andi %step, %c1 : i32
    %round = arith.shrui %step, %c1 : i32
    %parity = arith.andi %round, %c1 : i32
    func.return %stage, %parity : i32, i32
  }

  // A K-major tile with 128-byte rows, swizzled; step `k16` along them.
  func.func private @descriptor(%tile: !llvm.ptr<3>, %k16: i32) -> i64 {
    %c4 = arith.constant 4 : i64
    %c5 = arith.constant 5 : i32
    %mask = arith.constant 16383 : i64
    %rest = arith.constant 4611686293305360384 : i64 // MARK layout
    %address = llvm.ptrtoint %tile : !llvm.ptr<3> to i32
    %byte = arith.shli %k16, %c5 : i32
    %at = arith.addi %address, %byte : i32
    %wide = arith.extui %at : i32 to i64
    %units = arith.shrui %wide, %c4 : i64
    %start = arith.andi %units, %mask : i64
    %d = arith.ori %start, %rest : i64
    func.return %d : i64
  }

  func.func private @produce(%mapA: !llvm.ptr, %mapB: !llvm.ptr, %steps: i32) {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %c6 = arith.constant 6 : i32
    %ticks = arith.constant 1000 : i32
    %bytes = arith.constant 16384 : i32 // MARK bytes
    %m = nvvm.read.ptx.sreg.ctaid.y : i32
    %n = nvvm.read.ptx.sreg.ctaid.x : i32
    %m0 = arith.shli %m, %c6 : i32
    %n0 = arith.shli %n, %c6 : i32
    scf.for %step = %c0 to %steps step %c1 : i32 {
      %stage, %parity = func.call @ring(%step) : (i32) -> (i32, i32)
      %other = arith.xori %parity, %c1 : i32
      %full = func.call @barrier(%c0, %stage) : (i32, i32) -> !llvm.ptr<3>
      %empty = func.call @barrier(%c1, %stage) : (i32, i32) -> !llvm.ptr<3>
      nvvm.mbarrier.try_wait.parity %empty, %other, %ticks : !llvm.ptr<3>, i32, i32 // MARK empty
      nvvm.mbarrier.arrive.expect_tx %full, %bytes : !llvm.ptr<3>, i32 // MARK expect
      %tile = func.call @stage(%stage) : (i32) -> !llvm.ptr<3>
      %tileB = llvm.getelementptr %tile[8192] : (!llvm.ptr<3>) -> !llvm.ptr<3>, i8
      %k = arith.shli %step, %c6 : i32
      nvvm.cp.async.bulk.tensor.shared.cluster.global %tile, %mapA, %full, box[%k, %m0] {isCTAOnly = true} : !llvm.ptr<3>, !llvm.ptr
      nvvm.cp.async.bulk.tensor.shared.cluster.global %tileB, %mapB, %full, box[%k, %n0] {isCTAOnly = true} : !llvm.ptr<3>, !llvm.ptr // MARK loadB
    }
    func.return
  }

  llvm.func @gemm(%mapA: !llvm.ptr {llvm.byval = !llvm.array<128 x i8>, nvvm.grid_constant, llvm.align = 64 : i64},
                  %mapB: !llvm.ptr {llvm.byval = !llvm.array<128 x i8>, nvvm.grid_constant, llvm.align = 64 : i64},
                  %C: !llvm.ptr {llvm.noalias}, %k: i32, %n: i32) attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 256, 1, 1>} {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %c2 = arith.constant 2 : i32
    %c3 = arith.constant 3 : i32
    %c4 = arith.constant 4 : i32
    %c5 = arith.constant 5 : i32
    %c6 = arith.constant 6 : i32
    %c7 = arith.constant 7 : i32
    %c128 = arith.constant 128 : i32
    %ticks = arith.constant 1000 : i32
    %releases = arith.constant 4 : i32 // MARK count
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %lane = nvvm.read.ptx.sreg.laneid : i32
    %group = arith.shrui %tid, %c7 : i32
    %steps = arith.shrui %k, %c6 : i32
    %first = arith.cmpi eq, %tid, %c0 : i32
    %leader = arith.cmpi eq, %tid, %c128 : i32
    scf.if %first {
      scf.for %s = %c0 to %c2 step %c1 : i32 {
        %full = func.call @barrier(%c0, %s) : (i32, i32) -> !llvm.ptr<3>
        %empty = func.call @barrier(%c1, %s) : (i32, i32) -> !llvm.ptr<3>
        nvvm.mbarrier.init %full, %c1 : !llvm.ptr<3>, i32
        nvvm.mbarrier.init %empty, %releases : !llvm.ptr<3>, i32
      }
      nvvm.fence.mbarrier.init
    }
    nvvm.barrier0 // MARK init
    %produces = arith.cmpi eq, %group, %c0 : i32
    scf.if %produces {
      nvvm.setmaxregister decrease 40
      %warp = arith.shrui %tid, %c5 : i32
      %warp0 = arith.cmpi eq, %warp, %c0 : i32
      scf.if %warp0 {
        %elected = nvvm.elect.sync -> i1
        scf.if %elected {
          func.call @produce(%mapA, %mapB, %steps) : (!llvm.ptr, !llvm.ptr, i32) -> ()
        }
      }
    } else {
      nvvm.setmaxregister increase 232
      %zero = llvm.mlir.zero : !ACC
      %one = arith.cmpi eq, %lane, %c0 : i32
      %sums = scf.for %step = %c0 to %steps step %c1 iter_args(%acc = %zero) -> (!ACC) : i32 {
        %stage, %parity = func.call @ring(%step) : (i32) -> (i32, i32)
        %full = func.call @barrier(%c0, %stage) : (i32, i32) -> !llvm.ptr<3>
        nvvm.mbarrier.try_wait.parity %full, %parity, %ticks : !llvm.ptr<3>, i32, i32 // MARK full
        %tile = func.call @stage(%stage) : (i32) -> !llvm.ptr<3>
        %tileB = llvm.getelementptr %tile[8192] : (!llvm.ptr<3>) -> !llvm.ptr<3>, i8
        nvvm.wgmma.fence.aligned
        %next = scf.for %k16 = %c0 to %c4 step %c1 iter_args(%in = %acc) -> (!ACC) : i32 {
          %a = func.call @descriptor(%tile, %k16) : (!llvm.ptr<3>, i32) -> i64
          %b = func.call @descriptor(%tileB, %k16) : (!llvm.ptr<3>, i32) -> i64
          %out = nvvm.wgmma.mma_async %a, %b, %in, <m = 64, n = 64, k = 16>, D [<f32>, <one>], A [<bf16>, <one>, <row>], B [<bf16>, <one>, <col>]
            : !ACC
            -> !ACC
          scf.yield %out : !ACC
        }
        nvvm.wgmma.commit.group.sync.aligned
        nvvm.wgmma.wait.group.sync.aligned 0 // MARK wait
        %empty = func.call @barrier(%c1, %stage) : (i32, i32) -> !llvm.ptr<3>
        scf.if %one { // MARK releasers
          nvvm.mbarrier.arrive %empty : !llvm.ptr<3> // MARK release
        }
        scf.yield %next : !ACC
      }
      // Row 16 * warp + lane / 4 (+ 8), columns 8 * j + 2 * (lane % 4) (+ 1).
      %m = nvvm.read.ptx.sreg.ctaid.y : i32
      %nb = nvvm.read.ptx.sreg.ctaid.x : i32
      %m0 = arith.shli %m, %c6 : i32
      %n0 = arith.shli %nb, %c6 : i32
      %inGroup = arith.subi %tid, %c128 : i32
      %warp = arith.shrui %inGroup, %c5 : i32
      %warpRow = arith.shli %warp, %c4 : i32
      %laneRow = arith.shrui %lane, %c2 : i32
      %low = arith.andi %lane, %c3 : i32
      %laneColumn = arith.shli %low, %c1 : i32
      %r0 = arith.addi %m0, %warpRow : i32
      %row = arith.addi %r0, %laneRow : i32
      %column = arith.addi %n0, %laneColumn : i32
      %rowStart = arith.muli %row, %n : i32
      %at = arith.addi %rowStart, %column : i32
      %eight = arith.shli %n, %c3 : i32
      %p = llvm.getelementptr %C[%at] : (!llvm.ptr, i32) -> !llvm.ptr, f32
      %q = llvm.getelementptr %p[%eight] : (!llvm.ptr, i32) -> !llvm.ptr, f32
      %v0 = llvm.extractvalue %sums[0] : !ACC
      %p0 = llvm.getelementptr %p[0] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v0, %p0 : f32, !llvm.ptr
      %v1 = llvm.extractvalue %sums[1] : !ACC
      %p1 = llvm.getelementptr %p[1] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v1, %p1 : f32, !llvm.ptr
      %v2 = llvm.extractvalue %sums[2] : !ACC
      %p2 = llvm.getelementptr %q[0] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v2, %p2 : f32, !llvm.ptr
      %v3 = llvm.extractvalue %sums[3] : !ACC
      %p3 = llvm.getelementptr %q[1] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v3, %p3 : f32, !llvm.ptr
      %v4 = llvm.extractvalue %sums[4] : !ACC
      %p4 = llvm.getelementptr %p[8] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v4, %p4 : f32, !llvm.ptr
      %v5 = llvm.extractvalue %sums[5] : !ACC
      %p5 = llvm.getelementptr %p[9] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v5, %p5 : f32, !llvm.ptr
      %v6 = llvm.extractvalue %sums[6] : !ACC
      %p6 = llvm.getelementptr %q[8] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v6, %p6 : f32, !llvm.ptr
      %v7 = llvm.extractvalue %sums[7] : !ACC
      %p7 = llvm.getelementptr %q[9] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v7, %p7 : f32, !llvm.ptr
      %v8 = llvm.extractvalue %sums[8] : !ACC
      %p8 = llvm.getelementptr %p[16] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v8, %p8 : f32, !llvm.ptr
      %v9 = llvm.extractvalue %sums[9] : !ACC
      %p9 = llvm.getelementptr %p[17] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v9, %p9 : f32, !llvm.ptr
      %v10 = llvm.extractvalue %sums[10] : !ACC
      %p10 = llvm.getelementptr %q[16] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v10, %p10 : f32, !llvm.ptr
      %v11 = llvm.extractvalue %sums[11] : !ACC
      %p11 = llvm.getelementptr %q[17] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v11, %p11 : f32, !llvm.ptr
      %v12 = llvm.extractvalue %sums[12] : !ACC
      %p12 = llvm.getelementptr %p[24] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v12, %p12 : f32, !llvm.ptr
      %v13 = llvm.extractvalue %sums[13] : !ACC
      %p13 = llvm.getelementptr %p[25] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v13, %p13 : f32, !llvm.ptr
      %v14 = llvm.extractvalue %sums[14] : !ACC
      %p14 = llvm.getelementptr %q[24] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v14, %p14 : f32, !llvm.ptr
      %v15 = llvm.extractvalue %sums[15] : !ACC
      %p15 = llvm.getelementptr %q[25] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v15, %p15 : f32, !llvm.ptr
      %v16 = llvm.extractvalue %sums[16] : !ACC
      %p16 = llvm.getelementptr %p[32] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v16, %p16 : f32, !llvm.ptr
      %v17 = llvm.extractvalue %sums[17] : !ACC
      %p17 = llvm.getelementptr %p[33] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v17, %p17 : f32, !llvm.ptr
      %v18 = llvm.extractvalue %sums[18] : !ACC
      %p18 = llvm.getelementptr %q[32] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v18, %p18 : f32, !llvm.ptr
      %v19 = llvm.extractvalue %sums[19] : !ACC
      %p19 = llvm.getelementptr %q[33] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v19, %p19 : f32, !llvm.ptr
      %v20 = llvm.extractvalue %sums[20] : !ACC
      %p20 = llvm.getelementptr %p[40] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v20, %p20 : f32, !llvm.ptr
      %v21 = llvm.extractvalue %sums[21] : !ACC
      %p21 = llvm.getelementptr %p[41] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v21, %p21 : f32, !llvm.ptr
      %v22 = llvm.extractvalue %sums[22] : !ACC
      %p22 = llvm.getelementptr %q[40] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v22, %p22 : f32, !llvm.ptr
      %v23 = llvm.extractvalue %sums[23] : !ACC
      %p23 = llvm.getelementptr %q[41] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v23, %p23 : f32, !llvm.ptr
      %v24 = llvm.extractvalue %sums[24] : !ACC
      %p24 = llvm.getelementptr %p[48] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v24, %p24 : f32, !llvm.ptr
      %v25 = llvm.extractvalue %sums[25] : !ACC
      %p25 = llvm.getelementptr %p[49] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v25, %p25 : f32, !llvm.ptr
      %v26 = llvm.extractvalue %sums[26] : !ACC
      %p26 = llvm.getelementptr %q[48] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v26, %p26 : f32, !llvm.ptr
      %v27 = llvm.extractvalue %sums[27] : !ACC
      %p27 = llvm.getelementptr %q[49] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v27, %p27 : f32, !llvm.ptr
      %v28 = llvm.extractvalue %sums[28] : !ACC
      %p28 = llvm.getelementptr %p[56] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v28, %p28 : f32, !llvm.ptr
      %v29 = llvm.extractvalue %sums[29] : !ACC
      %p29 = llvm.getelementptr %p[57] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v29, %p29 : f32, !llvm.ptr
      %v30 = llvm.extractvalue %sums[30] : !ACC
      %p30 = llvm.getelementptr %q[56] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v30, %p30 : f32, !llvm.ptr
      %v31 = llvm.extractvalue %sums[31] : !ACC
      %p31 = llvm.getelementptr %q[57] : (!llvm.ptr) -> !llvm.ptr, f32
      llvm.store %v31, %p31 : f32, !llvm.ptr
    }
    llvm.return
  }
}
