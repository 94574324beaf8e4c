// C[M, N] = A[M, K] · B[N, K]ᵀ, bf16 into f32, as on sm_80: two stages of cp.async, swizzled
// tiles of 64-byte rows, ldmatrix, mma.sync. Blocks of 128 threads and 64 x 32 results. Rows of
// A from `rows` on are read as zeros and not stored. Lines with a MARK are what mutants change.
gpu.module @kernels {
  llvm.mlir.global external @smem() {addr_space = 3 : i32, alignment = 128 : i64} : !llvm.array<0 x i8>

  // Byte of chunk `chunk` (16 bytes) of row `row` in a tile: the chunk's place is xored with the
  // row, so that eight rows of one column lie in different banks.
  func.func private @swizzle(%row: i32, %chunk: i32) -> i32 {
    %c1 = arith.constant 1 : i32
    %c3 = arith.constant 3 : i32
    %c4 = arith.constant 4 : i32
    %c6 = arith.constant 6 : i32
    %half = arith.shrui %row, %c1 : i32
    %key = arith.andi %half, %c3 : i32
    %place = arith.xori %chunk, %key : i32
    %rowByte = arith.shli %row, %c6 : i32
    %placeByte = arith.shli %place, %c4 : i32
    %byte = arith.addi %rowByte, %placeByte : i32
    func.return %byte : i32
  }

  // The same without the key: no kernel uses it, but a mutant.
  func.func private @plain(%row: i32, %chunk: i32) -> i32 {
    %c4 = arith.constant 4 : i32
    %c6 = arith.constant 6 : i32
    %rowByte = arith.shli %row, %c6 : i32
    %placeByte = arith.shli %chunk, %c4 : i32
    %byte = arith.addi %rowByte, %placeByte : i32
    func.return %byte : i32
  }

  // One chunk of row `row` of a matrix with rows of `k` elements, from column 32 * step on;
  // `bytes` of it, then zeros.
  func.func private @copy(%tile: !llvm.ptr<3>, %matrix: !llvm.ptr, %row: i32, %sourceRow: i32, %chunk: i32,
                          %step: i32, %k: i32, %bytes: i32) {
    %c3 = arith.constant 3 : i32
    %c5 = arith.constant 5 : i32
    %byte = func.call @swizzle(%row, %chunk) : (i32, i32) -> i32
    %to = llvm.getelementptr %tile[%byte] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
    %rowStart = arith.muli %sourceRow, %k : i32
    %column = arith.shli %step, %c5 : i32
    %inChunk = arith.shli %chunk, %c3 : i32
    %sum = arith.addi %rowStart, %column : i32
    %element = arith.addi %sum, %inChunk : i32
    %from = llvm.getelementptr %matrix[%element] : (!llvm.ptr, i32) -> !llvm.ptr, bf16
    %global = llvm.addrspacecast %from : !llvm.ptr to !llvm.ptr<1>
    nvvm.cp.async.shared.global %to, %global, 16, cache = cg, %bytes : !llvm.ptr<3>, !llvm.ptr<1>, i32
    func.return
  }

  // Starts the copies of one stage: 64 rows of A (two chunks a thread), 32 of B (one).
  func.func private @load(%A: !llvm.ptr, %B: !llvm.ptr, %stage: i32, %step: i32, %k: i32, %rows: i32) {
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %m = nvvm.read.ptx.sreg.ctaid.y : i32
    %n = nvvm.read.ptx.sreg.ctaid.x : i32
    %c0 = arith.constant 0 : i32
    %c2 = arith.constant 2 : i32
    %c3 = arith.constant 3 : i32
    %c16 = arith.constant 16 : i32
    %c32 = arith.constant 32 : i32
    %c64 = arith.constant 64 : i32
    %stageBytes = arith.constant 6144 : i32
    %aBytes = arith.constant 4096 : i32
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %start = arith.muli %stage, %stageBytes : i32
    %tileA = llvm.getelementptr %smem[%start] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
    %startB = arith.addi %start, %aBytes : i32
    %tileB = llvm.getelementptr %smem[%startB] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
    %chunk = arith.andi %tid, %c3 : i32
    %row0 = arith.shrui %tid, %c2 : i32
    %row1 = arith.addi %row0, %c32 : i32
    %m0 = arith.muli %m, %c64 : i32
    %n0 = arith.muli %n, %c32 : i32
    %ma = arith.addi %m0, %row0 : i32
    %mb = arith.addi %m0, %row1 : i32
    %nb = arith.addi %n0, %row0 : i32
    %ina = arith.cmpi ult, %ma, %rows : i32
    %inb = arith.cmpi ult, %mb, %rows : i32
    %bytesA = arith.select %ina, %c16, %c0 : i32 // MARK bytes
    %bytesB = arith.select %inb, %c16, %c0 : i32
    %sa = arith.select %ina, %ma, %c0 : i32
    %sb = arith.select %inb, %mb, %c0 : i32 // MARK row
    func.call @copy(%tileA, %A, %row0, %sa, %chunk, %step, %k, %bytesA) : (!llvm.ptr<3>, !llvm.ptr, i32, i32, i32, i32, i32, i32) -> ()
    func.call @copy(%tileA, %A, %row1, %sb, %chunk, %step, %k, %bytesB) : (!llvm.ptr<3>, !llvm.ptr, i32, i32, i32, i32, i32, i32) -> ()
    func.call @copy(%tileB, %B, %row0, %nb, %chunk, %step, %k, %c16) : (!llvm.ptr<3>, !llvm.ptr, i32, i32, i32, i32, i32, i32) -> ()
    func.return
  }

  // Four 8x8 matrices: rows row0 + lane % 16, chunks chunk0 + lane / 16.
  func.func private @fragment(%tile: !llvm.ptr<3>, %row0: i32, %chunk0: i32) -> !llvm.struct<(i32, i32, i32, i32)> {
    %lane = nvvm.read.ptx.sreg.laneid : i32
    %c4 = arith.constant 4 : i32
    %c15 = arith.constant 15 : i32
    %r = arith.andi %lane, %c15 : i32
    %c = arith.shrui %lane, %c4 : i32
    %row = arith.addi %row0, %r : i32
    %chunk = arith.addi %chunk0, %c : i32
    %byte = func.call @swizzle(%row, %chunk) : (i32, i32) -> i32 // MARK place
    %p = llvm.getelementptr %tile[%byte] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
    %f = nvvm.ldmatrix %p {num = 4 : i32, layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32, i32, i32)>
    func.return %f : !llvm.struct<(i32, i32, i32, i32)>
  }

  // 16 x 8 sums, one k16 step; `half` says which 8 of the 16 rows of B.
  func.func private @product(%a: !llvm.struct<(i32, i32, i32, i32)>, %b0: i32, %b1: i32,
                             %acc: !llvm.struct<(f32, f32, f32, f32)>) -> !llvm.struct<(f32, f32, f32, f32)> {
    %a0 = llvm.extractvalue %a[0] : !llvm.struct<(i32, i32, i32, i32)>
    %a1 = llvm.extractvalue %a[1] : !llvm.struct<(i32, i32, i32, i32)>
    %a2 = llvm.extractvalue %a[2] : !llvm.struct<(i32, i32, i32, i32)>
    %a3 = llvm.extractvalue %a[3] : !llvm.struct<(i32, i32, i32, i32)>
    %c0 = llvm.extractvalue %acc[0] : !llvm.struct<(f32, f32, f32, f32)>
    %c1 = llvm.extractvalue %acc[1] : !llvm.struct<(f32, f32, f32, f32)>
    %c2 = llvm.extractvalue %acc[2] : !llvm.struct<(f32, f32, f32, f32)>
    %c3 = llvm.extractvalue %acc[3] : !llvm.struct<(f32, f32, f32, f32)>
    %d = nvvm.mma.sync A[%a0, %a1, %a2, %a3] B[%b0, %b1] C[%c0, %c1, %c2, %c3]
      {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>,
       multiplicandBPtxType = #nvvm.mma_type<bf16>, shape = #nvvm.shape<m = 16, n = 8, k = 16>}
      : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
    func.return %d : !llvm.struct<(f32, f32, f32, f32)>
  }

  // Four sums of a fragment: rows row, row + 8; columns column, column + 1.
  func.func private @store(%C: !llvm.ptr, %row: i32, %column: i32, %n: i32, %rows: i32, %acc: !llvm.struct<(f32, f32, f32, f32)>) {
    %c1 = arith.constant 1 : i32
    %c8 = arith.constant 8 : i32
    %v0 = llvm.extractvalue %acc[0] : !llvm.struct<(f32, f32, f32, f32)>
    %v1 = llvm.extractvalue %acc[1] : !llvm.struct<(f32, f32, f32, f32)>
    %v2 = llvm.extractvalue %acc[2] : !llvm.struct<(f32, f32, f32, f32)>
    %v3 = llvm.extractvalue %acc[3] : !llvm.struct<(f32, f32, f32, f32)>
    %upper = arith.cmpi ult, %row, %rows : i32
    scf.if %upper {
      %start = arith.muli %row, %n : i32
      %i = arith.addi %start, %column : i32
      %j = arith.addi %i, %c1 : i32
      %p = llvm.getelementptr %C[%i] : (!llvm.ptr, i32) -> !llvm.ptr, f32
      %q = llvm.getelementptr %C[%j] : (!llvm.ptr, i32) -> !llvm.ptr, f32
      llvm.store %v0, %p : f32, !llvm.ptr
      llvm.store %v1, %q : f32, !llvm.ptr
    }
    %row8 = arith.addi %row, %c8 : i32
    %lower = arith.cmpi ult, %row8, %rows : i32
    scf.if %lower {
      %start = arith.muli %row8, %n : i32
      %i = arith.addi %start, %column : i32
      %j = arith.addi %i, %c1 : i32
      %p = llvm.getelementptr %C[%i] : (!llvm.ptr, i32) -> !llvm.ptr, f32
      %q = llvm.getelementptr %C[%j] : (!llvm.ptr, i32) -> !llvm.ptr, f32
      llvm.store %v2, %p : f32, !llvm.ptr
      llvm.store %v3, %q : f32, !llvm.ptr
    }
    func.return
  }

  llvm.func @gemm(%A: !llvm.ptr {llvm.noalias}, %B: !llvm.ptr {llvm.noalias}, %C: !llvm.ptr {llvm.noalias},
                  %k: i32, %n: i32, %rows: i32) attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 128, 1, 1>} {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %c2 = arith.constant 2 : i32
    %c3 = arith.constant 3 : i32
    %c4 = arith.constant 4 : i32
    %c5 = arith.constant 5 : i32
    %c8 = arith.constant 8 : i32
    %c16 = arith.constant 16 : i32
    %c24 = arith.constant 24 : i32
    %c32 = arith.constant 32 : i32
    %c64 = arith.constant 64 : i32
    %stageBytes = arith.constant 6144 : i32
    %aBytes = arith.constant 4096 : i32
    %zero = llvm.mlir.zero : !llvm.struct<(f32, f32, f32, f32)>
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %warp = nvvm.read.ptx.sreg.warpid : i32
    %lane = nvvm.read.ptx.sreg.laneid : i32
    %row0 = arith.shli %warp, %c4 : i32
    %steps = arith.shrui %k, %c5 : i32
    func.call @load(%A, %B, %c0, %c0, %k, %rows) : (!llvm.ptr, !llvm.ptr, i32, i32, i32, i32) -> ()
    nvvm.cp.async.commit.group
    %sums:4 = scf.for %step = %c0 to %steps step %c1
        iter_args(%s0 = %zero, %s1 = %zero, %s2 = %zero, %s3 = %zero)
        -> (!llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>) : i32 {
      %next = arith.addi %step, %c1 : i32
      %more = arith.cmpi ult, %next, %steps : i32
      scf.if %more {
        %stage = arith.andi %next, %c1 : i32 // MARK stage
        func.call @load(%A, %B, %stage, %next, %k, %rows) : (!llvm.ptr, !llvm.ptr, i32, i32, i32, i32) -> ()
      }
      nvvm.cp.async.commit.group
      nvvm.cp.async.wait.group 1 // MARK wait
      nvvm.barrier0 // MARK full
      %stage = arith.andi %step, %c1 : i32
      %start = arith.muli %stage, %stageBytes : i32
      %startB = arith.addi %start, %aBytes : i32
      %tileA = llvm.getelementptr %smem[%start] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
      %tileB = llvm.getelementptr %smem[%startB] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
      %r:4 = scf.for %chunk = %c0 to %c4 step %c2
          iter_args(%t0 = %s0, %t1 = %s1, %t2 = %s2, %t3 = %s3)
          -> (!llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>) : i32 {
        %a = func.call @fragment(%tileA, %row0, %chunk) : (!llvm.ptr<3>, i32, i32) -> !llvm.struct<(i32, i32, i32, i32)>
        %b = func.call @fragment(%tileB, %c0, %chunk) : (!llvm.ptr<3>, i32, i32) -> !llvm.struct<(i32, i32, i32, i32)>
        %d = func.call @fragment(%tileB, %c16, %chunk) : (!llvm.ptr<3>, i32, i32) -> !llvm.struct<(i32, i32, i32, i32)>
        %b0 = llvm.extractvalue %b[0] : !llvm.struct<(i32, i32, i32, i32)>
        %b1 = llvm.extractvalue %b[1] : !llvm.struct<(i32, i32, i32, i32)>
        %b2 = llvm.extractvalue %b[2] : !llvm.struct<(i32, i32, i32, i32)>
        %b3 = llvm.extractvalue %b[3] : !llvm.struct<(i32, i32, i32, i32)>
        %d0 = llvm.extractvalue %d[0] : !llvm.struct<(i32, i32, i32, i32)>
        %d1 = llvm.extractvalue %d[1] : !llvm.struct<(i32, i32, i32, i32)>
        %d2 = llvm.extractvalue %d[2] : !llvm.struct<(i32, i32, i32, i32)>
        %d3 = llvm.extractvalue %d[3] : !llvm.struct<(i32, i32, i32, i32)>
        %u0 = func.call @product(%a, %b0, %b2, %t0) : (!llvm.struct<(i32, i32, i32, i32)>, i32, i32, !llvm.struct<(f32, f32, f32, f32)>) -> !llvm.struct<(f32, f32, f32, f32)> // MARK pair
        %u1 = func.call @product(%a, %b1, %b3, %t1) : (!llvm.struct<(i32, i32, i32, i32)>, i32, i32, !llvm.struct<(f32, f32, f32, f32)>) -> !llvm.struct<(f32, f32, f32, f32)>
        %u2 = func.call @product(%a, %d0, %d2, %t2) : (!llvm.struct<(i32, i32, i32, i32)>, i32, i32, !llvm.struct<(f32, f32, f32, f32)>) -> !llvm.struct<(f32, f32, f32, f32)>
        %u3 = func.call @product(%a, %d1, %d3, %t3) : (!llvm.struct<(i32, i32, i32, i32)>, i32, i32, !llvm.struct<(f32, f32, f32, f32)>) -> !llvm.struct<(f32, f32, f32, f32)>
        scf.yield %u0, %u1, %u2, %u3 : !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>
      }
      nvvm.barrier0 // MARK empty
      scf.yield %r#0, %r#1, %r#2, %r#3 : !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>, !llvm.struct<(f32, f32, f32, f32)>
    }
    nvvm.cp.async.wait.group 0
    %bm = nvvm.read.ptx.sreg.ctaid.y : i32
    %bn = nvvm.read.ptx.sreg.ctaid.x : i32
    %m0 = arith.muli %bm, %c64 : i32
    %n0 = arith.muli %bn, %c32 : i32
    %lr = arith.shrui %lane, %c2 : i32
    %l3 = arith.andi %lane, %c3 : i32
    %lc = arith.shli %l3, %c1 : i32
    %mw = arith.addi %m0, %row0 : i32
    %m = arith.addi %mw, %lr : i32
    %col0 = arith.addi %n0, %lc : i32
    %col1 = arith.addi %col0, %c8 : i32
    %col2 = arith.addi %col0, %c16 : i32
    %col3 = arith.addi %col0, %c24 : i32
    func.call @store(%C, %m, %col0, %n, %rows, %sums#0) : (!llvm.ptr, i32, i32, i32, i32, !llvm.struct<(f32, f32, f32, f32)>) -> ()
    func.call @store(%C, %m, %col1, %n, %rows, %sums#1) : (!llvm.ptr, i32, i32, i32, i32, !llvm.struct<(f32, f32, f32, f32)>) -> ()
    func.call @store(%C, %m, %col2, %n, %rows, %sums#2) : (!llvm.ptr, i32, i32, i32, i32, !llvm.struct<(f32, f32, f32, f32)>) -> ()
    func.call @store(%C, %m, %col3, %n, %rows, %sums#3) : (!llvm.ptr, i32, i32, i32, i32, !llvm.struct<(f32, f32, f32, f32)>) -> ()
    llvm.return
  }
}
