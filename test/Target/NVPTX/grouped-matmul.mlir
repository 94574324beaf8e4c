// Two products of gathered rows and SiLU, as PTX for every chip (sm_90a: wgmma.mlir).

// DEFINE: %{chip} = sm_80
// DEFINE: %{compile} = moe-opt %s --moe-select-gpu-strategy=chip=%{chip} --moe-lower-to-gpu --moe-lower-kernels \
// DEFINE:     --nvvm-attach-target="chip=%{chip} O=3" --gpu-module-to-binary=format=isa

// RUN: %{compile} | FileCheck %s -DCHIP=sm_80
// REDEFINE: %{chip} = sm_86
// RUN: %{compile} | FileCheck %s -DCHIP=sm_86
// REDEFINE: %{chip} = sm_89
// RUN: %{compile} | FileCheck %s -DCHIP=sm_89
// REDEFINE: %{chip} = sm_90
// RUN: %{compile} | FileCheck %s -DCHIP=sm_90
// REDEFINE: %{chip} = sm_120
// RUN: %{compile} | FileCheck %s -DCHIP=sm_120

// CHECK: gpu.binary @moe_kernels
// CHECK: .target [[CHIP]]
// CHECK: .visible .entry gate_up_matmul
// CHECK: .maxntid 256, 1, 1
// CHECK: cp.async.cg.shared.global
// CHECK: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// CHECK: ex2.approx.ftz.f32
// Nothing is called and nothing lives in local memory.
// CHECK-NOT: call
// CHECK-NOT: .local
func.func @gate_up(%offsets: memref<65xi32>, %source: memref<?xi32>, %x: memref<?x2048xbf16>, %w: memref<64x2048x2048xbf16>, %h: memref<?x1024xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>) source(%source : memref<?xi32>) top_k(8)
      products(%x[t, k] * %w[e, n, k], %x[t, k] * %w[e, n + 1024, k]
               : memref<?x2048xbf16>, memref<64x2048x2048xbf16>, memref<?x2048xbf16>, memref<64x2048x2048xbf16>)
      outs(%h : memref<?x1024xbf16>) {
  ^bb0(%g: f32, %u: f32):
    %one = arith.constant 1.0 : f32
    %minus = arith.negf %g : f32
    %e = math.exp %minus : f32
    %d = arith.addf %e, %one : f32
    %s = arith.divf %g, %d : f32
    %p = arith.mulf %s, %u : f32
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}
