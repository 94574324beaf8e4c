// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-run-on-moe-functions{pipeline=builtin.module(moe-decompose)})' \
// RUN:     | FileCheck %s

// The functions concerned come last: they were away.

// CHECK-LABEL: func @foreign
// CHECK-NEXT: math.exp
// CHECK-LABEL: func @ours
// CHECK-NOT: moe.
// CHECK: scf.for
func.func @ours(%r: tensor<3x1xf32>, %s: tensor<2x2xi32>, %w: tensor<2x2xf32>, %y: tensor<2x1xf32>)
    -> tensor<2x1xf32> {
  %0 = moe.combine rows(%r : tensor<3x1xf32>) slots(%s : tensor<2x2xi32>) weights(%w : tensor<2x2xf32>)
      outs(%y : tensor<2x1xf32>)
  return %0 : tensor<2x1xf32>
}

func.func @foreign(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = math.exp %x : tensor<2xf32>
  return %0 : tensor<2xf32>
}

// What is printed of a pipeline is the pipeline: the same text again, and the same result.

// RUN: moe-opt %s --moe-general-lowering=runtime-verification=true --dump-pass-pipeline -o %t.first 2> %t.pipeline
// RUN: FileCheck %s --check-prefix=PIPELINE < %t.pipeline
// PIPELINE: moe-run-on-moe-functions{pipeline=builtin.module(canonicalize{
// PIPELINE-SAME: generate-runtime-verification
// PIPELINE-SAME: moe-decompose
// PIPELINE-SAME: moe-separate-fills,moe-in-place-results,eliminate-empty-tensors
// PIPELINE-SAME: moe-strided-copies
// RUN: sh -c 'moe-opt %s --dump-pass-pipeline -o %t.second --pass-pipeline="$(tail -n +2 %t.pipeline)"' 2> %t.again
// RUN: diff %t.pipeline %t.again
// RUN: diff %t.first %t.second

// Errors.

// RUN: not moe-opt %s --pass-pipeline='builtin.module(moe-run-on-moe-functions)' 2>&1 \
// RUN:     | FileCheck %s --check-prefix=NONE
// NONE: the pipeline runs on 'any', not on a module; write builtin.module(...)
// RUN: not moe-opt %s --pass-pipeline='builtin.module(moe-run-on-moe-functions{pipeline=func.func(cse)})' 2>&1 \
// RUN:     | FileCheck %s --check-prefix=ANCHOR
// ANCHOR: the pipeline runs on 'func.func', not on a module; write builtin.module(...)
// RUN: not moe-opt %s --pass-pipeline='builtin.module(moe-run-on-moe-functions{pipeline=builtin.module(no-such)})' 2>&1 \
// RUN:     | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: 'builtin.module(no-such)' is no pipeline: {{.*}}'no-such' does not refer to a registered pass
