// RUN: moe-opt %s --convert-scf-to-cf --convert-to-llvm --moe-keep-loop-annotations | FileCheck %s
// RUN: moe-opt %s --convert-scf-to-cf --convert-to-llvm --reconcile-unrealized-casts --moe-keep-loop-annotations \
// RUN:     | mlir-translate --mlir-to-llvmir | FileCheck %s --check-prefix=LLVM

// CHECK-DAG: #[[UNROLL:.*]] = #llvm.loop_unroll<disable = true>
// CHECK-DAG: #[[ROLLED:.*]] = #llvm.loop_annotation<unroll = #[[UNROLL]]>
#rolled = #llvm.loop_annotation<unroll = <disable = true>>

// CHECK:     llvm.func @rolled
// CHECK:     llvm.cond_br %{{.*}}, ^bb2, ^bb3{{$}}
// CHECK:     llvm.br ^bb1({{.*}}) {loop_annotation = #[[ROLLED]]}
// LLVM:      br label {{.*}} !llvm.loop ![[LOOP:[0-9]+]]
// LLVM:      ![[LOOP]] = distinct !{![[LOOP]], ![[DISABLE:[0-9]+]]}
// LLVM:      ![[DISABLE]] = !{!"llvm.loop.unroll.disable"}
func.func @rolled(%n: i32, %init: i32) -> i32 {
  %c0 = arith.constant 0 : i32
  %c1 = arith.constant 1 : i32
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%x = %init) -> i32 : i32 {
    %y = arith.muli %x, %i : i32
    scf.yield %y : i32
  } {llvm.loop_annotation = #rolled}
  return %r : i32
}

// Of a branch that forks, and of one that says nothing.
// CHECK:     llvm.func @branches
// CHECK:     llvm.cond_br %{{.*}}, ^bb1, ^bb2 {loop_annotation = #[[ROLLED]]}
// CHECK:     llvm.br ^bb3{{$}}
llvm.func @branches(%go: i1) {
  llvm.br ^head
^head:
  llvm.cond_br %go, ^head, ^exit {llvm.loop_annotation = #rolled}
^exit:
  llvm.br ^end
^end:
  llvm.return
}
