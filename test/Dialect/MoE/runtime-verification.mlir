// What the verifier cannot see becomes assertions in front of the op: sizes where one of them is
// dynamic, and the values of ids, offsets and slots.

// RUN: moe-opt %s --generate-runtime-verification | FileCheck %s

// Static sizes are the verifier's, so nothing is left to assert.
// CHECK-LABEL: func @gate_of_static_sizes
func.func @gate_of_static_sizes(%l: tensor<4x4xf32>, %w: tensor<4x2xf32>, %i: tensor<4x2xi32>) -> tensor<4x2xf32> {
  // CHECK-NEXT: moe.gate
  %0:2 = moe.gate score(softmax) ins(%l : tensor<4x4xf32>) outs(%w, %i : tensor<4x2xf32>, tensor<4x2xi32>)
  return %0#0 : tensor<4x2xf32>
}

// CHECK-LABEL: func @gate
func.func @gate(%l: tensor<?x?xf32>, %b: tensor<?xf32>, %m: tensor<?x?xf32>, %w: tensor<?x?xf32>,
                %i: tensor<?x?xi32>) -> tensor<?x?xf32> {
  // CHECK: cf.assert {{.*}}logits and weights differ in the number of tokens
  // CHECK: cf.assert {{.*}}logits and ids differ in the number of tokens
  // CHECK: cf.assert {{.*}}weights and ids differ in k
  // CHECK: cf.assert {{.*}}bias and logits differ in the number of experts
  // CHECK: cf.assert {{.*}}mix and logits differ in the number of tokens
  // CHECK: cf.assert {{.*}}mix and logits differ in the number of experts
  // CHECK: cf.assert {{.*}}k is not positive
  // CHECK: cf.assert {{.*}}k is larger than the number of experts
  // CHECK: cf.assert {{.*}}the count of the groups does not divide the number of experts
  // CHECK: cf.assert {{.*}}the kept groups hold fewer experts than k
  // CHECK: cf.assert {{.*}}top2_sum has groups of fewer than two experts
  // CHECK-NOT: cf.assert
  // CHECK: moe.gate
  %0:2 = moe.gate score(softmax) groups<count = 8, keep = 4, score = top2_sum>
      ins(%l : tensor<?x?xf32>) bias(%b : tensor<?xf32>) mix(%m : tensor<?x?xf32>)
      outs(%w, %i : tensor<?x?xf32>, tensor<?x?xi32>)
  return %0#0 : tensor<?x?xf32>
}

// CHECK-LABEL: func @dispatch
func.func @dispatch(%n: index, %c: index, %ids: tensor<?x?xi32>, %x: tensor<?x?xf32>, %g: tensor<?x?xf32>,
                    %o: tensor<?xi32>, %s: tensor<?x?xi32>, %rx: tensor<?x?xf32>, %rg: tensor<?xf32>)
    -> tensor<?x?xf32> {
  // CHECK: cf.assert {{.*}}slots and ids differ in T
  // CHECK: cf.assert {{.*}}slots and ids differ in k
  // CHECK: cf.assert {{.*}}tokens_per_group is not positive
  // CHECK: cf.assert {{.*}}a payload and ids differ in T
  // CHECK: cf.assert {{.*}}a row value and its payload differ in an inner size
  // CHECK: cf.assert {{.*}}a choice payload and ids differ in k
  // CHECK: cf.assert {{.*}}row values differ in their number of rows
  // CHECK: scf.for
  // CHECK: scf.for
  // CHECK: cf.assert {{.*}}an id is outside [0, E), but the op says in_bounds
  // The number of rows is that of a dispatch without payloads.
  // CHECK: moe.dispatch ids({{.*}}) capacity({{.*}}) tokens_per_group({{.*}}) outs(
  // CHECK: cf.assert {{.*}}there are fewer rows than choices that are kept
  // CHECK-NOT: cf.assert
  // CHECK: moe.dispatch in_bounds
  %0:4 = moe.dispatch in_bounds ids(%ids : tensor<?x?xi32>) tokens(%x : tensor<?x?xf32>)
      choices(%g : tensor<?x?xf32>) capacity(%c) tokens_per_group(%n)
      outs(%o, %s, %rx, %rg : tensor<?xi32>, tensor<?x?xi32>, tensor<?x?xf32>, tensor<?xf32>)
  return %0#2 : tensor<?x?xf32>
}

// CHECK-LABEL: func @plan
func.func @plan(%c: index, %ids: tensor<?x?xi32>, %p: tensor<?x?xf32>, %o: tensor<?xi32>,
                %s: tensor<?x?xi32>, %r: tensor<?xi32>) -> tensor<?xi32> {
  // CHECK: cf.assert {{.*}}slots and ids differ in T
  // CHECK: cf.assert {{.*}}slots and ids differ in k
  // CHECK: cf.assert {{.*}}priority and ids differ in T
  // CHECK: cf.assert {{.*}}priority and ids differ in k
  // CHECK: moe.dispatch ids({{.*}}) capacity({{.*}}) priority({{.*}}) outs(
  // CHECK: cf.assert {{.*}}there are fewer rows than choices that are kept
  // CHECK-NOT: cf.assert
  // CHECK: moe.plan
  %0:3 = moe.plan ids(%ids : tensor<?x?xi32>) capacity(%c) priority(%p : tensor<?x?xf32>)
      outs(%o, %s, %r : tensor<?xi32>, tensor<?x?xi32>, tensor<?xi32>)
  return %0#2 : tensor<?xi32>
}

// CHECK-LABEL: func @expert
func.func @expert(%o: tensor<?xi32>, %x: tensor<?xf32>, %z: tensor<?xf32>, %w: tensor<4x8xf32>, %y: tensor<?xf32>)
    -> tensor<?xf32> {
  // CHECK: cf.assert {{.*}}row values differ in their number of rows
  // CHECK: cf.assert {{.*}}offsets and a per-expert value differ in the number of experts
  // CHECK: cf.assert {{.*}}offsets[0] is negative
  // CHECK: scf.for
  // CHECK: cf.assert {{.*}}offsets go backwards
  // CHECK: cf.assert {{.*}}offsets[E] is beyond the rows
  // CHECK: moe.expert
  // CHECK: cf.assert {{.*}}the body yields another number of rows than it was given
  // CHECK: moe.yield
  %0 = moe.expert offsets(%o : tensor<?xi32>) rows(%x, %z : tensor<?xf32>, tensor<?xf32>)
      params(%w : tensor<4x8xf32>) outs(%y : tensor<?xf32>) {
  ^bb0(%e: index, %xe: tensor<?xf32>, %ze: tensor<?xf32>, %we: tensor<8xf32>):
    moe.yield %xe : tensor<?xf32>
  }
  return %0 : tensor<?xf32>
}

// CHECK-LABEL: func @combine
func.func @combine(%r: tensor<?x?xf32>, %s: tensor<?x?xi32>, %w: tensor<?x?xf32>, %b: tensor<?x?xf32>,
                   %y: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // CHECK: cf.assert {{.*}}weights and slots differ in T
  // CHECK: cf.assert {{.*}}weights and slots differ in k
  // CHECK: cf.assert {{.*}}the destination and slots differ in T
  // CHECK: cf.assert {{.*}}the destination and rows differ in H
  // CHECK: cf.assert {{.*}}base and the destination differ in T
  // CHECK: cf.assert {{.*}}base and the destination differ in H
  // CHECK: scf.for
  // CHECK: cf.assert {{.*}}a slot is outside [-1, M)
  // CHECK: cf.assert {{.*}}slots collide: two choices share a row
  // CHECK: moe.combine
  %0 = moe.combine rows(%r : tensor<?x?xf32>) slots(%s : tensor<?x?xi32>) weights(%w : tensor<?x?xf32>)
      base(%b : tensor<?x?xf32>) outs(%y : tensor<?x?xf32>)
  return %0 : tensor<?x?xf32>
}

// CHECK-LABEL: func @grouped_matmul
func.func @grouped_matmul(%o: tensor<?xi32>, %s: tensor<?xi32>, %x: tensor<?x?xf32>, %w: tensor<?x?x?xf32>,
                          %y: tensor<?x?xf32>, %z: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // CHECK: cf.assert {{.*}}destinations differ in their rows
  // CHECK: cf.assert {{.*}}destinations differ in N
  // CHECK: cf.assert {{.*}}source, rows and destination differ in M
  // CHECK: cf.assert {{.*}}offsets[0] is negative
  // CHECK: scf.for
  // CHECK: cf.assert {{.*}}offsets go backwards
  // CHECK: cf.assert {{.*}}offsets[E] is beyond the rows
  // CHECK: scf.for
  // CHECK: tensor.extract %arg1
  // CHECK: cf.assert {{.*}}the source of a row that is computed is outside [0, T{{.*}}k)
  // The dimensions of a weight: e, n, k; what has a mod is not monotone.
  // CHECK-COUNT-4: cf.assert {{.*}}an index expression leaves its operand
  // CHECK-NOT: cf.assert
  // CHECK: moe.grouped_matmul
  %0:2 = moe.grouped_matmul offsets(%o : tensor<?xi32>) source(%s : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n * 2, k], %x[t, k] * %w[e, n mod 2, k mod 2]
               : tensor<?x?xf32>, tensor<?x?x?xf32>, tensor<?x?xf32>, tensor<?x?x?xf32>)
      outs(%y, %z : tensor<?x?xf32>, tensor<?x?xf32>) {
  ^bb0(%p: f32, %q: f32):
    moe.yield %p, %q : f32, f32
  }
  return %0#0 : tensor<?x?xf32>
}

// What a prologue reads, as well: a choice, e and k of a scale.
// CHECK-LABEL: func @prologue
func.func @prologue(%o: tensor<?xi32>, %s: tensor<?xi32>, %x: tensor<?x?xf32>, %g: tensor<?x2xf32>,
                    %r: tensor<?x?xf32>, %w: tensor<?x?x?xf32>, %y: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // CHECK: tensor.extract %arg1
  // CHECK-COUNT-2: arith.cmpi slt
  // CHECK: cf.assert {{.*}}the source of a row that is computed is outside [0, T{{.*}}k)
  // CHECK-COUNT-6: cf.assert {{.*}}an index expression leaves its operand
  // CHECK-NOT: cf.assert
  // CHECK: moe.grouped_matmul
  %0 = moe.grouped_matmul offsets(%o : tensor<?xi32>) source(%s : tensor<?xi32>) top_k(2)
      products(prologue(%x[t, k], %g[t, j], %r[e, k]) * %w[e, n, k]
               : tensor<?x?xf32>, tensor<?x2xf32>, tensor<?x?xf32>, tensor<?x?x?xf32>)
      outs(%y : tensor<?x?xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } prologue {
  ^bb0(%a: f32, %b: f32, %c: f32):
    moe.yield %a : f32
  }
  return %0 : tensor<?x?xf32>
}

// CHECK-LABEL: func @grouped_matmul_combine
func.func @grouped_matmul_combine(%o: memref<5xi32>, %x: memref<32x8xf32>, %w: memref<4x6x8xf32>,
                                  %s: memref<?x?xi32>, %g: memref<?x?xf32>, %b: memref<?x?xf32>,
                                  %y: memref<?x?xf32>) {
  // CHECK: cf.assert {{.*}}weights and slots differ in T
  // CHECK: cf.assert {{.*}}weights and slots differ in k
  // CHECK: cf.assert {{.*}}the destination and slots differ in T
  // CHECK: cf.assert {{.*}}base and the destination differ in size
  // CHECK: cf.assert {{.*}}base and the destination differ in size
  // CHECK: cf.assert {{.*}}slots have another number of choices than top_k
  // CHECK: cf.assert {{.*}}offsets[E] is beyond the rows
  // CHECK: cf.assert {{.*}}an index expression leaves its operand
  // CHECK: cf.assert {{.*}}a slot is outside [-1, M)
  // CHECK: cf.assert {{.*}}slots collide: two choices share a row
  // CHECK: moe.grouped_matmul
  moe.grouped_matmul offsets(%o : memref<5xi32>) top_k(2)
      products(%x[m, k] * %w[e, n, k] : memref<32x8xf32>, memref<4x6x8xf32>)
      combine(%s : memref<?x?xi32>, %g : memref<?x?xf32>) base(%b : memref<?x?xf32>)
      outs(%y : memref<?x?xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return
}

// An assertion in a body is no effect, so what was verified verifies still.
// CHECK-LABEL: func @in_a_body
func.func @in_a_body(%o: tensor<2xi32>, %l: tensor<?x?xf32>, %w: tensor<?x2xf32>) -> tensor<?x2xf32> {
  // CHECK: moe.expert
  // CHECK: cf.assert {{.*}}k is larger than the number of experts
  // CHECK: moe.gate
  %0 = moe.expert offsets(%o : tensor<2xi32>) rows(%l : tensor<?x?xf32>) outs(%w : tensor<?x2xf32>) {
  ^bb0(%e: index, %le: tensor<?x?xf32>):
    %c0 = arith.constant 0 : index
    %n = tensor.dim %le, %c0 : tensor<?x?xf32>
    %i0 = tensor.empty(%n) : tensor<?x2xi32>
    %w0 = tensor.empty(%n) : tensor<?x2xf32>
    %1:2 = moe.gate score(softmax) ins(%le : tensor<?x?xf32>) outs(%w0, %i0 : tensor<?x2xf32>, tensor<?x2xi32>)
    moe.yield %1#0 : tensor<?x2xf32>
  }
  return %0 : tensor<?x2xf32>
}
