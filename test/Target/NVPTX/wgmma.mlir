// What sm_90a runs: bulk copies, mbarriers and wgmma, as PTX of the version that the chip needs at least.

// RUN: moe-opt %s --moe-select-gpu-strategy=chip=sm_90a --moe-lower-to-gpu --moe-lower-kernels --convert-nvvm-to-llvm \
// RUN:     --nvvm-attach-target="chip=sm_90a O=3" --gpu-module-to-binary=format=isa \
// RUN:     | sed -e 's/\\0A/\n/g' -e 's/\\09/ /g' | FileCheck %s

// Gate and up of gathered rows are boxes of one map.
// CHECK: .version 8.0
// CHECK: .target sm_90a
// CHECK-LABEL: .visible .entry gate_up_matmul(
// CHECK-NEXT: .param .align 64 .b8 gate_up_matmul_param_0[128]
// CHECK-NOT:  .b8
// CHECK: .maxntid 384, 1, 1
// CHECK: .minnctapersm 1
// CHECK-DAG: mbarrier.init.shared
// CHECK-DAG: fence.mbarrier_init.release.cluster
// CHECK: setmaxnreg.inc.sync.aligned.u32 224
// CHECK: mbarrier.try_wait.parity.shared
// CHECK: wgmma.fence.sync.aligned
// CHECK-COUNT-8: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// CHECK-NOT: wgmma.mma_async
// CHECK: wgmma.commit_group.sync.aligned
// CHECK: wgmma.wait_group.sync.aligned 1
// CHECK: mbarrier.arrive
// CHECK: wgmma.wait_group.sync.aligned 0
// CHECK: ex2.approx.ftz.f32
// CHECK-NOT: div.
// CHECK: rcp.approx.ftz.f32
// Lanes of a row exchange what they have and store 16 bytes.
// CHECK: shfl.sync.bfly
// CHECK: st.global.v4
// CHECK: setmaxnreg.dec.sync.aligned.u32 56
// CHECK-DAG: cp.async.wait_group 1
// CHECK-DAG: fence.proxy.async.shared::cta
// CHECK-DAG: elect.sync
// CHECK-DAG: mbarrier.arrive.expect_tx
// CHECK-DAG: cp.async.bulk.tensor.3d.shared::cluster.global
// CHECK-DAG: cp.async.cg.shared.global
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

// Rows in place are boxes of two dimensions.
// CHECK-LABEL: .visible .entry down_matmul(
// CHECK: setmaxnreg.inc.sync.aligned.u32 232
// CHECK-COUNT-4: wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16
// CHECK-NOT: wgmma.mma_async
// CHECK: setmaxnreg.dec.sync.aligned.u32 40
// CHECK: cp.async.bulk.tensor.2d.shared::cluster.global
// CHECK: cp.async.bulk.tensor.3d.shared::cluster.global
// CHECK-NOT: cp.async.cg
func.func @down(%offsets: memref<65xi32>, %h: memref<?x1024xf16>, %w: memref<64x2048x1024xf16>, %y: memref<?x2048xf16>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>)
      products(%h[m, k] * %w[e, n, k] : memref<?x1024xf16>, memref<64x2048x1024xf16>)
      outs(%y : memref<?x2048xf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to f16
    moe.yield %r : f16
  }
  return
}

// Panels of 64 columns, read transposed: the last immediate.
// CHECK-LABEL: .visible .entry transposed_matmul(
// CHECK: wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {{.*}}, p, 1, 1, 0, 1;
// CHECK: cp.async.bulk.tensor.2d.shared::cluster.global
// CHECK-COUNT-4: cp.async.bulk.tensor.3d.shared::cluster.global
func.func @transposed(%offsets: memref<65xi32>, %h: memref<?x1024xbf16>, %w: memref<64x1024x2048xbf16>, %y: memref<?x2048xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>)
      products(%h[m, k] * %w[e, k, n] : memref<?x1024xbf16>, memref<64x1024x2048xbf16>)
      outs(%y : memref<?x2048xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// Few rows are the small side.
// CHECK-LABEL: .visible .entry few_gate_up_matmul(
// CHECK-NOT: setmaxnreg
// CHECK-COUNT-8: wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16
// CHECK-NOT: wgmma.mma_async
// CHECK-NOT: setmaxnreg
func.func @few_gate_up(%offsets: memref<65xi32>, %source: memref<64xi32>, %x: memref<8x2048xbf16>, %w: memref<64x2048x2048xbf16>, %h: memref<64x1024xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>) source(%source : memref<64xi32>) top_k(8)
      products(%x[t, k] * %w[e, n, k], %x[t, k] * %w[e, n + 1024, k]
               : memref<8x2048xbf16>, memref<64x2048x2048xbf16>, memref<8x2048xbf16>, memref<64x2048x2048xbf16>)
      outs(%h : memref<64x1024xbf16>) {
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

// CHECK-LABEL: .visible .entry few_down_matmul(
// CHECK-COUNT-4: wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16
func.func @few_down(%offsets: memref<65xi32>, %h: memref<2048x1024xbf16>, %w: memref<64x1024x2048xbf16>, %y: memref<2048x2048xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<65xi32>)
      products(%h[m, k] * %w[e, k, n] : memref<2048x1024xbf16>, memref<64x1024x2048xbf16>)
      outs(%y : memref<2048x2048xbf16>) {
  ^bb0(%p: f32):
    %r = arith.truncf %p : f32 to bf16
    moe.yield %r : bf16
  }
  return
}

// Gate and up alternate: a product of 64 × 256, and 16 bytes a lane in the epilogue.
// CHECK-LABEL: .visible .entry alternating_matmul(
// CHECK-COUNT-4: wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {{.*}}, p, 1, 1, 0, 1;
// CHECK-NOT: wgmma.mma_async
// CHECK: st.global.v4
// CHECK-COUNT-4: cp.async.bulk.tensor.3d.shared::cluster.global
func.func @alternating(%offsets: memref<33xi32>, %source: memref<?xi32>, %x: memref<?x2880xbf16>, %w: memref<32x2880x5760xbf16>, %h: memref<?x2880xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<33xi32>) source(%source : memref<?xi32>) top_k(4)
      products(%x[t, k] * %w[e, k, n * 2], %x[t, k] * %w[e, k, n * 2 + 1]
               : memref<?x2880xbf16>, memref<32x2880x5760xbf16>, memref<?x2880xbf16>, memref<32x2880x5760xbf16>)
      outs(%h : memref<?x2880xbf16>) {
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

// Of few rows, gate and up of a column are in lanes 4 apart.
// CHECK-LABEL: .visible .entry few_alternating_matmul(
// CHECK-COUNT-8: wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {{.*}}, p, 1, 1, 1, 0;
// CHECK-NOT: wgmma.mma_async
// CHECK: shfl.sync.bfly
func.func @few_alternating(%offsets: memref<33xi32>, %source: memref<32xi32>, %x: memref<8x2880xbf16>, %w: memref<32x2880x5760xbf16>, %h: memref<32x2880xbf16>) {
  moe.grouped_matmul offsets(%offsets : memref<33xi32>) source(%source : memref<32xi32>) top_k(4)
      products(%x[t, k] * %w[e, k, n * 2], %x[t, k] * %w[e, k, n * 2 + 1]
               : memref<8x2880xbf16>, memref<32x2880x5760xbf16>, memref<8x2880xbf16>, memref<32x2880x5760xbf16>)
      outs(%h : memref<32x2880xbf16>) {
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
