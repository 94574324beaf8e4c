// Bodies of experts, cut into stages. python/tests/test_fusion.py runs all of them, fused and as they
// are written, so each function here has one result and takes its arguments as they come.

// RUN: moe-opt %s --pass-pipeline='builtin.module(func.func(canonicalize,moe-expert-to-grouped-matmul,canonicalize,cse))' \
// RUN:     | FileCheck %s

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// Gate and up apart, as E×N×K; the activation in a linalg.map.

// CHECK-LABEL: func.func @swiglu(
// CHECK: %[[H:.*]] = moe.grouped_matmul offsets(%arg0 : tensor<4xi32>)
// CHECK-SAME: products(%arg1[m, k] * %arg2[e, n, k], %arg1[m, k] * %arg3[e, n, k] :
// CHECK-SAME: outs(%{{.*}} : tensor<?x5xf32>) {
// CHECK-NEXT: ^bb0(%[[G:.*]]: f32, %[[U:.*]]: f32):
// CHECK-NEXT: %[[N:.*]] = arith.negf %[[G]] : f32
// CHECK-NEXT: %[[X:.*]] = math.exp %[[N]] : f32
// CHECK-NEXT: %[[D:.*]] = arith.addf %[[X]], %{{.*}} : f32
// CHECK-NEXT: %[[S:.*]] = arith.divf %[[G]], %[[D]] : f32
// CHECK-NEXT: %[[P:.*]] = arith.mulf %[[S]], %[[U]] : f32
// CHECK-NEXT: moe.yield %[[P]] : f32
// CHECK: %[[Y:.*]] = moe.grouped_matmul offsets(%arg0 : tensor<4xi32>)
// CHECK-SAME: products(%[[H]][m, k] * %arg4[e, n, k] :
// CHECK-SAME: outs(%{{.*}} : tensor<?x6xf32>) {
// CHECK-NEXT: ^bb0(%[[R:.*]]: f32):
// CHECK-NEXT: moe.yield %[[R]] : f32
// CHECK: return %[[Y]]
func.func @swiglu(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>, %gate: tensor<3x5x6xf32>,
    %up: tensor<3x5x6xf32>, %down: tensor<3x6x5xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%gate, %up, %down : tensor<3x5x6xf32>, tensor<3x5x6xf32>, tensor<3x6x5xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %gate_e: tensor<5x6xf32>, %up_e: tensor<5x6xf32>,
       %down_e: tensor<6x5xf32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %g_e = tensor.empty(%r) : tensor<?x5xf32>
    %g_z = linalg.fill ins(%zero : f32) outs(%g_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %g = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %gate_e : tensor<?x6xf32>, tensor<5x6xf32>) outs(%g_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up_e : tensor<?x6xf32>, tensor<5x6xf32>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %p_e = tensor.empty(%r) : tensor<?x5xf32>
    %p = linalg.map ins(%g, %u : tensor<?x5xf32>, tensor<?x5xf32>) outs(%p_e : tensor<?x5xf32>)
      (%v: f32, %w: f32, %unused: f32) {
        %one = arith.constant 1.0 : f32
        %n = arith.negf %v : f32
        %exp = math.exp %n : f32
        %d = arith.addf %one, %exp : f32
        %silu = arith.divf %v, %d : f32
        %product = arith.mulf %silu, %w : f32
        linalg.yield %product : f32
      }
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%p, %down_e : tensor<?x5xf32>, tensor<6x5xf32>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %d : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// Gate and up are halves of one weight; every step rounds to bf16.

// CHECK-LABEL: func.func @swiglu_stacked_bf16(
// CHECK: products(%arg1[m, k] * %arg2[e, n, k], %arg1[m, k] * %arg2[e, n + 5, k] :
// CHECK-SAME: outs(%{{.*}} : tensor<?x5xbf16>) {
// CHECK-NEXT: ^bb0(%[[G:.*]]: f32, %[[U:.*]]: f32):
// CHECK-NEXT: %[[GB:.*]] = arith.truncf %[[G]] : f32 to bf16
// CHECK-NEXT: %[[GW:.*]] = arith.extf %[[GB]] : bf16 to f32
// CHECK: %[[S:.*]] = arith.divf %[[GW]],
// CHECK-NEXT: %[[SB:.*]] = arith.truncf %[[S]] : f32 to bf16
// CHECK-NEXT: %[[UB:.*]] = arith.truncf %[[U]] : f32 to bf16
// CHECK-NEXT: %[[P:.*]] = arith.mulf %[[SB]], %[[UB]] : bf16
// CHECK-NEXT: moe.yield %[[P]] : bf16
// CHECK: ^bb0(%[[R:.*]]: f32):
// CHECK-NEXT: %[[B:.*]] = arith.truncf %[[R]] : f32 to bf16
// CHECK-NEXT: moe.yield %[[B]] : bf16
func.func @swiglu_stacked_bf16(%offsets: tensor<4xi32>, %x: tensor<?x6xbf16>,
    %both: tensor<3x10x6xbf16>, %down: tensor<3x6x5xbf16>) -> tensor<?x6xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %zero_n = arith.constant 0.0 : bf16
  %M = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %empty = tensor.empty(%M) : tensor<?x6xbf16>
  %init = linalg.fill ins(%zero_n : bf16) outs(%empty : tensor<?x6xbf16>) -> tensor<?x6xbf16>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xbf16>)
      params(%both, %down : tensor<3x10x6xbf16>, tensor<3x6x5xbf16>)
      outs(%init : tensor<?x6xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %both_e: tensor<10x6xbf16>,
       %down_e: tensor<6x5xbf16>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %gate = tensor.extract_slice %both_e[0, 0] [5, 6] [1, 1] : tensor<10x6xbf16> to tensor<5x6xbf16>
    %up = tensor.extract_slice %both_e[5, 0] [5, 6] [1, 1] : tensor<10x6xbf16> to tensor<5x6xbf16>
    %g_e = tensor.empty(%r) : tensor<?x5xf32>
    %g_z = linalg.fill ins(%zero : f32) outs(%g_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %g = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %gate : tensor<?x6xbf16>, tensor<5x6xbf16>) outs(%g_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up : tensor<?x6xbf16>, tensor<5x6xbf16>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %g_b = arith.truncf %g : tensor<?x5xf32> to tensor<?x5xbf16>
    %u_b = arith.truncf %u : tensor<?x5xf32> to tensor<?x5xbf16>
    %g_w = arith.extf %g_b : tensor<?x5xbf16> to tensor<?x5xf32>
    %s_n = arith.negf %g_w : tensor<?x5xf32>
    %s_x = math.exp %s_n : tensor<?x5xf32>
    %s_1_s = arith.constant 1.0 : f32
    %s_1_e = tensor.empty(%r) : tensor<?x5xf32>
    %s_1 = linalg.fill ins(%s_1_s : f32) outs(%s_1_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %s_d = arith.addf %s_1, %s_x : tensor<?x5xf32>
    %s = arith.divf %g_w, %s_d : tensor<?x5xf32>
    %s_b = arith.truncf %s : tensor<?x5xf32> to tensor<?x5xbf16>
    %p = arith.mulf %s_b, %u_b : tensor<?x5xbf16>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%p, %down_e : tensor<?x5xbf16>, tensor<6x5xbf16>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d_b = arith.truncf %d : tensor<?x6xf32> to tensor<?x6xbf16>
    moe.yield %d_b : tensor<?x6xbf16>
  }
  return %y : tensor<?x6xbf16>
}

// Halves again, of an E×K×N weight: columns of the product, taken apart after the matmul.

// CHECK-LABEL: func.func @reglu_stacked_columns(
// CHECK: products(%arg1[m, k] * %arg2[e, k, n], %arg1[m, k] * %arg2[e, k, n + 5] :
// CHECK-SAME: outs(%{{.*}} : tensor<?x5xf32>) {
// CHECK-NEXT: ^bb0(%[[G:.*]]: f32, %[[U:.*]]: f32):
// CHECK-NEXT: %[[R:.*]] = arith.maximumf %[[G]], %{{.*}} : f32
// CHECK-NEXT: %[[P:.*]] = arith.mulf %[[R]], %[[U]] : f32
// CHECK-NEXT: moe.yield %[[P]] : f32
// CHECK: products(%{{.*}}[m, k] * %arg3[e, k, n] :
// CHECK-NOT: moe.expert
func.func @reglu_stacked_columns(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>,
    %both: tensor<3x6x10xf32>, %down: tensor<3x5x6xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%both, %down : tensor<3x6x10xf32>, tensor<3x5x6xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %both_e: tensor<6x10xf32>, %down_e: tensor<5x6xf32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %zeros_b = tensor.splat %zero[%r] : tensor<?x10xf32>
    %zeros_h = tensor.splat %zero[%r] : tensor<?x5xf32>
    %zeros_d = tensor.splat %zero[%r] : tensor<?x6xf32>
    %b = linalg.matmul ins(%xe, %both_e : tensor<?x6xf32>, tensor<6x10xf32>)
        outs(%zeros_b : tensor<?x10xf32>) -> tensor<?x10xf32>
    %g = tensor.extract_slice %b[0, 0] [%r, 5] [1, 1] : tensor<?x10xf32> to tensor<?x5xf32>
    %u = tensor.extract_slice %b[0, 5] [%r, 5] [1, 1] : tensor<?x10xf32> to tensor<?x5xf32>
    %relu = arith.maximumf %g, %zeros_h : tensor<?x5xf32>
    %p = arith.mulf %relu, %u : tensor<?x5xf32>
    %d = linalg.matmul ins(%p, %down_e : tensor<?x5xf32>, tensor<5x6xf32>)
        outs(%zeros_d : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %d : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// The shortest form: whole tensors, constants as splats, rows left in f32.

// CHECK-LABEL: func.func @swiglu_short(
// CHECK-NOT: moe.expert
// CHECK: products(%arg1[m, k] * %arg2[e, n, k], %arg1[m, k] * %arg3[e, n, k] :
// CHECK: ^bb0(%[[G:.*]]: f32, %[[U:.*]]: f32):
// CHECK-NEXT: %[[MINUS:.*]] = arith.negf %[[G]]
// CHECK-NEXT: %[[EXP:.*]] = math.exp %[[MINUS]]
// CHECK-NEXT: %[[SUM:.*]] = arith.addf %[[EXP]], %{{.*}} : f32
// CHECK: %[[SILU:.*]] = arith.divf %[[G]], %[[SUM]]
// CHECK: %[[P:.*]] = arith.mulf %[[SILU]], %[[U]]
// CHECK: %[[H:.*]] = arith.truncf %[[P]] : f32 to bf16
// CHECK: moe.yield %[[H]] : bf16
// CHECK: products(%{{.*}}[m, k] * %arg4[e, n, k] :
// CHECK-NOT: moe.expert
func.func @swiglu_short(%offsets: tensor<4xi32>, %x: tensor<?x6xbf16>, %gate: tensor<3x5x6xbf16>,
    %up: tensor<3x5x6xbf16>, %down: tensor<3x6x5xbf16>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %init = tensor.splat %zero[%M] : tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>) rows(%x : tensor<?x6xbf16>)
      params(%gate, %up, %down : tensor<3x5x6xbf16>, tensor<3x5x6xbf16>, tensor<3x6x5xbf16>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %ge: tensor<5x6xbf16>, %ue: tensor<5x6xbf16>,
       %de: tensor<6x5xbf16>):
    %n = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %z = tensor.splat %zero[%n] : tensor<?x5xf32>
    %g = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %ge : tensor<?x6xbf16>, tensor<5x6xbf16>) outs(%z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %ue : tensor<?x6xbf16>, tensor<5x6xbf16>) outs(%z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %minus_g = arith.negf %g : tensor<?x5xf32>
    %exp = math.exp %minus_g : tensor<?x5xf32>
    %ones = tensor.splat %one[%n] : tensor<?x5xf32>
    %denominator = arith.addf %ones, %exp : tensor<?x5xf32>
    %silu = arith.divf %g, %denominator : tensor<?x5xf32>
    %product = arith.mulf %silu, %u : tensor<?x5xf32>
    %h = arith.truncf %product : tensor<?x5xf32> to tensor<?x5xbf16>
    %yz = tensor.splat %zero[%n] : tensor<?x6xf32>
    %r = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%h, %de : tensor<?x5xbf16>, tensor<6x5xbf16>) outs(%yz : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %r : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// Gate and up are the even and odd columns of one E×K×N weight; taken apart after the matmul.

// CHECK-LABEL: func.func @geglu_tanh_interleaved(
// CHECK: products(%arg1[m, k] * %arg2[e, k, n * 2], %arg1[m, k] * %arg2[e, k, n * 2 + 1] :
// CHECK: math.tanh
// CHECK: products(%{{.*}}[m, k] * %arg3[e, k, n] :
// CHECK-NOT: moe.expert
func.func @geglu_tanh_interleaved(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>,
    %both: tensor<3x6x10xf32>, %down: tensor<3x5x6xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%both, %down : tensor<3x6x10xf32>, tensor<3x5x6xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %both_e: tensor<6x10xf32>,
       %down_e: tensor<5x6xf32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %b_e = tensor.empty(%r) : tensor<?x10xf32>
    %b_z = linalg.fill ins(%zero : f32) outs(%b_e : tensor<?x10xf32>) -> tensor<?x10xf32>
    %b = linalg.matmul indexing_maps = [#mk, #kn, #mn]
        ins(%xe, %both_e : tensor<?x6xf32>, tensor<6x10xf32>) outs(%b_z : tensor<?x10xf32>) -> tensor<?x10xf32>
    %g = tensor.extract_slice %b[0, 0] [%r, 5] [1, 2] : tensor<?x10xf32> to tensor<?x5xf32>
    %u = tensor.extract_slice %b[0, 1] [%r, 5] [1, 2] : tensor<?x10xf32> to tensor<?x5xf32>
    %c1_s = arith.constant 0.044715 : f32
    %c1_e = tensor.empty(%r) : tensor<?x5xf32>
    %c1 = linalg.fill ins(%c1_s : f32) outs(%c1_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %c2_s = arith.constant 0.797884561 : f32
    %c2_e = tensor.empty(%r) : tensor<?x5xf32>
    %c2 = linalg.fill ins(%c2_s : f32) outs(%c2_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %half_s = arith.constant 0.5 : f32
    %half_e = tensor.empty(%r) : tensor<?x5xf32>
    %half = linalg.fill ins(%half_s : f32) outs(%half_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %one_s = arith.constant 1.0 : f32
    %one_e = tensor.empty(%r) : tensor<?x5xf32>
    %one = linalg.fill ins(%one_s : f32) outs(%one_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %g2 = arith.mulf %g, %g : tensor<?x5xf32>
    %g3 = arith.mulf %g2, %g : tensor<?x5xf32>
    %k1 = arith.mulf %g3, %c1 : tensor<?x5xf32>
    %k2 = arith.addf %g, %k1 : tensor<?x5xf32>
    %k3 = arith.mulf %k2, %c2 : tensor<?x5xf32>
    %th = math.tanh %k3 : tensor<?x5xf32>
    %t1 = arith.addf %th, %one : tensor<?x5xf32>
    %hg = arith.mulf %g, %half : tensor<?x5xf32>
    %ge = arith.mulf %hg, %t1 : tensor<?x5xf32>
    %p = arith.mulf %ge, %u : tensor<?x5xf32>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #kn, #mn]
        ins(%p, %down_e : tensor<?x5xf32>, tensor<5x6xf32>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %d : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// Interleaved as well, taken apart by reshapes.

// CHECK-LABEL: func.func @geglu_erf_reshaped(
// CHECK: products(%arg1[m, k] * %arg2[e, n * 2, k], %arg1[m, k] * %arg2[e, n * 2 + 1, k] :
// CHECK: math.erf
// CHECK-NOT: moe.expert
func.func @geglu_erf_reshaped(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>,
    %both: tensor<3x10x6xf32>, %down: tensor<3x6x5xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%both, %down : tensor<3x10x6xf32>, tensor<3x6x5xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %both_e: tensor<10x6xf32>,
       %down_e: tensor<6x5xf32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %b_e = tensor.empty(%r) : tensor<?x10xf32>
    %b_z = linalg.fill ins(%zero : f32) outs(%b_e : tensor<?x10xf32>) -> tensor<?x10xf32>
    %b = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %both_e : tensor<?x6xf32>, tensor<10x6xf32>) outs(%b_z : tensor<?x10xf32>) -> tensor<?x10xf32>
    %pairs = tensor.expand_shape %b [[0], [1, 2]] output_shape [%r, 5, 2] : tensor<?x10xf32> into tensor<?x5x2xf32>
    %g = tensor.extract_slice %pairs[0, 0, 0] [%r, 5, 1] [1, 1, 1] : tensor<?x5x2xf32> to tensor<?x5xf32>
    %u = tensor.extract_slice %pairs[0, 0, 1] [%r, 5, 1] [1, 1, 1] : tensor<?x5x2xf32> to tensor<?x5xf32>
    %half_s = arith.constant 0.5 : f32
    %half_e = tensor.empty(%r) : tensor<?x5xf32>
    %half = linalg.fill ins(%half_s : f32) outs(%half_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %root_s = arith.constant 0.707106769 : f32
    %root_e = tensor.empty(%r) : tensor<?x5xf32>
    %root = linalg.fill ins(%root_s : f32) outs(%root_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %one_s = arith.constant 1.0 : f32
    %one_e = tensor.empty(%r) : tensor<?x5xf32>
    %one = linalg.fill ins(%one_s : f32) outs(%one_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %q = arith.mulf %g, %root : tensor<?x5xf32>
    %erf = math.erf %q : tensor<?x5xf32>
    %t1 = arith.addf %erf, %one : tensor<?x5xf32>
    %hg = arith.mulf %g, %half : tensor<?x5xf32>
    %ge = arith.mulf %hg, %t1 : tensor<?x5xf32>
    %p = arith.mulf %ge, %u : tensor<?x5xf32>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%p, %down_e : tensor<?x5xf32>, tensor<6x5xf32>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %d : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// A shared weight from above, with the transpose of a weight written out.

// CHECK-LABEL: func.func @reglu(
// CHECK: products(%arg1[m, k] * %arg4[n, k], %arg1[m, k] * %arg2[e, k, n] :
// CHECK: arith.maximumf
// CHECK-NOT: moe.expert
func.func @reglu(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>, %up: tensor<3x6x5xf32>,
    %down: tensor<3x6x5xf32>, %shared: tensor<5x6xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%up, %down : tensor<3x6x5xf32>, tensor<3x6x5xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %up_e: tensor<6x5xf32>, %down_e: tensor<6x5xf32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %ut_e = tensor.empty() : tensor<5x6xf32>
    %ut = linalg.transpose ins(%up_e : tensor<6x5xf32>) outs(%ut_e : tensor<5x6xf32>) permutation = [1, 0]
    %g_e = tensor.empty(%r) : tensor<?x5xf32>
    %g_z = linalg.fill ins(%zero : f32) outs(%g_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %g = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %shared : tensor<?x6xf32>, tensor<5x6xf32>) outs(%g_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %ut : tensor<?x6xf32>, tensor<5x6xf32>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %relu = arith.maximumf %g, %g_z : tensor<?x5xf32>
    %p = arith.mulf %relu, %u : tensor<?x5xf32>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%p, %down_e : tensor<?x5xf32>, tensor<6x5xf32>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %d : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// A bias that the matmul starts from, one that is added to its result, and a scale of the expert.

// CHECK-LABEL: func.func @mlp_biases(
// CHECK: products(%arg1[m, k] * %arg2[e, n, k] :
// CHECK-SAME: extras(%arg4[e, n] : tensor<3x5xf32>)
// CHECK-NEXT: ^bb0(%[[P:.*]]: f32, %[[B:.*]]: f32):
// CHECK-NEXT: %[[S:.*]] = arith.addf %[[B]], %[[P]] : f32
// CHECK-NEXT: math.tanh %[[S]] : f32
// CHECK: extras(%arg5[e, n], %arg6[e] : tensor<3x6xf32>, tensor<3xf32>)
// CHECK-NOT: moe.expert
func.func @mlp_biases(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>, %up: tensor<3x5x6xf32>,
    %down: tensor<3x6x5xf32>, %b1: tensor<3x5xf32>, %b2: tensor<3x6xf32>, %scale: tensor<3xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%up, %down, %b1, %b2, %scale : tensor<3x5x6xf32>, tensor<3x6x5xf32>, tensor<3x5xf32>, tensor<3x6xf32>, tensor<3xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %up_e: tensor<5x6xf32>, %down_e: tensor<6x5xf32>,
       %b1_e: tensor<5xf32>, %b2_e: tensor<6xf32>, %scale_e: tensor<f32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %b1_i = tensor.empty(%r) : tensor<?x5xf32>
    %b1_r = linalg.broadcast ins(%b1_e : tensor<5xf32>) outs(%b1_i : tensor<?x5xf32>) dimensions = [0]
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up_e : tensor<?x6xf32>, tensor<5x6xf32>) outs(%b1_r : tensor<?x5xf32>) -> tensor<?x5xf32>
    %a = math.tanh %u : tensor<?x5xf32>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%a, %down_e : tensor<?x5xf32>, tensor<6x5xf32>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %b2_i = tensor.empty(%r) : tensor<?x6xf32>
    %b2_r = linalg.broadcast ins(%b2_e : tensor<6xf32>) outs(%b2_i : tensor<?x6xf32>) dimensions = [0]
    %db = arith.addf %d, %b2_r : tensor<?x6xf32>
    %s = tensor.extract %scale_e[] : tensor<f32>
    %out_i = tensor.empty(%r) : tensor<?x6xf32>
    %out = linalg.map ins(%db : tensor<?x6xf32>) outs(%out_i : tensor<?x6xf32>)
      (%v: f32, %unused: f32) {
        %scaled = arith.mulf %v, %s : f32
        linalg.yield %scaled : f32
      }
    moe.yield %out : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// Two layers without a gate.

// CHECK-LABEL: func.func @relu2_bf16(
// CHECK: ^bb0(%[[P:.*]]: f32):
// CHECK-NEXT: %[[R:.*]] = arith.maximumf %[[P]], %{{.*}} : f32
// CHECK-NEXT: %[[S:.*]] = arith.mulf %[[R]], %[[R]] : f32
// CHECK-NEXT: %[[B:.*]] = arith.truncf %[[S]] : f32 to bf16
// CHECK-NEXT: moe.yield %[[B]] : bf16
// CHECK: moe.grouped_matmul
// CHECK-NOT: moe.expert
func.func @relu2_bf16(%offsets: tensor<4xi32>, %x: tensor<?x6xbf16>, %up: tensor<3x5x6xbf16>,
    %down: tensor<3x6x5xbf16>) -> tensor<?x6xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %zero_n = arith.constant 0.0 : bf16
  %M = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %empty = tensor.empty(%M) : tensor<?x6xbf16>
  %init = linalg.fill ins(%zero_n : bf16) outs(%empty : tensor<?x6xbf16>) -> tensor<?x6xbf16>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xbf16>)
      params(%up, %down : tensor<3x5x6xbf16>, tensor<3x6x5xbf16>)
      outs(%init : tensor<?x6xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %up_e: tensor<5x6xbf16>,
       %down_e: tensor<6x5xbf16>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up_e : tensor<?x6xbf16>, tensor<5x6xbf16>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %relu = arith.maximumf %u, %u_z : tensor<?x5xf32>
    %sq = arith.mulf %relu, %relu : tensor<?x5xf32>
    %a = arith.truncf %sq : tensor<?x5xf32> to tensor<?x5xbf16>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%a, %down_e : tensor<?x5xbf16>, tensor<6x5xbf16>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d_b = arith.truncf %d : tensor<?x6xf32> to tensor<?x6xbf16>
    moe.yield %d_b : tensor<?x6xbf16>
  }
  return %y : tensor<?x6xbf16>
}

// Interleaved weight and bias, clamps, a bias on the way down; rounds to bf16 where the model does.

// CHECK-LABEL: func.func @gpt_oss(
// CHECK: products(%arg1[m, k] * %arg2[e, k, n * 2 + 1], %arg1[m, k] * %arg2[e, k, n * 2] :
// CHECK-SAME: extras(%arg3[e, n * 2 + 1], %arg3[e, n * 2] : tensor<3x10xbf16>, tensor<3x10xbf16>)
// CHECK: arith.minimumf %{{.*}} : bf16
// CHECK: extras(%arg5[e, n] : tensor<3x6xbf16>)
// CHECK-NOT: moe.expert
func.func @gpt_oss(%offsets: tensor<4xi32>, %x: tensor<?x6xbf16>, %both: tensor<3x6x10xbf16>,
    %both_bias: tensor<3x10xbf16>, %down: tensor<3x5x6xbf16>, %down_bias: tensor<3x6xbf16>) -> tensor<?x6xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %zero_n = arith.constant 0.0 : bf16
  %M = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %empty = tensor.empty(%M) : tensor<?x6xbf16>
  %init = linalg.fill ins(%zero_n : bf16) outs(%empty : tensor<?x6xbf16>) -> tensor<?x6xbf16>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xbf16>)
      params(%both, %both_bias, %down, %down_bias : tensor<3x6x10xbf16>, tensor<3x10xbf16>, tensor<3x5x6xbf16>, tensor<3x6xbf16>)
      outs(%init : tensor<?x6xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %both_e: tensor<6x10xbf16>,
       %both_bias_e: tensor<10xbf16>, %down_e: tensor<5x6xbf16>, %down_bias_e: tensor<6xbf16>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %b_e = tensor.empty(%r) : tensor<?x10xf32>
    %b_z = linalg.fill ins(%zero : f32) outs(%b_e : tensor<?x10xf32>) -> tensor<?x10xf32>
    %b = linalg.matmul indexing_maps = [#mk, #kn, #mn]
        ins(%xe, %both_e : tensor<?x6xbf16>, tensor<6x10xbf16>) outs(%b_z : tensor<?x10xf32>) -> tensor<?x10xf32>
    %b_b = arith.truncf %b : tensor<?x10xf32> to tensor<?x10xbf16>
    %bias_i = tensor.empty(%r) : tensor<?x10xbf16>
    %bias = linalg.broadcast ins(%both_bias_e : tensor<10xbf16>) outs(%bias_i : tensor<?x10xbf16>) dimensions = [0]
    %gu = arith.addf %b_b, %bias : tensor<?x10xbf16>
    %g = tensor.extract_slice %gu[0, 0] [%r, 5] [1, 2] : tensor<?x10xbf16> to tensor<?x5xbf16>
    %u = tensor.extract_slice %gu[0, 1] [%r, 5] [1, 2] : tensor<?x10xbf16> to tensor<?x5xbf16>
    %p_i = tensor.empty(%r) : tensor<?x5xbf16>
    %p = linalg.map ins(%g, %u : tensor<?x5xbf16>, tensor<?x5xbf16>) outs(%p_i : tensor<?x5xbf16>)
      (%gate: bf16, %up: bf16, %unused: bf16) {
        %one = arith.constant 1.0 : bf16
        %most = arith.constant 0.75 : bf16
        %least = arith.constant -0.75 : bf16
        %alpha = arith.constant 1.703125 : f32
        %one_f = arith.constant 1.0 : f32
        %gc = arith.minimumf %gate, %most : bf16
        %um = arith.minimumf %up, %most : bf16
        %uc = arith.maximumf %um, %least : bf16
        %gf = arith.extf %gc : bf16 to f32
        %ga = arith.mulf %gf, %alpha : f32
        %n = arith.negf %ga : f32
        %e = math.exp %n : f32
        %d1 = arith.addf %e, %one_f : f32
        %glu = arith.divf %gf, %d1 : f32
        %glu_b = arith.truncf %glu : f32 to bf16
        %u1 = arith.addf %uc, %one : bf16
        %prod = arith.mulf %u1, %glu_b : bf16
        linalg.yield %prod : bf16
      }
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #kn, #mn]
        ins(%p, %down_e : tensor<?x5xbf16>, tensor<5x6xbf16>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d_b = arith.truncf %d : tensor<?x6xf32> to tensor<?x6xbf16>
    %db_i = tensor.empty(%r) : tensor<?x6xbf16>
    %db = linalg.broadcast ins(%down_bias_e : tensor<6xbf16>) outs(%db_i : tensor<?x6xbf16>) dimensions = [0]
    %out = arith.addf %d_b, %db : tensor<?x6xbf16>
    moe.yield %out : tensor<?x6xbf16>
  }
  return %y : tensor<?x6xbf16>
}

// The norm of each row of the result stays a moe.expert, on rows stored in bf16.

// CHECK-LABEL: func.func @rms_norm(
// CHECK: moe.grouped_matmul
// CHECK: %[[D:.*]] = moe.grouped_matmul
// CHECK-SAME: outs(%{{.*}} : tensor<?x6xbf16>)
// CHECK: moe.expert offsets(%arg0 : tensor<4xi32>) rows(%[[D]] : tensor<?x6xbf16>) params(%arg4 :
// CHECK-NEXT: ^bb0(%{{.*}}: index, %[[E:.*]]: tensor<?x6xbf16>, %{{.*}}: tensor<6xbf16>):
// CHECK: arith.extf %[[E]]
// CHECK: linalg.reduce
func.func @rms_norm(%offsets: tensor<4xi32>, %x: tensor<?x6xbf16>, %up: tensor<3x5x6xbf16>,
    %down: tensor<3x6x5xbf16>, %scale: tensor<3x6xbf16>) -> tensor<?x6xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %zero_n = arith.constant 0.0 : bf16
  %M = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %empty = tensor.empty(%M) : tensor<?x6xbf16>
  %init = linalg.fill ins(%zero_n : bf16) outs(%empty : tensor<?x6xbf16>) -> tensor<?x6xbf16>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xbf16>)
      params(%up, %down, %scale : tensor<3x5x6xbf16>, tensor<3x6x5xbf16>, tensor<3x6xbf16>)
      outs(%init : tensor<?x6xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %up_e: tensor<5x6xbf16>,
       %down_e: tensor<6x5xbf16>, %scale_e: tensor<6xbf16>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up_e : tensor<?x6xbf16>, tensor<5x6xbf16>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %a = arith.truncf %u : tensor<?x5xf32> to tensor<?x5xbf16>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%a, %down_e : tensor<?x5xbf16>, tensor<6x5xbf16>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d_b = arith.truncf %d : tensor<?x6xf32> to tensor<?x6xbf16>
    %v = arith.extf %d_b : tensor<?x6xbf16> to tensor<?x6xf32>
    %sq = arith.mulf %v, %v : tensor<?x6xf32>
    %s_i = tensor.empty(%r) : tensor<?xf32>
    %s_z = linalg.fill ins(%zero : f32) outs(%s_i : tensor<?xf32>) -> tensor<?xf32>
    %s = linalg.reduce { arith.addf } ins(%sq : tensor<?x6xf32>) outs(%s_z : tensor<?xf32>) dimensions = [1]
    %w_i = tensor.empty(%r) : tensor<?x6xf32>
    %w = linalg.broadcast ins(%s : tensor<?xf32>) outs(%w_i : tensor<?x6xf32>) dimensions = [1]
    %eps_s = arith.constant 0.5 : f32
    %eps_e = tensor.empty(%r) : tensor<?x6xf32>
    %eps = linalg.fill ins(%eps_s : f32) outs(%eps_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %se = arith.addf %w, %eps : tensor<?x6xf32>
    %root = math.sqrt %se : tensor<?x6xf32>
    %q = arith.divf %v, %root : tensor<?x6xf32>
    %q_b = arith.truncf %q : tensor<?x6xf32> to tensor<?x6xbf16>
    %sc_i = tensor.empty(%r) : tensor<?x6xbf16>
    %sc = linalg.broadcast ins(%scale_e : tensor<6xbf16>) outs(%sc_i : tensor<?x6xbf16>) dimensions = [0]
    %out = arith.mulf %q_b, %sc : tensor<?x6xbf16>
    moe.yield %out : tensor<?x6xbf16>
  }
  return %y : tensor<?x6xbf16>
}

// x·W + (x·A)·B: the sum goes on where the first matmul stops.

// CHECK-LABEL: func.func @lora(
// CHECK: %[[L:.*]] = moe.grouped_matmul {{.*}} products(%arg1[m, k] * %arg3[e, n, k] :
// CHECK-SAME: outs(%{{.*}} : tensor<?x2xf32>)
// CHECK: products(%arg1[m, k] * %arg2[e, n, k] + %[[L]][m, k] * %arg4[e, n, k] :
// CHECK-NOT: moe.expert
func.func @lora(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>, %up: tensor<3x6x6xf32>,
    %a: tensor<3x2x6xf32>, %b: tensor<3x6x2xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%up, %a, %b : tensor<3x6x6xf32>, tensor<3x2x6xf32>, tensor<3x6x2xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %up_e: tensor<6x6xf32>, %a_e: tensor<2x6xf32>,
       %b_e: tensor<6x2xf32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %l_e = tensor.empty(%r) : tensor<?x2xf32>
    %l_z = linalg.fill ins(%zero : f32) outs(%l_e : tensor<?x2xf32>) -> tensor<?x2xf32>
    %l = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %a_e : tensor<?x6xf32>, tensor<2x6xf32>) outs(%l_z : tensor<?x2xf32>) -> tensor<?x2xf32>
    %u_e = tensor.empty(%r) : tensor<?x6xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up_e : tensor<?x6xf32>, tensor<6x6xf32>) outs(%u_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %s = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%l, %b_e : tensor<?x2xf32>, tensor<6x2xf32>) outs(%u : tensor<?x6xf32>) -> tensor<?x6xf32>
    %t = math.tanh %s : tensor<?x6xf32>
    moe.yield %t : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// The rows of the first layer are an intermediate of the second and third stage.

// CHECK-LABEL: func.func @three_layers(
// CHECK: %[[A:.*]] = moe.grouped_matmul {{.*}} products(%arg1[m, k] * %arg2[e, n, k] :
// CHECK: %[[B:.*]] = moe.grouped_matmul {{.*}} products(%[[A]][m, k] * %arg3[e, n, k] :
// CHECK-SAME: extras(%[[A]][m, n] :
// CHECK: moe.grouped_matmul {{.*}} products(%[[B]][m, k] * %arg4[e, n, k] :
// CHECK-NOT: moe.expert
func.func @three_layers(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>, %w1: tensor<3x5x6xf32>,
    %w2: tensor<3x5x5xf32>, %w3: tensor<3x6x5xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%w1, %w2, %w3 : tensor<3x5x6xf32>, tensor<3x5x5xf32>, tensor<3x6x5xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %w1_e: tensor<5x6xf32>, %w2_e: tensor<5x5xf32>,
       %w3_e: tensor<6x5xf32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %h1_e = tensor.empty(%r) : tensor<?x5xf32>
    %h1_z = linalg.fill ins(%zero : f32) outs(%h1_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %h1 = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %w1_e : tensor<?x6xf32>, tensor<5x6xf32>) outs(%h1_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %a1 = math.tanh %h1 : tensor<?x5xf32>
    %h2_e = tensor.empty(%r) : tensor<?x5xf32>
    %h2_z = linalg.fill ins(%zero : f32) outs(%h2_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %h2 = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%a1, %w2_e : tensor<?x5xf32>, tensor<5x5xf32>) outs(%h2_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %t2 = math.tanh %h2 : tensor<?x5xf32>
    %a2 = arith.addf %t2, %a1 : tensor<?x5xf32>
    %h3_e = tensor.empty(%r) : tensor<?x6xf32>
    %h3_z = linalg.fill ins(%zero : f32) outs(%h3_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %h3 = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%a2, %w3_e : tensor<?x5xf32>, tensor<6x5xf32>) outs(%h3_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %h3 : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// The product of a row and its weight rounds, in a prologue.

// CHECK-LABEL: func.func @weight_at_input(
// CHECK-NOT: moe.expert
// CHECK: products(prologue(%arg1[m, k], %arg2[m]) * %arg3[e, n, k] : tensor<?x6xbf16>, tensor<?xbf16>, tensor<3x5x6xbf16>)
// CHECK: } prologue {
// CHECK-NEXT: ^bb0(%[[ROW:.*]]: bf16, %[[WEIGHT:.*]]: bf16):
// CHECK-NEXT: %[[WEIGHTED:.*]] = arith.mulf %[[ROW]], %[[WEIGHT]] : bf16
// CHECK-NEXT: moe.yield %[[WEIGHTED]] : bf16
// CHECK-NEXT: }
// CHECK: moe.grouped_matmul
// CHECK-NOT: moe.expert
func.func @weight_at_input(%offsets: tensor<4xi32>, %x: tensor<?x6xbf16>,
    %weight: tensor<?xbf16>, %up: tensor<3x5x6xbf16>, %down: tensor<3x6x5xbf16>) -> tensor<?x6xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %zero_n = arith.constant 0.0 : bf16
  %M = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %empty = tensor.empty(%M) : tensor<?x6xbf16>
  %init = linalg.fill ins(%zero_n : bf16) outs(%empty : tensor<?x6xbf16>) -> tensor<?x6xbf16>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x, %weight : tensor<?x6xbf16>, tensor<?xbf16>)
      params(%up, %down : tensor<3x5x6xbf16>, tensor<3x6x5xbf16>)
      outs(%init : tensor<?x6xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %weight_e: tensor<?xbf16>,
       %up_e: tensor<5x6xbf16>, %down_e: tensor<6x5xbf16>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %w_i = tensor.empty(%r) : tensor<?x6xbf16>
    %w = linalg.broadcast ins(%weight_e : tensor<?xbf16>) outs(%w_i : tensor<?x6xbf16>) dimensions = [1]
    %xw = arith.mulf %xe, %w : tensor<?x6xbf16>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xw, %up_e : tensor<?x6xbf16>, tensor<5x6xbf16>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %relu = arith.maximumf %u, %u_z : tensor<?x5xf32>
    %a = arith.truncf %relu : tensor<?x5xf32> to tensor<?x5xbf16>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%a, %down_e : tensor<?x5xbf16>, tensor<6x5xbf16>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d_b = arith.truncf %d : tensor<?x6xf32> to tensor<?x6xbf16>
    moe.yield %d_b : tensor<?x6xbf16>
  }
  return %y : tensor<?x6xbf16>
}

// Gate and up read rows that a shift and a scale of the expert change first, in f32; the rounding stays
// and the extension after it is the product's own. The residual reads the rows as they are.

// CHECK-LABEL: func.func @shifted_rows(
// CHECK-NOT: moe.expert
// CHECK: products(prologue(%arg1[m, k], %arg2[e, k]) * %arg3[e, n, k], prologue(%arg1[m, k], %arg2[e, k]) * %arg3[e, n + 5, k] :
// CHECK: } prologue {
// CHECK-NEXT: ^bb0(%[[ROW:.*]]: bf16, %[[SHIFT:.*]]: f32):
// CHECK: %[[SUM:.*]] = arith.addf %{{.*}}, %[[SHIFT]] : f32
// CHECK: %[[LOW:.*]] = arith.truncf %{{.*}} : f32 to bf16
// CHECK-NEXT: moe.yield %[[LOW]] : bf16
// CHECK-NEXT: } prologue {
// CHECK: moe.yield %{{.*}} : bf16
// CHECK-NEXT: }
// CHECK: products(%{{.*}}[m, k] * %arg4[e, n, k] :
// CHECK-SAME: extras(%arg1[m, n] :
// CHECK-NOT: moe.expert
func.func @shifted_rows(%offsets: tensor<4xi32>, %x: tensor<?x6xbf16>, %shift: tensor<3x6xf32>,
    %both: tensor<3x10x6xf32>, %down: tensor<3x6x5xbf16>) -> tensor<?x6xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %quarter = arith.constant 0.25 : f32
  %zero_n = arith.constant 0.0 : bf16
  %M = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %empty = tensor.empty(%M) : tensor<?x6xbf16>
  %init = linalg.fill ins(%zero_n : bf16) outs(%empty : tensor<?x6xbf16>) -> tensor<?x6xbf16>
  %y = moe.expert offsets(%offsets : tensor<4xi32>) rows(%x : tensor<?x6xbf16>)
      params(%shift, %both, %down : tensor<3x6xf32>, tensor<3x10x6xf32>, tensor<3x6x5xbf16>)
      outs(%init : tensor<?x6xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %shift_e: tensor<6xf32>, %both_e: tensor<10x6xf32>,
       %down_e: tensor<6x5xbf16>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %wide = arith.extf %xe : tensor<?x6xbf16> to tensor<?x6xf32>
    %x_i = tensor.empty(%r) : tensor<?x6xf32>
    %shifts = linalg.broadcast ins(%shift_e : tensor<6xf32>) outs(%x_i : tensor<?x6xf32>) dimensions = [0]
    %shifted = arith.addf %wide, %shifts : tensor<?x6xf32>
    %quarters = linalg.fill ins(%quarter : f32) outs(%x_i : tensor<?x6xf32>) -> tensor<?x6xf32>
    %scaled = arith.mulf %shifted, %quarters : tensor<?x6xf32>
    %low = arith.truncf %scaled : tensor<?x6xf32> to tensor<?x6xbf16>
    %lhs = arith.extf %low : tensor<?x6xbf16> to tensor<?x6xf32>
    %gate_e = tensor.extract_slice %both_e[0, 0] [5, 6] [1, 1] : tensor<10x6xf32> to tensor<5x6xf32>
    %up_e = tensor.extract_slice %both_e[5, 0] [5, 6] [1, 1] : tensor<10x6xf32> to tensor<5x6xf32>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %g = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%lhs, %gate_e : tensor<?x6xf32>, tensor<5x6xf32>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%lhs, %up_e : tensor<?x6xf32>, tensor<5x6xf32>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %relu = arith.maximumf %g, %u_z : tensor<?x5xf32>
    %p = arith.mulf %relu, %u : tensor<?x5xf32>
    %a = arith.truncf %p : tensor<?x5xf32> to tensor<?x5xbf16>
    %d_z = linalg.fill ins(%zero : f32) outs(%x_i : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%a, %down_e : tensor<?x5xbf16>, tensor<6x5xbf16>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d_b = arith.truncf %d : tensor<?x6xf32> to tensor<?x6xbf16>
    %sum = arith.addf %d_b, %xe : tensor<?x6xbf16>
    moe.yield %sum : tensor<?x6xbf16>
  }
  return %y : tensor<?x6xbf16>
}

// The weight of a row is an extra of the last epilogue, and so are the row's own elements.

// CHECK-LABEL: func.func @weight_at_output(
// CHECK: moe.grouped_matmul
// CHECK: moe.grouped_matmul
// CHECK-SAME: extras(%arg2[m], %arg1[m, n] : tensor<?xbf16>, tensor<?x6xbf16>)
// CHECK-NEXT: ^bb0(%[[P:.*]]: f32, %[[W:.*]]: bf16, %[[X:.*]]: bf16):
// CHECK-NEXT: %[[B:.*]] = arith.truncf %[[P]] : f32 to bf16
// CHECK-NEXT: %[[S:.*]] = arith.mulf %[[B]], %[[W]] : bf16
// CHECK-NEXT: arith.addf %[[S]], %[[X]] : bf16
func.func @weight_at_output(%offsets: tensor<4xi32>, %x: tensor<?x6xbf16>,
    %weight: tensor<?xbf16>, %up: tensor<3x5x6xbf16>, %down: tensor<3x6x5xbf16>) -> tensor<?x6xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %zero_n = arith.constant 0.0 : bf16
  %M = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %empty = tensor.empty(%M) : tensor<?x6xbf16>
  %init = linalg.fill ins(%zero_n : bf16) outs(%empty : tensor<?x6xbf16>) -> tensor<?x6xbf16>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x, %weight : tensor<?x6xbf16>, tensor<?xbf16>)
      params(%up, %down : tensor<3x5x6xbf16>, tensor<3x6x5xbf16>)
      outs(%init : tensor<?x6xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %weight_e: tensor<?xbf16>,
       %up_e: tensor<5x6xbf16>, %down_e: tensor<6x5xbf16>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up_e : tensor<?x6xbf16>, tensor<5x6xbf16>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %relu = arith.maximumf %u, %u_z : tensor<?x5xf32>
    %a = arith.truncf %relu : tensor<?x5xf32> to tensor<?x5xbf16>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%a, %down_e : tensor<?x5xbf16>, tensor<6x5xbf16>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d_b = arith.truncf %d : tensor<?x6xf32> to tensor<?x6xbf16>
    %w_i = tensor.empty(%r) : tensor<?x6xbf16>
    %w = linalg.broadcast ins(%weight_e : tensor<?xbf16>) outs(%w_i : tensor<?x6xbf16>) dimensions = [1]
    %dw = arith.mulf %d_b, %w : tensor<?x6xbf16>
    %out = arith.addf %dw, %xe : tensor<?x6xbf16>
    moe.yield %out : tensor<?x6xbf16>
  }
  return %y : tensor<?x6xbf16>
}

// %u is needed by both stages, so the first one stores it as well, after its rounding.

// CHECK-LABEL: func.func @repeated_product(
// CHECK: %[[A:.*]], %[[U:.*]] = moe.grouped_matmul offsets(%arg0 : tensor<4xi32>)
// CHECK-SAME: products(%arg1[m, k] * %arg2[e, n, k] : tensor<?x6xbf16>, tensor<3x5x6xbf16>)
// CHECK-NEXT: ^bb0(%[[P:.*]]: f32):
// CHECK-NEXT: %[[UE:.*]] = arith.truncf %[[P]] : f32 to bf16
// CHECK-NEXT: %[[AE:.*]] = arith.mulf %[[UE]], %[[UE]] : bf16
// CHECK-NEXT: moe.yield %[[AE]], %[[UE]] : bf16, bf16
// CHECK: moe.grouped_matmul {{.*}} products(%[[A]][m, k] * %arg3[e, n, k] :
// CHECK-SAME: extras(%[[U]][m, n] :
// CHECK-NOT: moe.expert
func.func @repeated_product(%offsets: tensor<4xi32>, %x: tensor<?x6xbf16>,
    %up: tensor<3x5x6xbf16>, %down: tensor<3x5x5xbf16>) -> tensor<?x5xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %zero_n = arith.constant 0.0 : bf16
  %M = tensor.dim %x, %c0 : tensor<?x6xbf16>
  %empty = tensor.empty(%M) : tensor<?x5xbf16>
  %init = linalg.fill ins(%zero_n : bf16) outs(%empty : tensor<?x5xbf16>) -> tensor<?x5xbf16>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xbf16>)
      params(%up, %down : tensor<3x5x6xbf16>, tensor<3x5x5xbf16>)
      outs(%init : tensor<?x5xbf16>) {
  ^bb0(%expert: index, %xe: tensor<?x6xbf16>, %up_e: tensor<5x6xbf16>,
       %down_e: tensor<5x5xbf16>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xbf16>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up_e : tensor<?x6xbf16>, tensor<5x6xbf16>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u_b = arith.truncf %u : tensor<?x5xf32> to tensor<?x5xbf16>
    %a = arith.mulf %u_b, %u_b : tensor<?x5xbf16>
    %d_e = tensor.empty(%r) : tensor<?x5xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%a, %down_e : tensor<?x5xbf16>, tensor<5x5xbf16>) outs(%d_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %d_b = arith.truncf %d : tensor<?x5xf32> to tensor<?x5xbf16>
    %out = arith.addf %d_b, %u_b : tensor<?x5xbf16>
    moe.yield %out : tensor<?x5xbf16>
  }
  return %y : tensor<?x5xbf16>
}

// What computes with %expert stays a moe.expert behind the matmuls.

// CHECK-LABEL: func.func @expert_number(
// CHECK: %[[T:.*]] = moe.grouped_matmul
// CHECK: math.tanh
// CHECK: moe.expert offsets(%arg0 : tensor<4xi32>) rows(%[[T]] :
// CHECK-NEXT: ^bb0(%[[E:.*]]: index,
// CHECK: arith.index_cast %[[E]]
func.func @expert_number(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>, %up: tensor<3x6x6xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%up : tensor<3x6x6xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %up_e: tensor<6x6xf32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %u_e = tensor.empty(%r) : tensor<?x6xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up_e : tensor<?x6xf32>, tensor<6x6xf32>) outs(%u_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    %t = math.tanh %u : tensor<?x6xf32>
    %i = arith.index_cast %expert : index to i32
    %f = arith.sitofp %i : i32 to f32
    %s_i = tensor.empty(%r) : tensor<?x6xf32>
    %s = linalg.fill ins(%f : f32) outs(%s_i : tensor<?x6xf32>) -> tensor<?x6xf32>
    %out = arith.addf %t, %s : tensor<?x6xf32>
    moe.yield %out : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}

// A softmax of each row between two matmuls.

// CHECK-LABEL: func.func @softmax_between(
// CHECK: %[[X:.*]] = moe.grouped_matmul
// CHECK: math.exp
// CHECK: %[[P:.*]] = moe.expert offsets(%arg0 : tensor<4xi32>) rows(%[[X]] :
// CHECK: moe.grouped_matmul {{.*}} products(%[[P]][m, k] *
func.func @softmax_between(%offsets: tensor<4xi32>, %x: tensor<?x6xf32>,
    %up: tensor<3x5x6xf32>, %down: tensor<3x6x5xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %M = tensor.dim %x, %c0 : tensor<?x6xf32>
  %empty = tensor.empty(%M) : tensor<?x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x6xf32>) -> tensor<?x6xf32>
  %y = moe.expert offsets(%offsets : tensor<4xi32>)
      rows(%x : tensor<?x6xf32>)
      params(%up, %down : tensor<3x5x6xf32>, tensor<3x6x5xf32>)
      outs(%init : tensor<?x6xf32>) {
  ^bb0(%expert: index, %xe: tensor<?x6xf32>, %up_e: tensor<5x6xf32>, %down_e: tensor<6x5xf32>):
    %r = tensor.dim %xe, %c0 : tensor<?x6xf32>
    %u_e = tensor.empty(%r) : tensor<?x5xf32>
    %u_z = linalg.fill ins(%zero : f32) outs(%u_e : tensor<?x5xf32>) -> tensor<?x5xf32>
    %u = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %up_e : tensor<?x6xf32>, tensor<5x6xf32>) outs(%u_z : tensor<?x5xf32>) -> tensor<?x5xf32>
    %e = math.exp %u : tensor<?x5xf32>
    %s_i = tensor.empty(%r) : tensor<?xf32>
    %s_z = linalg.fill ins(%zero : f32) outs(%s_i : tensor<?xf32>) -> tensor<?xf32>
    %s = linalg.reduce { arith.addf } ins(%e : tensor<?x5xf32>) outs(%s_z : tensor<?xf32>) dimensions = [1]
    %w_i = tensor.empty(%r) : tensor<?x5xf32>
    %w = linalg.broadcast ins(%s : tensor<?xf32>) outs(%w_i : tensor<?x5xf32>) dimensions = [1]
    %p = arith.divf %e, %w : tensor<?x5xf32>
    %d_e = tensor.empty(%r) : tensor<?x6xf32>
    %d_z = linalg.fill ins(%zero : f32) outs(%d_e : tensor<?x6xf32>) -> tensor<?x6xf32>
    %d = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%p, %down_e : tensor<?x5xf32>, tensor<6x5xf32>) outs(%d_z : tensor<?x6xf32>) -> tensor<?x6xf32>
    moe.yield %d : tensor<?x6xf32>
  }
  return %y : tensor<?x6xf32>
}
