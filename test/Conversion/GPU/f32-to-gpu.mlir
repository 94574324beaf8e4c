// RUN: moe-opt %s --moe-lower-to-gpu --canonicalize --split-input-file | FileCheck %s

// A factor of f32 is two of tf32: x rounded to 11 bits by half of its last place (0x1000) and a mask (0xffffe000),
// and what that leaves. Three products start from zero, small parts first; what they give is added to the sums.

// CHECK: llvm.func @f32_matmul({{.*}}) attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 64, 1, 1>, nvvm.minctasm = 1 : i32}
// CHECK-DAG: %[[HALF:.*]] = arith.constant 4096 : i32
// CHECK-DAG: %[[MASK:.*]] = arith.constant -8192 : i32
// CHECK-DAG: %[[ZERO:.*]] = arith.constant 0.000000e+00 : f32
// CHECK: scf.for {{.*}} iter_args(%{{[^,]+}}, %{{[^,]+}}, %[[SUM:[a-z0-9]+]] =
// CHECK:   %[[MATRICES:.*]] = nvvm.ldmatrix %{{.*}} {eltType = {{.*}}, layout = #nvvm.mma_layout<row>, num = 4
// CHECK:   %[[WORD:.*]] = llvm.extractvalue %[[MATRICES]][0]
// CHECK:   %[[UP:.*]] = arith.addi %[[WORD]], %[[HALF]]
// CHECK:   %[[BIG:.*]] = arith.andi %[[UP]], %[[MASK]]
// CHECK-DAG: %[[X:.*]] = arith.bitcast %[[WORD]] : i32 to f32
// CHECK-DAG: %[[B:.*]] = arith.bitcast %[[BIG]] : i32 to f32
// CHECK:   %[[REST:.*]] = arith.subf %[[X]], %[[B]] : f32
// CHECK:   %[[BITS:.*]] = arith.bitcast %[[REST]] : f32 to i32
// CHECK:   %[[SMALL:.*]] = arith.andi %[[BITS]], %[[MASK]]
// CHECK:   nvvm.ldmatrix
// CHECK:   %[[P:.*]] = nvvm.mma.sync A[%[[SMALL]], {{.*}}] B[%[[WEIGHT:.*]], %{{.*}}] C[%[[ZERO]], %[[ZERO]], %[[ZERO]], %[[ZERO]]]
// CHECK-SAME: multiplicandAPtxType = #nvvm.mma_type<tf32>, multiplicandBPtxType = #nvvm.mma_type<tf32>, shape = #nvvm.shape<m = 16, n = 8, k = 8>
// CHECK:   %[[P0:.*]] = llvm.extractvalue %[[P]][0]
// CHECK:   %[[Q:.*]] = nvvm.mma.sync A[%[[BIG]], {{.*}}] B[{{.*}}] C[%[[P0]],
// CHECK:   %[[Q0:.*]] = llvm.extractvalue %[[Q]][0]
// CHECK:   %[[R:.*]] = nvvm.mma.sync A[%[[BIG]], {{.*}}] B[%[[WEIGHT]], {{.*}}] C[%[[Q0]],
// CHECK:   %[[R0:.*]] = llvm.extractvalue %[[R]][0]
// CHECK:   arith.addf %[[SUM]], %[[R0]] : f32
// Loads of the next 8 k stay behind.
// CHECK:   nvvm.bar.warp.sync
// CHECK:   nvvm.ldmatrix
// CHECK:   scf.yield
func.func @f32(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x64x64xf32>, %h: memref<?x64xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x64xf32>, memref<4x64x64xf32>)
      outs(%h : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 16, tile_columns = 32, tile_sum = 32, warp_rows = 1, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// -----

// With n last, a lane reads two neighbouring columns of rows k and k + 4: its sums are those of four neighbours.
// Pieces lie at p xor 2 · (k mod 4).

// CHECK: llvm.func @transposed_matmul
// CHECK: %[[THREAD:.*]] = nvvm.read.ptx.sreg.tid.x
// CHECK: scf.for {{.*}} iter_args
// CHECK:   nvvm.cp.async.wait.group
// CHECK:   nvvm.ldmatrix
// CHECK:   %[[ROW:.*]] = llvm.load %[[AT:.*]] : !llvm.ptr<3> -> vector<2xi32>
// CHECK:   %[[BELOW:.*]] = llvm.getelementptr %[[AT]][512]
// CHECK:   llvm.load %[[BELOW]] : !llvm.ptr<3> -> vector<2xi32>
// CHECK:   vector.extract %[[ROW]][0] : i32 from vector<2xi32>
// CHECK:   vector.extract %[[ROW]][1] : i32 from vector<2xi32>
// CHECK-NOT: mma_layout<col>, num
// CHECK:   scf.yield
// CHECK: arith.muli %{{.*}}, %c4_i32
// CHECK: llvm.store %{{.*}} {alignment = 8 : i64} : vector<2xf32>, !llvm.ptr<1>
func.func @transposed(%offsets: memref<5xi32>, %x: memref<?x64xf32>, %w: memref<4x64x64xf32>, %h: memref<?x64xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, k, n] : memref<?x64xf32>, memref<4x64x64xf32>)
      outs(%h : memref<?x64xf32>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 16, tile_columns = 32, tile_sum = 32, warp_rows = 1, warp_columns = 2, stages = 2>} {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}
