// The pipeline takes the functions that hold moe ops, and those connected with them by calls, to
// LLVM. Whatever else the host has is as it was.

// RUN: moe-opt %s --allow-unregistered-dialect --moe-general-lowering | FileCheck %s
// RUN: moe-opt %s --allow-unregistered-dialect --pass-pipeline='builtin.module(moe-general-lowering)' \
// RUN:     | FileCheck %s
// RUN: moe-opt %s --allow-unregistered-dialect --pass-pipeline='any(moe-general-lowering)' | FileCheck %s

// Twice is once.
// RUN: moe-opt %s --allow-unregistered-dialect --pass-pipeline='any(moe-general-lowering,moe-general-lowering)' \
// RUN:     | FileCheck %s

// Tensors, ops of unknown dialects, what folds, attributes, visibility: all foreign.
// CHECK-LABEL: func.func private @foreign(
// CHECK-SAME: %arg0: tensor<4xf32> {host.arg = 1 : i32}) -> (index {host.result}) attributes {host.function} {
// CHECK-NEXT: %[[A:.*]] = arith.constant 1 : index
// CHECK-NEXT: %[[B:.*]] = arith.constant 1 : index
// CHECK-NEXT: %[[S:.*]] = arith.addi %[[A]], %[[B]] : index
// CHECK-NEXT: %{{.*}} = "host.op"(%arg0) ({
// CHECK-NEXT: ^bb0(%{{.*}}: i32):
// CHECK-NEXT:   "host.yield"() : () -> ()
// CHECK-NEXT: }) {host.attr = #host.thing<"moe">} : (tensor<4xf32>) -> !host.type
// CHECK-NEXT: return %[[S]]
func.func private @foreign(%x: tensor<4xf32> {host.arg = 1 : i32}) -> (index {host.result})
    attributes {host.function} {
  %a = arith.constant 1 : index
  %b = arith.constant 1 : index
  %s = arith.addi %a, %b : index
  %h = "host.op"(%x) ({
  ^bb0(%i: i32):
    "host.yield"() : () -> ()
  }) {host.attr = #host.thing<"moe">} : (tensor<4xf32>) -> !host.type
  return %s : index
}

// A declaration that only foreign functions use stays; one that only MoE functions use is lowered
// with them.
// CHECK-LABEL: func.func private @theirs(i32)
// CHECK-NOT: func.func private @ours
// CHECK-LABEL: func.func @foreign_caller
// CHECK-NEXT: call @theirs
func.func private @theirs(i32)
func.func private @ours(i32)
func.func @foreign_caller(%i: i32) {
  call @theirs(%i) : (i32) -> ()
  return
}

// The pipeline calls malloc, which the host has declared.
// CHECK: llvm.func @malloc(i64) -> !llvm.ptr
// CHECK-NOT: @malloc{{.}}{{[0-9]}}
llvm.func @malloc(i64) -> !llvm.ptr

// CHECK-LABEL: "host.symbol"() {sym_name = "not_a_function"}
"host.symbol"() {sym_name = "not_a_function"} : () -> ()

// Concerned: it holds a moe op.
// CHECK-DAG: llvm.func @gate(
func.func @gate(%l: tensor<?x4xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>) -> tensor<?x2xi32> {
  %0:2 = moe.gate score(softmax) ins(%l : tensor<?x4xf32>) outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  return %0#1 : tensor<?x2xi32>
}

// Concerned: it calls one that does, and one calls another.
// CHECK-DAG: llvm.func @calls_a_gate(
func.func @calls_a_gate(%l: tensor<?x4xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>) -> tensor<?x2xi32> {
  %0 = call @gate(%l, %w, %i) : (tensor<?x4xf32>, tensor<?x2xf32>, tensor<?x2xi32>) -> tensor<?x2xi32>
  %c7 = arith.constant 7 : i32
  call @ours(%c7) : (i32) -> ()
  return %0 : tensor<?x2xi32>
}

// CHECK-DAG: llvm.func @ours(i32)
// CHECK-NOT: moe.
// CHECK-NOT: unrealized_conversion_cast
