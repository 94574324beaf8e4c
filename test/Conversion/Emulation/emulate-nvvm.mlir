// RUN: moe-opt %s --moe-emulate-nvvm | FileCheck %s

// Static objects lie one after the other from byte 1024 on, dynamic ones behind
// them; a kernel gets an entry and a record; each access that may be shared is
// checked before it happens.

gpu.module @kernels {
  llvm.mlir.global internal @first() {addr_space = 3 : i32} : !llvm.array<5 x i32>
  llvm.mlir.global internal @second() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<4 x i32>
  llvm.mlir.global external @dynamic() {addr_space = 3 : i32, alignment = 128 : i64} : !llvm.array<0 x i8>

  // CHECK-NOT: gpu.module
  // CHECK-LABEL: llvm.func @copy(
  // CHECK-SAME: %[[x:.*]]: !llvm.ptr, %[[n:.*]]: i32) {
  llvm.func @copy(%x: !llvm.ptr {llvm.noalias}, %n: i32) attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 64, 2, 1>, nvvm.cluster_dim = array<i32: 2, 1, 1>} {
    // CHECK: %[[axis:.*]] = llvm.mlir.constant(1 : i32)
    // CHECK: llvm.call @moe_emu_tid(%[[axis]])
    %y = nvvm.read.ptx.sreg.tid.y : i32
    // CHECK: %[[at:.*]] = llvm.mlir.constant(1056 : i32)
    // CHECK: %[[second:.*]] = llvm.call @moe_emu_shared(%[[at]]) : (i32) -> !llvm.ptr<3>
    %second = llvm.mlir.addressof @second : !llvm.ptr<3>
    // CHECK: %[[behind:.*]] = llvm.mlir.constant(1152 : i32)
    // CHECK: llvm.call @moe_emu_shared(%[[behind]])
    %dynamic = llvm.mlir.addressof @dynamic : !llvm.ptr<3>
    // CHECK: %[[four:.*]] = llvm.mlir.constant(4 : i32)
    // CHECK: %[[read:.*]] = llvm.mlir.constant(0 : i32)
    // CHECK: llvm.call @moe_emu_access(%[[x]], %[[four]], %[[read]], %{{.*}})
    // CHECK-NEXT: llvm.load %[[x]]
    %v = llvm.load %x : !llvm.ptr -> i32
    // CHECK: %[[sixteen:.*]] = llvm.mlir.constant(16 : i32)
    // CHECK: %[[write:.*]] = llvm.mlir.constant(1 : i32)
    // CHECK: llvm.call @moe_emu_access(%{{.*}}, %[[sixteen]], %[[write]], %{{.*}})
    // CHECK-NEXT: llvm.store
    %four = llvm.mlir.zero : vector<4xi32>
    llvm.store %four, %second : vector<4xi32>, !llvm.ptr<3>
    // A spinning load lets others run.
    // CHECK: llvm.call @moe_emu_spin_access
    // CHECK-NEXT: llvm.load volatile
    %w = llvm.load volatile %x : !llvm.ptr -> i32
    // Memory of one thread is nobody else's business.
    // CHECK: llvm.alloca
    // CHECK-NOT: moe_emu_access
    // CHECK: llvm.store
    %local = llvm.alloca %n x i32 : (i32) -> !llvm.ptr
    llvm.store %v, %local : i32, !llvm.ptr
    // CHECK: llvm.call @moe_emu_bar_sync
    nvvm.barrier0
    llvm.return
  }
}

// The driver's calling form.
// CHECK: llvm.func internal @moe_emu_entry_copy(%[[args:.*]]: !llvm.ptr)
// CHECK: llvm.call @copy(%{{.*}}, %{{.*}}) : (!llvm.ptr, i32) -> ()

// CHECK: llvm.mlir.global external constant @moe_emu_kernel_copy()
// CHECK: llvm.mlir.constant(1152 : i32)
// CHECK: llvm.mlir.constant(128 : i32)
// CHECK: llvm.mlir.constant(2 : i32)
// CHECK: llvm.mlir.global internal constant @moe_emu_text{{.*}}("nvvm.barrier0 at {{.*}}emulate-nvvm.mlir:{{.*}}\00")
