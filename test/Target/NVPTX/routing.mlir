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
