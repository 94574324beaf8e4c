// RUN: moe-opt %s --transform-interpreter --canonicalize --cse --split-input-file | FileCheck %s

// A gate by tokens: all experts of each. Its bias has no tokens.
// CHECK-LABEL: func.func @gate(
// CHECK-SAME:    %[[LOGITS:.*]]: tensor<?x8xf32>, %[[BIAS:.*]]: tensor<8xf32>,
// CHECK:         scf.for %[[T:.*]] = %{{.*}} to %{{.*}} step %c4
// CHECK:           %[[SIZE:.*]] = affine.min
// CHECK:           %[[L:.*]] = tensor.extract_slice %[[LOGITS]][%[[T]], 0] [%[[SIZE]], 8] [1, 1]
// CHECK:           tensor.extract_slice %{{.*}}[%[[T]], 0] [%[[SIZE]], 2] [1, 1]
// CHECK-SAME:        tensor<?x2xf32>
// CHECK:           tensor.extract_slice %{{.*}}[%[[T]], 0] [%[[SIZE]], 2] [1, 1]
// CHECK-SAME:        tensor<?x2xi32>
// CHECK:           moe.gate score(sigmoid) ins(%[[L]] : tensor<?x8xf32>)
// CHECK-SAME:        bias(%[[BIAS]] : tensor<8xf32>)
// CHECK-COUNT-2:   tensor.insert_slice %{{.*}} into %{{.*}}[%[[T]], 0] [%[[SIZE]], 2] [1, 1]
func.func @gate(%logits: tensor<?x8xf32>, %bias: tensor<8xf32>, %w: tensor<?x2xf32>,
                %i: tensor<?x2xi32>) -> (tensor<?x2xf32>, tensor<?x2xi32>) {
  %weights, %ids = moe.gate score(sigmoid) ins(%logits : tensor<?x8xf32>)
      bias(%bias : tensor<8xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  return %weights, %ids : tensor<?x2xf32>, tensor<?x2xi32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.gate"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_for %op tile_sizes [4]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// By columns: the rows of all tokens, a part of each; what is added last, too.
// CHECK-LABEL: func.func @combine(
// CHECK-SAME:    %[[ROWS:.*]]: tensor<?x64xf32>, %[[SLOTS:.*]]: tensor<6x2xi32>,
// CHECK-SAME:    %[[WEIGHTS:.*]]: tensor<6x2xf32>, %[[BASE:.*]]: tensor<6x64xf32>,
// CHECK:         scf.forall (%[[I:.*]], %[[J:.*]]) in (2, 4) shared_outs(%[[OUT:.*]] = %{{.*}})
// CHECK-DAG:       %[[T:.*]] = affine.apply #{{.*}}(%[[I]])
// CHECK-DAG:       %[[H:.*]] = affine.apply #{{.*}}(%[[J]])
// CHECK-DAG:       %[[ALL:.*]] = tensor.dim %[[ROWS]], %c0
// CHECK-DAG:       %[[R:.*]] = tensor.extract_slice %[[ROWS]][0, %[[H]]] [%[[ALL]], 16] [1, 1]
// CHECK-DAG:       %[[S:.*]] = tensor.extract_slice %[[SLOTS]][%[[T]], 0] [3, 2] [1, 1]
// CHECK-DAG:       %[[W:.*]] = tensor.extract_slice %[[WEIGHTS]][%[[T]], 0] [3, 2] [1, 1]
// CHECK-DAG:       %[[B:.*]] = tensor.extract_slice %[[BASE]][%[[T]], %[[H]]] [3, 16] [1, 1]
// CHECK-DAG:       %[[O:.*]] = tensor.extract_slice %[[OUT]][%[[T]], %[[H]]] [3, 16] [1, 1]
// CHECK:           %[[Y:.*]] = moe.combine rows(%[[R]] : tensor<?x16xf32>)
// CHECK-SAME:        slots(%[[S]] : tensor<3x2xi32>) weights(%[[W]] : tensor<3x2xf32>)
// CHECK-SAME:        base(%[[B]] : tensor<3x16xf32>) outs(%[[O]] : tensor<3x16xf32>)
// CHECK:           tensor.parallel_insert_slice %[[Y]] into %[[OUT]][%[[T]], %[[H]]] [3, 16] [1, 1]
func.func @combine(%rows: tensor<?x64xf32>, %slots: tensor<6x2xi32>, %weights: tensor<6x2xf32>,
                   %base: tensor<6x64xf32>, %init: tensor<6x64xf32>) -> tensor<6x64xf32> {
  %y = moe.combine rows(%rows : tensor<?x64xf32>) slots(%slots : tensor<6x2xi32>)
      weights(%weights : tensor<6x2xf32>) base(%base : tensor<6x64xf32>)
      outs(%init : tensor<6x64xf32>)
  return %y : tensor<6x64xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.combine"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_forall %op tile_sizes [3, 16]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// By rows: a tile owns what is left of each expert's range in it, counted from its own first row.
// By columns: halves of a stacked weight, an interleaved one, a bias.
// CHECK-DAG:   #[[TWICE:.*]] = affine_map<(d0) -> (d0 * 2)>
// CHECK-DAG:   #[[SECOND:.*]] = affine_map<(d0) -> (d0 + 16)>
// CHECK-LABEL: func.func @rows(
// CHECK-SAME:    %[[OFFSETS:.*]]: tensor<5xi32>, %[[SOURCE:.*]]: tensor<?xi32>,
// CHECK-SAME:    %[[X:.*]]: tensor<?x7xf32>, %[[A:.*]]: tensor<?x7xf32>,
// CHECK-SAME:    %[[W:.*]]: tensor<4x32x7xf32>, %[[B:.*]]: tensor<4x16xf32>,
// CHECK-SAME:    %[[SCALE:.*]]: tensor<?xf32>, %[[CHOICE:.*]]: tensor<?x2xf32>,
// CHECK:         scf.for %[[M:.*]] = %{{.*}} to %{{.*}} step %c3 iter_args(%[[MID:.*]] =
// CHECK:           scf.for %[[N:.*]] = %{{.*}} to %c16 step %c8 iter_args(%[[OUT:.*]] = %[[MID]])
// CHECK-DAG:         %[[SIZE:.*]] = affine.min #{{.*}}(%[[M]])
// CHECK-DAG:         %[[FIRST:.*]] = arith.index_cast %[[M]] : index to i32
// CHECK-DAG:         %[[COUNT:.*]] = arith.index_cast %[[SIZE]] : index to i32
// CHECK:             %[[CLIPPED:.*]] = linalg.generic {{.*}} ins(%[[OFFSETS]] : tensor<5xi32>)
// CHECK:               %[[ROW:.*]] = arith.subi %{{.*}}, %[[FIRST]] : i32
// CHECK:               %[[ABOVE:.*]] = arith.maxsi %[[ROW]], %c0_i32 : i32
// CHECK:               %[[INSIDE:.*]] = arith.minsi %[[ABOVE]], %[[COUNT]] : i32
// CHECK:               linalg.yield %[[INSIDE]] : i32
// CHECK-DAG:         %[[S:.*]] = tensor.extract_slice %[[SOURCE]][%[[M]]] [%[[SIZE]]] [1]
// CHECK-DAG:         %[[EVEN:.*]] = affine.apply #[[TWICE]](%[[N]])
// CHECK-DAG:         %[[W0:.*]] = tensor.extract_slice %[[W]][0, %[[EVEN]], 0] [4, 15, 7]
// CHECK-DAG:         %[[HALF:.*]] = affine.apply #[[SECOND]](%[[N]])
// CHECK-DAG:         %[[W1:.*]] = tensor.extract_slice %[[W]][0, %[[HALF]], 0] [4, 8, 7]
// CHECK-DAG:         %[[AM:.*]] = tensor.extract_slice %[[A]][%[[M]], 0] [%[[SIZE]], 7]
// CHECK-DAG:         %[[BN:.*]] = tensor.extract_slice %[[B]][0, %[[N]]] [4, 8]
// CHECK-DAG:         %[[SM:.*]] = tensor.extract_slice %[[SCALE]][%[[M]]] [%[[SIZE]]]
// CHECK-DAG:         %[[O:.*]] = tensor.extract_slice %[[OUT]][%[[M]], %[[N]]] [%[[SIZE]], 8]
// CHECK:             %[[Y:.*]] = moe.grouped_matmul offsets(%[[CLIPPED]] : tensor<5xi32>)
// CHECK-SAME:          source(%[[S]] : tensor<?xi32>) top_k(2)
// CHECK-SAME:          products(%[[X]][t, k] * %[[W0]][e, n * 2, k], %[[AM]][m, k] * %[[W1]][e, n, k]
// CHECK-SAME:          extras(%[[BN]][e, n], %[[SM]][m], %[[CHOICE]][t, j]
// CHECK-SAME:          outs(%[[O]] : tensor<?x8xf32>)
// CHECK:             tensor.insert_slice %[[Y]] into %[[OUT]][%[[M]], %[[N]]] [%[[SIZE]], 8]
func.func @rows(%offsets: tensor<5xi32>, %source: tensor<?xi32>, %x: tensor<?x7xf32>,
                %a: tensor<?x7xf32>, %w: tensor<4x32x7xf32>, %b: tensor<4x16xf32>,
                %scale: tensor<?xf32>, %choice: tensor<?x2xf32>, %init: tensor<?x16xf32>)
    -> tensor<?x16xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, 2 * n, k], %a[m, k] * %w[e, n + 16, k]
               : tensor<?x7xf32>, tensor<4x32x7xf32>, tensor<?x7xf32>, tensor<4x32x7xf32>)
      extras(%b[e, n], %scale[m], %choice[t, j]
             : tensor<4x16xf32>, tensor<?xf32>, tensor<?x2xf32>)
      outs(%init : tensor<?x16xf32>) {
  ^bb0(%p: f32, %q: f32, %bias: f32, %s: f32, %c: f32):
    %0 = arith.mulf %p, %q : f32
    %1 = arith.addf %0, %bias : f32
    %2 = arith.mulf %1, %s : f32
    %3 = arith.mulf %2, %c : f32
    moe.yield %3 : f32
  }
  return %y : tensor<?x16xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.grouped_matmul"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loops:2 = transform.structured.tile_using_for %op tile_sizes [3, 8]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// By columns alone no range is clipped. A decode region is told the column of the whole matrix, and
// scales of 128 columns are found from tiles that start at multiples of 128.
// CHECK-DAG:   #[[BLOCK:.*]] = affine_map<(d0) -> (d0 floordiv 128)>
// CHECK-LABEL: func.func @decode(
// CHECK-SAME:    %[[OFFSETS:.*]]: tensor<5xi32>,
// CHECK-NOT:     linalg.generic
// CHECK:         scf.for %[[N:.*]] = %{{.*}} to %c512 step %c256
// CHECK:           %[[AT:.*]] = affine.apply #[[BLOCK]](%[[N]])
// CHECK:           %[[S:.*]] = tensor.extract_slice %{{.*}}[0, %[[AT]], 0] [4, 2, 2]
// CHECK:           moe.grouped_matmul offsets(%[[OFFSETS]] : tensor<5xi32>)
// CHECK-SAME:        decode(%{{.*}}[e, n, k], %[[S]][e, n floordiv 128, k floordiv 128])
// CHECK:           decode {
// CHECK:           ^bb0(%[[LOCAL:.*]]: index, %{{.*}}: index, %{{.*}}: i8, %{{.*}}: f32):
// CHECK:             %[[COLUMN:.*]] = arith.addi %[[LOCAL]], %[[N]] : index
// CHECK:             arith.index_cast %[[COLUMN]] : index to i32
func.func @decode(%offsets: tensor<5xi32>, %a: tensor<?x256xf32>, %w: tensor<4x512x256xi8>,
                  %s: tensor<4x4x2xf32>, %init: tensor<?x512xf32>) -> tensor<?x512xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%a[m, k] * decode(%w[e, n, k], %s[e, n floordiv 128, k floordiv 128])
               : tensor<?x256xf32>, tensor<4x512x256xi8>, tensor<4x4x2xf32>)
      outs(%init : tensor<?x512xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  } decode {
  ^bb0(%n: index, %k: index, %code: i8, %scale: f32):
    %column = arith.index_cast %n : index to i32
    %c = arith.sitofp %column : i32 to f32
    %q = arith.sitofp %code : i8 to f32
    %0 = arith.mulf %q, %scale : f32
    %1 = arith.addf %0, %c : f32
    moe.yield %1 : f32
  }
  return %y : tensor<?x512xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.grouped_matmul"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_for %op tile_sizes [0, 256]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// Added into tokens: one loop, over the columns. An index of n and k keeps the rest of its
// dimension; one that moves round and round keeps all of it.
// CHECK-DAG:   #[[FOUR:.*]] = affine_map<(d0) -> (d0 * 4)>
// CHECK-DAG:   #[[REST:.*]] = affine_map<(d0) -> (d0 * -4 + 128)>
// CHECK-LABEL: func.func @tokens(
// CHECK:         scf.for %[[N:.*]] = %{{.*}} to %c32 step %c16
// CHECK-DAG:       %[[AT:.*]] = affine.apply #[[FOUR]](%[[N]])
// CHECK-DAG:       %[[REST_OF:.*]] = affine.apply #[[REST]](%[[N]])
// CHECK-DAG:       %[[W:.*]] = tensor.extract_slice %{{.*}}[0, %[[AT]]] [4, %[[REST_OF]]]
// CHECK-DAG:       %[[BASE:.*]] = tensor.extract_slice %{{.*}}[0, %[[N]]] [6, 16]
// CHECK:           moe.grouped_matmul
// CHECK-SAME:        products(%{{.*}}[m, k] * %[[W]][e, n * 4 + k]
// CHECK-SAME:        extras(%{{.*}}[n mod 8] : tensor<8xf32>)
// CHECK-SAME:        combine(%{{.*}} : tensor<6x2xi32>, %{{.*}} : tensor<6x2xf32>)
// CHECK-SAME:        base(%[[BASE]] : tensor<6x16xf32>)
func.func @tokens(%offsets: tensor<5xi32>, %a: tensor<12x4xf32>, %w: tensor<4x128xf32>,
                  %b: tensor<8xf32>, %slots: tensor<6x2xi32>, %weights: tensor<6x2xf32>,
                  %base: tensor<6x32xf32>, %init: tensor<6x32xf32>) -> tensor<6x32xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<5xi32>)
      products(%a[m, k] * %w[e, 4 * n + k] : tensor<12x4xf32>, tensor<4x128xf32>)
      extras(%b[n mod 8] : tensor<8xf32>)
      combine(%slots : tensor<6x2xi32>, %weights : tensor<6x2xf32>) base(%base : tensor<6x32xf32>)
      outs(%init : tensor<6x32xf32>) {
  ^bb0(%p: f32, %bias: f32):
    %0 = arith.addf %p, %bias : f32
    moe.yield %0 : f32
  }
  return %y : tensor<6x32xf32>
}
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%root: !transform.any_op) {
    %op = transform.structured.match ops{["moe.grouped_matmul"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_for %op tile_sizes [16]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
