// moe.route: through text, the generic form and bytecode; canonical forms; shapes; buffers; checks at
// run time; what it is made of. What it computes is python/tests/test_route.py.

// RUN: moe-opt %s --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --split-input-file --mlir-print-op-generic | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --split-input-file --canonicalize | FileCheck %s --check-prefix=CANON
// RUN: moe-opt %s --split-input-file --one-shot-bufferize="bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map" \
// RUN:     | FileCheck %s --check-prefix=BUFFER
// RUN: moe-opt %s --split-input-file --resolve-ranked-shaped-type-result-dims --canonicalize | FileCheck %s --check-prefix=REIFY
// RUN: moe-opt %s --split-input-file --generate-runtime-verification | FileCheck %s --check-prefix=VERIFY
// RUN: moe-opt %s --split-input-file --moe-decompose --canonicalize | FileCheck %s --check-prefix=DECOMPOSE

//===----------------------------------------------------------------------===//
// Nothing but what it must have
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func @plain
// CHECK-NEXT: %weights, %ids, %offsets, %slots, %source = moe.route score(softmax)
// CHECK-SAME: router(%arg0[t, k] * %arg1[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
// CHECK-SAME: outs(%arg2, %arg3, %arg4, %arg5, %arg6 : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>){{$}}
// All destinations are overwritten in place.
// BUFFER-LABEL: func @plain
// BUFFER-NEXT: moe.route score(softmax) router(%arg0[t, k] * %arg1[e, k] : memref<16x8xf32>, memref<4x8xf32>)
// BUFFER-SAME: outs(%arg2, %arg3, %arg4, %arg5, %arg6 :
// BUFFER-NEXT: return %arg2, %arg3, %arg4, %arg5, %arg6
// VERIFY-LABEL: func @plain
// VERIFY: moe.route
// VERIFY: cf.assert {{.*}}there are fewer rows than choices that are kept
// VERIFY-NOT: cf.assert
// VERIFY: moe.route
// DECOMPOSE-LABEL: func @plain
// DECOMPOSE-NOT: moe.
// DECOMPOSE: %[[SUMS:.*]] = linalg.generic {{.*}}iterator_types = ["parallel", "parallel", "reduction"]} ins(%arg0, %arg1
// DECOMPOSE-NOT: moe.
// DECOMPOSE: return
func.func @plain(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
                 %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>)
    -> (tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>) {
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>)
  return %0#0, %0#1, %0#2, %0#3, %0#4
      : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>
}

// -----

//===----------------------------------------------------------------------===//
// Everything that it can have
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func @all
// CHECK: moe.route score(sigmoid) select_on(logits) groups<count = 4, keep = 3, score = top2_sum> renormalize<eps = 1.250000e-01 : f32> scale(2.500000e+00)
// CHECK-SAME: router(%arg2[t, k] * %arg3[k, e] : tensor<?x16xbf16>, tensor<16x8xf16>)
// CHECK-SAME: extras(%arg4[e], %arg5[t, e floordiv 2] : tensor<8xbf16>, tensor<?x4xf32>) bias(%arg6 : tensor<8xf32>)
// CHECK-SAME: weight_extras(%arg6[e], %arg5[t, j + 1] : tensor<8xf32>, tensor<?x4xf32>) id_map(%arg7 : tensor<8xi32>)
// CHECK-SAME: capacity(%arg0) order(choice_major) tokens_per_group(%arg1)
// CHECK-SAME: outs(%{{.*}} : tensor<?x2xbf16>, tensor<?x2xi32>, tensor<7xi32>, tensor<?x2xi32>, tensor<?xi32>)
// CHECK-SAME: attributes {test.note = "kept"} logits {
// CHECK-NEXT: ^bb0(%sum: f32, %extra: bf16, %extra_0: f32):
// CHECK: moe.yield %{{.*}}, %{{.*}} : f32, f32
// CHECK-NEXT: } weights {
// CHECK-NEXT: ^bb0(%weight: f32, %extra: f32, %extra_0: f32):
// CHECK: moe.yield %{{.*}} : bf16
// BUFFER-LABEL: func @all
// BUFFER: moe.route {{.*}} outs({{.*}}memref<?xi32>) attributes {test.note = "kept"} logits {
// BUFFER: } weights {
// VERIFY-LABEL: func @all
// VERIFY: cf.assert {{.*}}a destination and x differ in the number of tokens
// VERIFY: cf.assert {{.*}}tokens_per_group is not positive
// VERIFY-COUNT-2: cf.assert {{.*}}an extra has fewer elements than its index reaches
// VERIFY-NOT: an extra has fewer
// VERIFY: cf.assert {{.*}}there are fewer rows than choices that are kept
// DECOMPOSE-LABEL: func @all
// DECOMPOSE: linalg.generic {{.*}} ins(%arg2, %arg3
// The mix, then the gate, then what is stored, then the map.
// DECOMPOSE: tensor.extract %arg4
// DECOMPOSE: tensor.extract %arg6
// DECOMPOSE: arith.truncf
// DECOMPOSE: tensor.extract %arg7
// DECOMPOSE-NOT: moe.
// DECOMPOSE: return
func.func @all(%c: index, %n: index, %x: tensor<?x16xbf16>, %g: tensor<16x8xf16>, %b: tensor<8xbf16>,
               %a: tensor<?x4xf32>, %s8: tensor<8xf32>, %map: tensor<8xi32>, %w: tensor<?x2xbf16>,
               %i: tensor<?x2xi32>, %o: tensor<7xi32>, %s: tensor<?x2xi32>, %r: tensor<?xi32>)
    -> (tensor<?x2xbf16>, tensor<?x2xi32>, tensor<7xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  %0:5 = moe.route score(sigmoid) select_on(logits) groups<count = 4, keep = 3, score = top2_sum>
      renormalize<eps = 0.125 : f32> scale(2.5)
      router(%x[t, k] * %g[k, e] : tensor<?x16xbf16>, tensor<16x8xf16>)
      extras(%b[e], %a[t, e floordiv 2] : tensor<8xbf16>, tensor<?x4xf32>) bias(%s8 : tensor<8xf32>)
      weight_extras(%s8[e], %a[t, j + 1] : tensor<8xf32>, tensor<?x4xf32>) id_map(%map : tensor<8xi32>)
      capacity(%c) order(choice_major) tokens_per_group(%n)
      outs(%w, %i, %o, %s, %r : tensor<?x2xbf16>, tensor<?x2xi32>, tensor<7xi32>, tensor<?x2xi32>, tensor<?xi32>)
      attributes {test.note = "kept"} logits {
  ^bb0(%sum: f32, %eb: bf16, %ea: f32):
    %bias = arith.extf %eb : bf16 to f32
    %logit = arith.addf %sum, %bias : f32
    %mix = arith.mulf %logit, %ea : f32
    moe.yield %logit, %mix : f32, f32
  } weights {
  ^bb0(%weight: f32, %scale: f32, %ea: f32):
    %scaled = arith.mulf %weight, %scale : f32
    %moved = arith.addf %scaled, %ea : f32
    %rounded = arith.truncf %moved : f32 to bf16
    moe.yield %rounded : bf16
  }
  return %0#0, %0#1, %0#2, %0#3, %0#4
      : tensor<?x2xbf16>, tensor<?x2xi32>, tensor<7xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----

//===----------------------------------------------------------------------===//
// On memrefs
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func @memref
// CHECK-NEXT: moe.route score(none) router(%arg0[t, k] * %arg1[e, k] : memref<?x8xf32>, memref<4x8xf32>)
// DECOMPOSE-LABEL: func @memref
// DECOMPOSE-NOT: moe.
// DECOMPOSE-COUNT-5: bufferization.materialize_in_destination
func.func @memref(%x: memref<?x8xf32>, %g: memref<4x8xf32>, %w: memref<?x2xf32>, %i: memref<?x2xi32>,
                  %o: memref<5xi32>, %s: memref<?x2xi32>, %r: memref<?xi32>) {
  moe.route score(none) router(%x[t, k] * %g[e, k] : memref<?x8xf32>, memref<4x8xf32>)
      outs(%w, %i, %o, %s, %r : memref<?x2xf32>, memref<?x2xi32>, memref<5xi32>, memref<?x2xi32>, memref<?xi32>)
  return
}

// -----

//===----------------------------------------------------------------------===//
// Canonical forms
//===----------------------------------------------------------------------===//

// T comes from x and k from the destination that tells it. Groups that all stay and a bias of zeros
// change nothing.
// CANON-LABEL: func @sharpen
// CANON: moe.route score(softmax) router(
// CANON-SAME: : tensor<16x8xf32>, tensor<4x8xf32>) outs({{.*}} : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>, tensor<16x2xi32>, tensor<?xi32>)
// The sizes of results are those of the destinations.
// REIFY-LABEL: func @sharpen
// VERIFY-LABEL: func @sharpen
// VERIFY: cf.assert {{.*}}a destination and x differ in the number of tokens
// VERIFY: cf.assert {{.*}}destinations differ in k
func.func @sharpen(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<?x?xf32>, %i: tensor<?x2xi32>,
                   %o: tensor<5xi32>, %s: tensor<?x?xi32>, %r: tensor<?xi32>) -> (tensor<?x?xf32>, tensor<?x2xi32>, tensor<?x?xi32>) {
  %zeros = arith.constant dense<0.0> : tensor<4xf32>
  %0:5 = moe.route score(softmax) groups<count = 2, keep = 2>
      router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>) bias(%zeros : tensor<4xf32>)
      outs(%w, %i, %o, %s, %r : tensor<?x?xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x?xi32>, tensor<?xi32>)
  return %0#0, %0#1, %0#3 : tensor<?x?xf32>, tensor<?x2xi32>, tensor<?x?xi32>
}

// -----

// REIFY-LABEL: func @reify
// REIFY-NOT: moe.route
// REIFY-DAG: %[[T:.*]] = tensor.dim %arg2, %c0
// REIFY-DAG: %[[M:.*]] = tensor.dim %arg6, %c0
// REIFY: return %[[T]], %[[M]]
// All of it is known at run time only.
// VERIFY-LABEL: func @reify
// VERIFY: cf.assert {{.*}}x and the router differ in K
// VERIFY: cf.assert {{.*}}bias or id_map and the router differ in the number of experts
// VERIFY: cf.assert {{.*}}k is not positive
// VERIFY: cf.assert {{.*}}k is larger than the number of experts
// VERIFY: moe.route
func.func @reify(%x: tensor<?x?xf32>, %g: tensor<?x?xf32>, %w: tensor<?x?xf32>, %i: tensor<?x?xi32>,
                 %o: tensor<?xi32>, %s: tensor<?x?xi32>, %r: tensor<?xi32>, %b: tensor<?xf32>) -> (index, index) {
  %c0 = arith.constant 0 : index
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<?x?xf32>, tensor<?x?xf32>) bias(%b : tensor<?xf32>)
      outs(%w, %i, %o, %s, %r : tensor<?x?xf32>, tensor<?x?xi32>, tensor<?xi32>, tensor<?x?xi32>, tensor<?xi32>)
  %t = tensor.dim %0#0, %c0 : tensor<?x?xf32>
  %m = tensor.dim %0#4, %c0 : tensor<?xi32>
  return %t, %m : index, index
}

// -----

// On tensors it has no effect: unused, it goes.
// CANON-LABEL: func @unused
// CANON-NEXT: return
func.func @unused(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<16x2xf32>, %i: tensor<16x2xi32>,
                  %o: tensor<5xi32>, %s: tensor<16x2xi32>, %r: tensor<32xi32>) {
  %0:5 = moe.route score(softmax) router(%x[t, k] * %g[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
      outs(%w, %i, %o, %s, %r : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>)
  return
}

// -----

// A cast of an operand goes, with a region and without.
// CANON-LABEL: func @casts
// CANON: moe.route score(softmax) router(%arg0[t, k] * %arg1[e, k] : tensor<16x8xf32>, tensor<4x8xf32>)
// CANON-SAME: outs({{.*}} : tensor<16x2xf32>, tensor<16x2xi32>, tensor<5xi32>, tensor<16x2xi32>, tensor<32xi32>)
func.func @casts(%x: tensor<16x8xf32>, %g: tensor<4x8xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>,
                 %o: tensor<5xi32>, %s: tensor<?x2xi32>, %r: tensor<32xi32>) -> (tensor<?x2xf32>, tensor<?xi32>) {
  %xd = tensor.cast %x : tensor<16x8xf32> to tensor<?x8xf32>
  %gd = tensor.cast %g : tensor<4x8xf32> to tensor<?x8xf32>
  %rd = tensor.cast %r : tensor<32xi32> to tensor<?xi32>
  %0:5 = moe.route score(softmax) router(%xd[t, k] * %gd[e, k] : tensor<?x8xf32>, tensor<?x8xf32>)
      outs(%w, %i, %o, %s, %rd : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %0#0, %0#4 : tensor<?x2xf32>, tensor<?xi32>
}
