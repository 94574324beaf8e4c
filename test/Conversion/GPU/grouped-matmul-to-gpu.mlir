// RUN: moe-opt %s --moe-lower-to-gpu --canonicalize --split-input-file | FileCheck %s

// Two products of gathered rows: what the host launches, and the kernel.

// CHECK-LABEL: module attributes {gpu.container_module}
// CHECK: func.func @gate_up(%[[OFFSETS:.*]]: memref<5xi32>, %[[SOURCE:.*]]: memref<?xi32>, %[[X:.*]]: memref<?x128xbf16>
// CHECK-DAG:  %[[BYTES:.*]] = arith.constant 131072 : i32
// CHECK-DAG:  %[[THREADS:.*]] = arith.constant 256 : index
// At most a tile a row, or a tile for 128 rows and one more for each expert; at least one block.
// CHECK:      %[[ROWS:.*]] = memref.dim
// CHECK:      %[[FULL:.*]] = arith.divui %[[ROWS]], %c128
// CHECK:      %[[TILES:.*]] = arith.addi %[[FULL]], %c4
// CHECK:      %[[BOUND:.*]] = arith.minui %[[ROWS]], %[[TILES]]
// CHECK:      %[[BLOCKS:.*]] = arith.muli %[[BOUND]], %c2
// CHECK:      %[[GRID:.*]] = arith.maxui %[[BLOCKS]], %c1
// One pointer a buffer: the weight of both products is one.
// CHECK:      gpu.launch_func @moe_kernels::@gate_up_matmul blocks in (%[[GRID]], %c1, %c1) threads in (%[[THREADS]], %c1, %c1)
// CHECK-SAME:   dynamic_shared_memory_size %[[BYTES]]
// CHECK-SAME:   args(%{{.*}} : !llvm.ptr, %{{.*}} : !llvm.ptr, %{{.*}} : !llvm.ptr, %{{.*}} : !llvm.ptr, %{{.*}} : !llvm.ptr)

// CHECK: gpu.module @moe_kernels
// CHECK: llvm.mlir.global external @moe_shared() {addr_space = 3 : i32, alignment = 1024 : i64}
// CHECK: llvm.func @gate_up_matmul(%{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>)
// CHECK-SAME: attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 256, 1, 1>}
// The number of tiles of all lanes' experts.
// CHECK-COUNT-5: nvvm.shfl.sync  up
// CHECK: scf.for
// CHECK:   nvvm.vote.sync  ballot
// Two steps of k, so that of the three stages ahead two are copied: 4 passes for rows, 2 for each weight.
// CHECK-COUNT-16: nvvm.cp.async.shared.global
// CHECK-NOT:      nvvm.cp.async.shared.global
// CHECK:   scf.for
// CHECK:     nvvm.cp.async.wait.group 2
// CHECK:     nvvm.barrier0
// CHECK:     nvvm.cp.async.commit.group
// 4 steps of 16 k × (4 loads of rows, 1 of each weight); 4 × 2 × 2 products of fragments each.
// CHECK-COUNT-6: nvvm.ldmatrix
// CHECK:     nvvm.mma.sync A[{{.*}}] B[{{.*}}] C[{{.*}}] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>
// CHECK:   scf.yield
// CHECK:   arith.mulf
// CHECK:   arith.truncf %{{.*}} : f32 to bf16
// CHECK:   llvm.store %{{.*}} {alignment = 4 : i64} : vector<2xbf16>, !llvm.ptr<1>
// CHECK:   nvvm.barrier0
func.func @gate_up(%offsets: memref<5xi32>, %source: memref<?xi32>, %x: memref<?x128xbf16>, %w: memref<4x256x128xbf16>, %h: memref<?x128xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>) source(%source : memref<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k], %x[t, k] * %w[e, n + 128, k]
               : memref<?x128xbf16>, memref<4x256x128xbf16>, memref<?x128xbf16>, memref<4x256x128xbf16>)
      outs(%h : memref<?x128xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4>} {
  ^bb0(%g: f32, %u: f32):
    %p = arith.mulf %g, %u : f32
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// -----

// Weights with n last are transposed by ldmatrix; E is a parameter where it is dynamic; N = 72 leaves
// a part of a tile, K = 72 a part of a step; scalars from above are parameters.

// CHECK: func.func @transposed
// CHECK: args({{.*}}, %{{.*}} : f32, %{{.*}} : i32)
// CHECK: llvm.func @transposed_matmul({{.*}}, %[[SCALE:.*]]: f32, %{{.*}}: i32)
// CHECK: nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 16, cache =  cg, %{{.*}} : !llvm.ptr<3>, !llvm.ptr<1>, i32
// CHECK: nvvm.ldmatrix {{.*}}layout = #nvvm.mma_layout<row>
// CHECK: nvvm.ldmatrix {{.*}}layout = #nvvm.mma_layout<col>
// CHECK: llvm.bitcast %{{.*}} : i32 to vector<2xf16>
// CHECK: nvvm.mma.sync {{.*}} : (vector<2xf16>, vector<2xf16>, f32)
// CHECK: %[[BIAS:.*]] = llvm.load
// CHECK: arith.mulf %{{.*}}, %[[SCALE]]
// CHECK: llvm.store %{{.*}} {alignment = 8 : i64} : vector<2xf32>, !llvm.ptr<1>
func.func @transposed(%offsets: memref<?xi32>, %x: memref<?x72xf16>, %w: memref<?x72x72xf16>, %bias: memref<?x72xf32>, %h: memref<?x72xf32>, %scale: f32) {
  moe.grouped_matmul offsets(%offsets : memref<?xi32>)
      products(%x[m, k] * %w[e, k, n] : memref<?x72xf16>, memref<?x72x72xf16>)
      extras(%bias[e, n] : memref<?x72xf32>)
      outs(%h : memref<?x72xf32>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 16, tile_columns = 64, tile_sum = 64, warp_rows = 1, warp_columns = 2, stages = 3>} {
  ^bb0(%p: f32, %b: f32):
    %s = arith.mulf %p, %scale : f32
    %r = arith.addf %s, %b : f32
    moe.yield %r : f32
  }
  return
}

// -----

// Others are left alone.

// CHECK: func.func @no_config
// CHECK: moe.grouped_matmul
// CHECK-NOT: gpu.module
func.func @no_config(%offsets: memref<5xi32>, %x: memref<?x64xf16>, %w: memref<4x64x64xf16>, %h: memref<?x64xf32>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x64xf16>, memref<4x64x64xf16>)
      outs(%h : memref<?x64xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}
