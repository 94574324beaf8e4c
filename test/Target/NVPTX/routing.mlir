// Routing as PTX, for ptxas.test too.

// DEFINE: %{chip} = sm_80
// DEFINE: %{compile} = moe-opt %s --moe-lower-to-gpu --moe-lower-kernels \
// DEFINE:     --nvvm-attach-target="chip=%{chip} O=3" --gpu-module-to-binary=format=isa

// RUN: %{compile} | FileCheck %s
// REDEFINE: %{chip} = sm_90a
// RUN: %{compile} | FileCheck %s
// REDEFINE: %{chip} = sm_120
// RUN: %{compile} | FileCheck %s

// Choices of 256 experts that take a limited number: mark, count, place. No atomics, no calls.
// CHECK-LABEL: .visible .entry capped_plan_mark
// CHECK: match.any.sync.b32
// CHECK-NOT: atom.
// CHECK-LABEL: .visible .entry capped_plan_count
// CHECK: match.any.sync.b32
// CHECK-NOT: atom.
// CHECK-LABEL: .visible .entry capped_plan(
// CHECK: .maxntid 1024, 1, 1
// CHECK: match.any.sync.b32
// CHECK: shfl.sync.up.b32
// CHECK: bar.warp.sync
// CHECK-NOT: atom.
// CHECK-NOT: .local
func.func @capped(%ids: memref<?x8xi32>, %o: memref<257xi32>, %s: memref<?x8xi32>, %r: memref<?xi32>, %c : index) {
  moe.plan ids(%ids : memref<?x8xi32>) capacity(%c)
      outs(%o, %s, %r : memref<257xi32>, memref<?x8xi32>, memref<?xi32>)
  return
}

// DeepSeek-V3's router: the recipe of exp, roundings that ptxas keeps, no function of CUDA's libraries.
// CHECK-LABEL: .visible .entry deepseek_route_few_logits
// CHECK: ld.global.nc.v4
// CHECK: fma.rn.f32
// CHECK: shfl.sync.bfly.b32
// CHECK-LABEL: .visible .entry deepseek_route_logits
// CHECK: .maxntid 256, 1, 1
// CHECK: fma.rn.f32
// CHECK-LABEL: .visible .entry deepseek_route_select
// CHECK-NOT: ex2.approx
// CHECK-NOT: {{(add|mul|sub)\.f32}}
// CHECK: rcp.rn.f32
// CHECK: redux.sync.max.s32
// CHECK: redux.sync.min.s32
// CHECK: div.rn.f32
// CHECK-NOT: ex2.approx
// CHECK-NOT: {{(add|mul|sub)\.f32}}
// CHECK-LABEL: .visible .entry deepseek_plan(
func.func @deepseek(%x: memref<?x7168xbf16>, %r: memref<256x7168xbf16>, %b: memref<256xf32>, %w: memref<?x8xf32>, %i: memref<?x8xi32>, %o: memref<257xi32>, %s: memref<?x8xi32>, %q: memref<?xi32>) {
  moe.route score(sigmoid) groups<count = 8, keep = 4, score = top2_sum> renormalize<eps = 1.0e-20 : f32> scale(2.5)
      router(%x[t, k] * %r[e, k] : memref<?x7168xbf16>, memref<256x7168xbf16>) bias(%b : memref<256xf32>)
      outs(%w, %i, %o, %s, %q : memref<?x8xf32>, memref<?x8xi32>, memref<257xi32>, memref<?x8xi32>, memref<?xi32>)
  return
}

// A softmax over 64 experts.
// CHECK-LABEL: .visible .entry olmoe_gate
// CHECK-NOT: ex2.approx
// CHECK-NOT: {{(add|mul|sub)\.f32}}
// CHECK-NOT: .local
func.func @olmoe(%l: memref<?x64xf32>, %w: memref<?x8xf32>, %i: memref<?x8xi32>) {
  moe.gate score(softmax) ins(%l : memref<?x64xf32>) outs(%w, %i : memref<?x8xf32>, memref<?x8xi32>)
  return
}
