// RUN: moe-opt %s --moe-launches-to-calls --split-input-file | FileCheck %s

// Two versions; the call knows which one runs.
// CHECK-LABEL: llvm.mlir.global internal constant @versions.program.chip0("sm_80\00")
// CHECK:       llvm.mlir.global internal constant @versions.program.chip1("sm_90a\00")
// CHECK:       func.func @versions(%[[CALL:.*]]: !llvm.ptr)
// CHECK:         %[[PLACE:.*]] = llvm.getelementptr %[[CALL]][0, 3]
// CHECK:         %[[IMAGE:.*]] = llvm.load %[[PLACE]]
// CHECK:         arith.index_cast %[[IMAGE]]
// CHECK:         call @versions.sm_80(%[[CALL]])
// CHECK:         call @versions.sm_90a(%[[CALL]])
// CHECK:       func.func private @versions.sm_80(%[[THIS:.*]]: !llvm.ptr)
// CHECK:         llvm.call @moe_cuda_call_kernel(%[[THIS]],
// CHECK:       func.func private @versions.sm_90a(%[[THIS:.*]]: !llvm.ptr)
// CHECK:         llvm.mlir.constant(2 : i64)
// CHECK:         llvm.call @moe_cuda_call_kernel(%[[THIS]],
module attributes {gpu.container_module} {
  llvm.func @versions.image() -> i32
  func.func @versions() attributes {moe.entry = {results = 0 : i64, shapes = @shapes}} {
    %image = llvm.call @versions.image() : () -> i32
    %i = arith.index_cast %image : i32 to index
    scf.index_switch %i
    case 0 {
      func.call @versions.sm_80() : () -> ()
      scf.yield
    }
    default {
      func.call @versions.sm_90a() : () -> ()
    }
    return
  }
  func.func private @versions.sm_80() {
    %c1 = arith.constant 1 : index
    gpu.launch_func @first::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1)
    return
  }
  func.func private @versions.sm_90a() {
    %c1 = arith.constant 1 : index
    gpu.launch_func @second::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1)
        {moe.blocks_per_multiprocessor = 2 : i64}
    return
  }
  func.func private @shapes() -> i32
  gpu.binary @first [#gpu.object<#nvvm.target<chip = "sm_80">, assembly = "ptx">]
  gpu.binary @second [#gpu.object<#nvvm.target<chip = "sm_90a">, assembly = "ptx">]
}

// -----

// A tensor map is encoded by the call, before its launch.
// CHECK-LABEL: func.func @map(
// CHECK-SAME:    %[[X:.*]]: memref<?x64xbf16>, %[[CALL:.*]]: !llvm.ptr
// CHECK:         %[[MAP:.*]] = llvm.alloca %{{.*}} x i8 {alignment = 64 : i64}
// CHECK:         llvm.mlir.constant(3 : i32)
// CHECK:         llvm.mlir.constant(2 : i32)
// CHECK:         llvm.insertvalue %{{.*}}, %{{.*}}[3, 0]
// CHECK:         llvm.insertvalue %{{.*}}, %{{.*}}[5, 0]
// CHECK:         llvm.insertvalue %{{.*}}, %{{.*}}[3, 1]
// CHECK:         llvm.insertvalue %{{.*}}, %{{.*}}[4, 0]
// CHECK:         llvm.call @moe_cuda_call_encode(%[[CALL]], %[[MAP]], %{{.*}})
// CHECK:         llvm.call @moe_cuda_call_kernel(%[[CALL]]
// CHECK-NOT:     nvgpu
!map = !nvgpu.tensormap.descriptor<tensor = memref<128x64xbf16, 3>, swizzle = swizzle_128b, l2promo = l2promo_256b,
                                   oob = zero, interleave = none>
module attributes {gpu.container_module} {
  func.func @map(%x: memref<?x64xbf16>) attributes {moe.entry = {results = 0 : i64, shapes = @shapes}} {
    %c1 = arith.constant 1 : index
    %c64 = arith.constant 64 : index
    %c128 = arith.constant 128 : index
    %tensor = memref.cast %x : memref<?x64xbf16> to memref<*xbf16>
    %map = nvgpu.tma.create.descriptor %tensor box[%c128, %c64] : memref<*xbf16> -> !map
    gpu.launch_func @moe_kernels::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1) args(%map : !map)
    return
  }
  func.func private @shapes() -> i32
  gpu.binary @moe_kernels [#gpu.object<#nvvm.target<chip = "sm_90a">, assembly = "ptx">]
}
