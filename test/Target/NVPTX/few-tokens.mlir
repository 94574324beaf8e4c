// Four tokens: the whole layer is one launch of one kernel.
// RUN: moe-opt %s --moe-prepare-entry --moe-gpu-lowering=chip=sm_80 | FileCheck %s
// RUN: moe-opt %s --moe-prepare-entry --moe-gpu-lowering=chip=sm_90a | FileCheck %s --check-prefixes=CHECK,HOPPER

// CHECK:       func.func @layer
// CHECK-SAME:    moe.merge_launches = true
// CHECK-NOT:   gpu.launch_func
// CHECK:       gpu.launch_func @moe_kernels::@layer_phases
// CHECK-SAME:    %c0_i64 : i64) {moe.cooperative}
// CHECK-NOT:   gpu.launch_func
// CHECK:       gpu.module
// CHECK:       llvm.func @layer_phases(
// Nothing is read as constant: an earlier phase may have written it.
// CHECK-NOT:   {{invariant|llvm.func}}

// Boxes are copied by another proxy, and mbarriers leave their places to the next phase.
// HOPPER:      nvvm.fence.proxy {kind = #nvvm.proxy_kind<async>}
// HOPPER:      nvvm.mbarrier.init
// HOPPER:      nvvm.mbarrier.inval
// HOPPER:      nvvm.mbarrier.init

// The call of the run time, and PTX that acquires and releases for the whole GPU.
// RUN: moe-compile %s --target=nvptx --chip=sm_80 --emit=llvm -o - | FileCheck %s --check-prefix=HOST
// HOST:     call void @moe_cuda_call_cooperative(ptr {{.*}}, i32 0, ptr {{.*}}, i32 73728, ptr {{.*}}, ptr {{.*}})
// HOST-NOT: call void @moe_cuda_call_kernel
// RUN: moe-compile %s --target=nvptx --chip=sm_80 --emit=ptx | FileCheck %s --check-prefix=PTX
// PTX:      .entry layer_phases(
// PTX-NOT:  ld.global.nc
// PTX:      ld.acquire.gpu.global.b64
// PTX-NOT:  ld.global.nc
// PTX:      st.release.gpu.global.b64
// PTX-NOT:  ld.global.nc

// A linear layer: out = in · weightᵀ.
#in = affine_map<(m, n, k) -> (m, k)>
#weight = affine_map<(m, n, k) -> (n, k)>
#out = affine_map<(m, n, k) -> (m, n)>

!x = tensor<4x64xbf16>  // T×H
!logits = tensor<4x8xf32>
!weights = tensor<4x2xf32>
!ids = tensor<4x2xi32>
!offsets = tensor<9xi32>
!rows = tensor<8x64xbf16>  // T·k×H
!gate = tensor<8x96x64xbf16>
!down = tensor<8x64x96xbf16>

func.func @layer(%x: !x {moe.name = "x"}, %router: tensor<8x64xbf16> {moe.name = "router"}, %gate: !gate {moe.name = "gate"},
                 %up: !gate {moe.name = "up"}, %down: !down {moe.name = "down"}) -> (!x {moe.name = "y"}) {
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %logits_empty = tensor.empty() : !logits
  %logits_zero = linalg.fill ins(%zero : f32) outs(%logits_empty : !logits) -> !logits
  %logits = linalg.matmul indexing_maps = [#in, #weight, #out]
      ins(%x, %router : !x, tensor<8x64xbf16>) outs(%logits_zero : !logits) -> !logits
  %weights_empty = tensor.empty() : !weights
  %ids_empty = tensor.empty() : !ids
  %weights, %ids = moe.gate score(softmax) renormalize<>
      ins(%logits : !logits) outs(%weights_empty, %ids_empty : !weights, !ids)
  %offsets_empty = tensor.empty() : !offsets
  %rows_empty = tensor.empty() : !rows
  %offsets, %slots, %rows = moe.dispatch ids(%ids : !ids) tokens(%x : !x)
      outs(%offsets_empty, %ids_empty, %rows_empty : !offsets, !ids, !rows)
  %results = moe.expert offsets(%offsets : !offsets) rows(%rows : !rows)
      params(%gate, %up, %down : !gate, !gate, !down) outs(%rows_empty : !rows) {
  ^bb0(%expert: index, %xe: tensor<?x64xbf16>, %expert_gate: tensor<96x64xbf16>, %expert_up: tensor<96x64xbf16>,
       %expert_down: tensor<64x96xbf16>):
    %c0 = arith.constant 0 : index
    %n = tensor.dim %xe, %c0 : tensor<?x64xbf16>
    %inner_empty = tensor.empty(%n) : tensor<?x96xf32>
    %inner_zero = linalg.fill ins(%zero : f32) outs(%inner_empty : tensor<?x96xf32>) -> tensor<?x96xf32>
    %g = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %expert_gate : tensor<?x64xbf16>, tensor<96x64xbf16>) outs(%inner_zero : tensor<?x96xf32>) -> tensor<?x96xf32>
    %u = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%xe, %expert_up : tensor<?x64xbf16>, tensor<96x64xbf16>) outs(%inner_zero : tensor<?x96xf32>) -> tensor<?x96xf32>
    %p_empty = tensor.empty(%n) : tensor<?x96xbf16>
    %p = linalg.map ins(%g, %u : tensor<?x96xf32>, tensor<?x96xf32>) outs(%p_empty : tensor<?x96xbf16>)
      (%v: f32, %w: f32, %init: bf16) {
        %minus_v = arith.negf %v : f32
        %exp = math.exp %minus_v : f32
        %denominator = arith.addf %one, %exp : f32
        %silu = arith.divf %v, %denominator : f32
        %product = arith.mulf %silu, %w : f32
        %r = arith.truncf %product : f32 to bf16
        linalg.yield %r : bf16
      }
    %d_empty = tensor.empty(%n) : tensor<?x64xf32>
    %d_zero = linalg.fill ins(%zero : f32) outs(%d_empty : tensor<?x64xf32>) -> tensor<?x64xf32>
    %d_sum = linalg.matmul indexing_maps = [#in, #weight, #out]
        ins(%p, %expert_down : tensor<?x96xbf16>, tensor<64x96xbf16>) outs(%d_zero : tensor<?x64xf32>) -> tensor<?x64xf32>
    %d = arith.truncf %d_sum : tensor<?x64xf32> to tensor<?x64xbf16>
    moe.yield %d : tensor<?x64xbf16>
  }
  %y_empty = tensor.empty() : !x
  %y = moe.combine rows(%results : !rows) slots(%slots : !ids) weights(%weights : !weights)
      outs(%y_empty : !x)
  return %y : !x
}
