// The dialect, its interfaces, passes and pipelines in a stock mlir-opt. One MLIR is loaded, or
// none of this would work: patterns and passes cast our ops.

// REQUIRES: moe-plugin

// RUN: mlir-opt --load-dialect-plugin=%moe_plugin --canonicalize %s | FileCheck %s --check-prefix=DIALECT
// RUN: mlir-opt --load-dialect-plugin=%moe_plugin --load-pass-plugin=%moe_plugin \
// RUN:     --pass-pipeline='any(moe-decompose)' %s | FileCheck %s --check-prefix=PASS
// RUN: mlir-opt --load-dialect-plugin=%moe_plugin --load-pass-plugin=%moe_plugin \
// RUN:     --pass-pipeline='builtin.module(func.func(moe-decompose),one-shot-bufferize{bufferize-function-boundaries})' \
// RUN:     %s | FileCheck %s --check-prefix=BUFFERIZE
// RUN: mlir-opt --load-dialect-plugin=%moe_plugin --load-pass-plugin=%moe_plugin \
// RUN:     --pass-pipeline='builtin.module(moe-general-lowering)' %s | FileCheck %s --check-prefix=PIPELINE

// Without the plugin there is no such dialect, and without the pass plugin no such pass.
// RUN: not mlir-opt %s 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not mlir-opt --load-dialect-plugin=%moe_plugin --pass-pipeline='any(moe-decompose)' %s 2>&1 \
// RUN:     | FileCheck %s --check-prefix=NOPASS

// NONE: error: {{.*}}moe
// NOPASS: 'moe-decompose' does not refer to a registered pass

// DIALECT-LABEL: func @gate
// PASS-LABEL: func @gate
// BUFFERIZE-LABEL: func @gate
// PIPELINE-LABEL: llvm.func @gate
func.func @gate(%logits: tensor<?x4xf32>, %w: tensor<?x2xf32>, %i: tensor<?x2xi32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>) {
  %zeros = arith.constant dense<0.0> : tensor<4xf32>
  // DIALECT: moe.gate score(softmax) ins(%arg0 : tensor<?x4xf32>) outs
  // PASS-NOT: moe.
  // PASS: scf.for
  // PASS-NOT: moe.
  // BUFFERIZE-NOT: tensor<
  // BUFFERIZE: scf.for
  // BUFFERIZE-NOT: tensor<
  // PIPELINE-NOT: scf.
  // PIPELINE: llvm.return
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>) bias(%zeros : tensor<4xf32>)
      outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  return %weights, %ids : tensor<?x2xf32>, tensor<?x2xi32>
}
