// RUN: rm -rf %t && mkdir -p %t
// RUN: moe-compile %s -o %t/f.o --target-cpu=native --dump-stages=%t/new/stages
// RUN: ls %t/new/stages | FileCheck %s --check-prefix=FILES
//      FILES: 00-input.mlir
// FILES-NEXT: 01-entry.mlir
// FILES-NEXT: 02-buffers.mlir
// FILES-NEXT: 03-workspace.mlir
// FILES-NEXT: 04-c-entry.mlir
// FILES-NEXT: 05-llvm-dialect.mlir
// FILES-NEXT: 06-llvm.ll
// FILES-NEXT: 07-optimized.ll
//  FILES-NOT: {{.}}

// Each version has buffers of its own.
// RUN: moe-compile %s -o %t/f.o --isa=avx2,avx512 --dump-stages=%t/versions
// RUN: ls %t/versions | FileCheck %s --check-prefix=VERSIONS
//      VERSIONS: 01-entry.mlir
// VERSIONS-NEXT: 02-buffers-avx512.mlir
// VERSIONS-NEXT: 03-workspace-avx512.mlir
// VERSIONS-NEXT: 04-buffers-avx2.mlir
// VERSIONS-NEXT: 05-workspace-avx2.mlir
// VERSIONS-NEXT: 06-c-entry.mlir

// What is read is what was written, plus the names of the text.
// RUN: FileCheck %s --check-prefix=INPUT < %t/new/stages/00-input.mlir
// INPUT: func.func @f(%arg0: tensor<4xf32> {moe.name = "x"})
// RUN: FileCheck %s --check-prefix=ENTRY < %t/new/stages/01-entry.mlir
// ENTRY: bufferization.materialize_in_destination
// RUN: FileCheck %s --check-prefix=BUFFERS < %t/new/stages/02-buffers.mlir
// The result is computed in the caller's memory.
// BUFFERS:     func.func @f(%{{.*}}: memref<4xf32> {{.*}}, %[[Y:.*]]: memref<4xf32>
// BUFFERS-NOT: memref.alloc
// BUFFERS:     memref.store %{{.*}}, %[[Y]]
// RUN: FileCheck %s --check-prefix=CENTRY < %t/new/stages/04-c-entry.mlir
// CENTRY: llvm.func @f_packed(
// RUN: FileCheck %s --check-prefix=DIALECT < %t/new/stages/05-llvm-dialect.mlir
// DIALECT-NOT: memref.
// DIALECT:     llvm.func @f.body(
// Every stage of IR can be read again.
// RUN: moe-opt %t/new/stages/01-entry.mlir -o /dev/null
// RUN: moe-opt %t/new/stages/04-c-entry.mlir -o /dev/null

func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = arith.negf %x : tensor<4xf32>
  return %y : tensor<4xf32>
}
