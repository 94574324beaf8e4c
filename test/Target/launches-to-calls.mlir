// RUN: moe-opt %s --moe-launches-to-calls --split-input-file --verify-diagnostics | FileCheck %s
// RUN: moe-opt %s --moe-launches-to-calls --moe-create-c-entry --split-input-file --verify-diagnostics \
// RUN:     | FileCheck %s --check-prefix=ENTRY

// CHECK-LABEL: llvm.mlir.global internal constant @layer.program.chip0("sm_80\00")
// CHECK:       llvm.mlir.global internal constant @layer.program.ptx0(".target sm_80\00")
// CHECK:       llvm.mlir.global internal constant @layer.program.cubin0("\7FELF")
// CHECK:       llvm.mlir.global internal constant @layer.program.kernel0.0("first\00")
// CHECK:       llvm.mlir.global internal constant @layer.program.kernel0.1("second\00")
// CHECK:       llvm.mlir.global internal constant @layer.program.kernels0() {{.*}} : !llvm.array<2 x struct<(ptr, i32, i32)>>
// CHECK:       llvm.mlir.constant(4096 : i32) : i32
// CHECK:       llvm.mlir.global internal constant @layer.program.images()
// CHECK:         llvm.mlir.constant(80 : i32) : i32
// CHECK:       llvm.mlir.global internal @layer.program()
// CHECK:       llvm.func @moe_cuda_call_kernel(!llvm.ptr, i32, !llvm.ptr, i32, !llvm.ptr)
// CHECK:       func.func @layer(%{{.*}}: memref<?x8xf32>, %{{.*}}: memref<?x8xf32>, %[[CALL:.*]]: !llvm.ptr)
// CHECK-SAME:    program = @layer.program
// CHECK:         llvm.call @moe_cuda_call_kernel(%[[CALL]], %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}})
// CHECK:         llvm.call @moe_cuda_call_kernel(%[[CALL]], %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}})
// CHECK-NOT:   gpu.

// ENTRY:       llvm.func internal @layer.run(%{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: i64, %[[STREAM:.*]]: !llvm.ptr) -> i32
// ENTRY:         %[[PROGRAM:.*]] = llvm.mlir.addressof @layer.program
// ENTRY:         %[[STATUS:.*]] = llvm.call @moe_cuda_begin(%[[RECORD:.*]], %[[PROGRAM]], %[[STREAM]])
// ENTRY:         call @layer.body(%{{.*}}, %{{.*}}, %[[RECORD]])
// ENTRY:         llvm.getelementptr %[[RECORD]][0, 4]
// ENTRY:       llvm.func @layer(%{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: i64, %{{.*}}: !llvm.ptr) -> i32
// ENTRY:       llvm.func @layer_packed(%{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: i64, %{{.*}}: !llvm.ptr) -> i32
// ENTRY:       llvm.func @layer_error() -> !llvm.ptr
// ENTRY:         llvm.call @moe_cuda_error()
module attributes {gpu.container_module} {
  func.func @layer(%x: memref<?x8xf32>, %out: memref<?x8xf32>)
      attributes {moe.entry = {results = 1 : i64, shapes = @layer.shapes}} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c256 = arith.constant 256 : index
    %shared = arith.constant 4096 : i32
    %T = memref.dim %x, %c0 : memref<?x8xf32>
    %address = memref.extract_aligned_pointer_as_index %x : memref<?x8xf32> -> index
    %number = arith.index_cast %address : index to i64
    %p = llvm.inttoptr %number : i64 to !llvm.ptr
    gpu.launch_func @moe_kernels::@first blocks in (%T, %c1, %c1) threads in (%c256, %c1, %c1)
        dynamic_shared_memory_size %shared args(%p : !llvm.ptr, %number : i64)
    gpu.launch_func @moe_kernels::@second blocks in (%T, %c1, %c1) threads in (%c256, %c1, %c1) args(%p : !llvm.ptr)
    return
  }
  func.func private @layer.shapes(%T: index) -> (i32, index, index) {
    %c0 = arith.constant 0 : i32
    %c8 = arith.constant 8 : index
    return %c0, %T, %c8 : i32, index, index
  }
  gpu.binary @moe_kernels [#gpu.object<#nvvm.target<chip = "sm_80">, assembly = ".target sm_80">,
                           #gpu.object<#nvvm.target<chip = "sm_80">, bin = "\7FELF">]
}

// -----

// The run time draws a ticket, into what the last argument points to.
// CHECK-LABEL: func.func @waiting(
// CHECK:         %[[PLACE:.*]] = llvm.alloca %{{.*}} x i64
// CHECK:         llvm.store %c0_i64, %[[PLACE]]
// CHECK:         llvm.call @moe_cuda_call_cooperative(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[PLACE]])
module attributes {gpu.container_module} {
  func.func @waiting() attributes {moe.entry = {results = 0 : i64, shapes = @shapes}} {
    %c1 = arith.constant 1 : index
    %ticket = arith.constant 0 : i64
    gpu.launch_func @moe_kernels::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1) args(%ticket : i64) {moe.cooperative}
    return
  }
  func.func private @shapes() -> i32
  gpu.binary @moe_kernels [#gpu.object<#nvvm.target<chip = "sm_80">, assembly = "ptx">]
}

// -----

module attributes {gpu.container_module} {
  func.func @no_ticket(%p: i32) attributes {moe.entry = {results = 0 : i64, shapes = @shapes}} {
    %c1 = arith.constant 1 : index
    // expected-error@+1 {{is cooperative, but its last operand, for the ticket, is no i64}}
    gpu.launch_func @moe_kernels::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1) args(%p : i32) {moe.cooperative}
    return
  }
  func.func private @shapes() -> i32
  gpu.binary @moe_kernels [#gpu.object<#nvvm.target<chip = "sm_80">, assembly = "ptx">]
}

// -----

module attributes {gpu.container_module} {
  func.func @shared(%bytes: i32) attributes {moe.entry = {results = 0 : i64, shapes = @shapes}} {
    %c1 = arith.constant 1 : index
    // expected-error@+1 {{asks for shared memory that is not a constant}}
    gpu.launch_func @moe_kernels::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1) dynamic_shared_memory_size %bytes
    return
  }
  func.func private @shapes() -> i32
  gpu.binary @moe_kernels [#gpu.object<#nvvm.target<chip = "sm_80">, assembly = "ptx">]
}

// -----

module attributes {gpu.container_module} {
  func.func @buffer(%x: memref<8xf32>) attributes {moe.entry = {results = 0 : i64, shapes = @shapes}} {
    %c1 = arith.constant 1 : index
    // expected-error@+1 {{passes a 'memref<8xf32>'; kernels take pointers and scalars}}
    gpu.launch_func @moe_kernels::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1) args(%x : memref<8xf32>)
    return
  }
  func.func private @shapes() -> i32
  gpu.binary @moe_kernels [#gpu.object<#nvvm.target<chip = "sm_80">, assembly = "ptx">]
}

// -----

module attributes {gpu.container_module} {
  // expected-error@+1 {{@source launches kernels of @moe_kernels, which is no gpu.binary}}
  func.func @source() attributes {moe.entry = {results = 0 : i64, shapes = @shapes}} {
    %c1 = arith.constant 1 : index
    gpu.launch_func @moe_kernels::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1)
    return
  }
  func.func private @shapes() -> i32
  gpu.module @moe_kernels {
    llvm.func @k() attributes {gpu.kernel} {
      llvm.return
    }
  }
}

// -----

module attributes {gpu.container_module} {
  func.func @entry() attributes {moe.entry = {results = 0 : i64, shapes = @shapes}} {
    call @other() : () -> ()
    return
  }
  func.func private @other() {
    call @third() : () -> ()
    return
  }
  func.func private @third() {
    %c1 = arith.constant 1 : index
    // expected-error@+1 {{is neither in the entry nor in a function that it calls; inline the one that holds it}}
    gpu.launch_func @moe_kernels::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1)
    return
  }
  func.func private @shapes() -> i32
  gpu.binary @moe_kernels [#gpu.object<#nvvm.target<chip = "sm_80">, assembly = "ptx">]
}
