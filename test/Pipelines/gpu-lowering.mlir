// RUN: moe-opt %s --moe-prepare-entry --moe-gpu-lowering=chip=sm_80 | FileCheck %s
// RUN: moe-opt %s --moe-prepare-entry --moe-gpu-lowering=chip=sm_80 \
// RUN:     --nvvm-attach-target=chip=sm_80 --gpu-module-to-binary=format=isa | FileCheck %s --check-prefix=PTX
// RUN: not moe-opt %s --moe-prepare-entry --moe-gpu-lowering=chip=sm_75 2>&1 | FileCheck %s --check-prefix=CHIP
// CHIP: error: moe-select-gpu-strategy: unknown chip 'sm_75'

// The host computes sizes and launches; all memory is the caller's.
// CHECK-LABEL: func.func @layer(
// CHECK-SAME:    %[[WORKSPACE:[a-z0-9]*]]: memref<?xi8>) attributes
// CHECK-NOT:   {{linalg|memref.(alloc|load|store|copy)|scf|moe[.](combine|grouped)}}
// CHECK:       gpu.launch_func @moe_kernels::@layer_matmul
// CHECK-NOT:   {{linalg|memref.(alloc|load|store|copy)|scf|moe[.](combine|grouped)}}
// CHECK:       gpu.launch_func @moe_kernels::@layer_combine
// CHECK-NOT:   {{linalg|memref.(alloc|load|store|copy)|scf|moe[.](combine|grouped)}}
// CHECK:       gpu.launch_func @moe_kernels::@layer_loop
// CHECK:       func.func private @layer.workspace
// CHECK:       gpu.module @moe_kernels
// CHECK-NOT:   {{(memref|arith|scf|cf|math)[.][a-z_]+ }}

// PTX:         gpu.binary @moe_kernels
// PTX:         .target sm_80
// PTX-DAG:     .entry layer_matmul(
// PTX-DAG:     .entry layer_combine(
// PTX-DAG:     .entry layer_loop(
func.func @layer(%x: tensor<?x64xbf16>, %offsets: tensor<5xi32>, %source: tensor<?xi32>, %slots: tensor<?x2xi32>,
                 %weights: tensor<?x2xf32>, %w: tensor<4x64x64xbf16>, %shared: tensor<?x64xbf16>) -> tensor<?x64xbf16> {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x64xbf16>
  %M = tensor.dim %source, %c0 : tensor<?xi32>
  %rows_empty = tensor.empty(%M) : tensor<?x64xbf16>
  %rows = moe.grouped_matmul offsets(%offsets : tensor<5xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<?x64xbf16>, tensor<4x64x64xbf16>) outs(%rows_empty : tensor<?x64xbf16>) {
  ^bb0(%sum: f32):
    %r = arith.truncf %sum : f32 to bf16
    moe.yield %r : bf16
  }
  %y_empty = tensor.empty(%T) : tensor<?x64xbf16>
  %y = moe.combine rows(%rows : tensor<?x64xbf16>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) outs(%y_empty : tensor<?x64xbf16>)
  %z = arith.addf %y, %shared : tensor<?x64xbf16>
  return %z : tensor<?x64xbf16>
}
