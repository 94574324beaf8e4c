// RUN: moe-opt %s --moe-lower-to-gpu --canonicalize --split-input-file | FileCheck %s

// A kernel before stores the rows, multiplied by the weights of their choices; the matmul then has them in place.

// CHECK-LABEL: func.func @weighted
// CHECK:       %[[M:.*]] = memref.dim
// CHECK:       %[[ROWS:.*]] = memref.alloc(%[[M]]) : memref<?x2048xbf16>
// Two blocks a row: 128 threads store 16 bytes each.
// CHECK:       arith.muli %[[M]], %c2
// CHECK:       gpu.launch_func @moe_kernels::@weighted_permute blocks in (%{{.*}}, %c1, %c1) threads in (%c128, %c1, %c1)
// CHECK:       memref.extract_aligned_pointer_as_index %[[ROWS]]
// CHECK:       gpu.launch_func @moe_kernels::@weighted_matmul
// CHECK: llvm.func @weighted_permute(%[[OFFSETS:.*]]: !llvm.ptr<1>, %[[SOURCE:.*]]: !llvm.ptr<1>, %[[X:.*]]: !llvm.ptr<1>, %[[S:.*]]: !llvm.ptr<1>, %[[OUT:.*]]: !llvm.ptr<1>)
// CHECK-SAME: nvvm.maxntid = array<i32: 128, 1, 1>
// As many rows as experts have, not as many as there are.
// CHECK:   %[[END:.*]] = llvm.getelementptr %[[OFFSETS]][
// CHECK:   %[[OWNED:.*]] = llvm.load %[[END]]
// CHECK:   scf.for
// CHECK:     %[[AT:.*]] = llvm.getelementptr %[[SOURCE]][
// CHECK:     %[[CHOICE:.*]] = llvm.load %[[AT]]
// CHECK:     arith.divui %[[CHOICE]], %c2_i32
// CHECK:     llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xbf16>
// CHECK-COUNT-8: arith.mulf %{{.*}}, %{{.*}} : bf16
// CHECK:     llvm.store %{{.*}} {alignment = 16 : i64} : vector<8xbf16>, !llvm.ptr<1>
// CHECK: llvm.func @weighted_matmul
// CHECK-NOT: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>
// CHECK: nvvm.mma.sync
func.func @weighted(%offsets: memref<5xi32>, %source: memref<?xi32>, %x: memref<?x2048xbf16>, %s: memref<?x2xbf16>, %w: memref<4x256x2048xbf16>, %h: memref<?x256xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<5xi32>) source(%source : memref<?xi32>) top_k(2)
      products(prologue(%x[t, k], %s[t, j]) * %w[e, n, k] : memref<?x2048xbf16>, memref<?x2xbf16>, memref<4x256x2048xbf16>)
      outs(%h : memref<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_matmul<tile_rows = 128, tile_columns = 64, tile_sum = 64, warp_rows = 2, warp_columns = 4, stages = 4, permuted = true>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  } prologue {
  ^bb0(%row: bf16, %weight: bf16):
    %weighted = arith.mulf %row, %weight : bf16
    moe.yield %weighted : bf16
  }
  return
}

// -----

// Rows of any type, scaled by an expert's numbers, whose expert a search in the offsets finds. sm_90a then has a tensor
// map of the rows; memory for them is there before the launch that rows and experts are needed for.

// CHECK-LABEL: func.func @scaled
// CHECK:       %[[ROWS:.*]] = memref.alloc(%{{.*}}) : memref<?x128xbf16>
// CHECK:       gpu.launch_func @moe_kernels::@scaled_permute
// CHECK:       scf.if
// CHECK:         memref.reinterpret_cast %[[ROWS]] to offset: [0], sizes: [%{{.*}}, 128], strides: [128, 1]
// CHECK:         gpu.launch_func @moe_kernels::@scaled_matmul
// CHECK: llvm.func @scaled_permute({{.*}}, %[[FACTOR:[^:]*]]: f32, %[[EXPERTS:[^:]*]]: i32)
// CHECK:     scf.while (%{{.*}} = %c0_i32, %{{.*}} = %[[EXPERTS]])
// CHECK:     llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xf32>
// CHECK:     arith.mulf %{{.*}}, %[[FACTOR]]
// CHECK:     arith.truncf %{{.*}} : f32 to bf16
// CHECK:     llvm.store %{{.*}} {alignment = 16 : i64} : vector<8xbf16>, !llvm.ptr<1>
func.func @scaled(%offsets: memref<?xi32>, %x: memref<?x128xf32>, %s: memref<?x128xf32>, %w: memref<?x256x128xbf16>, %h: memref<?x256xbf16>, %factor: f32) {
  moe.grouped_matmul offsets(%offsets : memref<?xi32>)
      products(prologue(%x[m, k], %s[e, k]) * %w[e, n, k] : memref<?x128xf32>, memref<?x128xf32>, memref<?x256x128xbf16>)
      outs(%h : memref<?x256xbf16>)
      attributes {moe.lowering_config = #moe.gpu_wgmma<tile_rows = 64, tile_columns = 64, tile_sum = 64, groups = 1, stages = 2, permuted = true>} {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  } prologue {
  ^bb0(%row: f32, %scale: f32):
    %0 = arith.mulf %row, %scale : f32
    %1 = arith.mulf %0, %factor : f32
    %2 = arith.truncf %1 : f32 to bf16
    moe.yield %2 : bf16
  }
  return
}
