// Assertions at run time end a run with a message and status 1, and leave no file.
// RUN: rm -rf %t && mkdir %t
// RUN: moe-run %s -O0 --fill=slots=-1 --shape=rows=3x4 --random-weights --runtime-verification --output=%t/y.npy --check | FileCheck %s --check-prefix=OK
// OK: result 'y': 2x4xf32
// OK: check: 'y' {{.*}}: ok

// RUN: not moe-run %s -O0 --fill=slots=3 --shape=rows=3x4 --random-weights --runtime-verification --output=%t/none.npy > %t/out 2> %t/err
// RUN: FileCheck %s < %t/err && count 0 < %t/out && not ls %t/none.npy
// CHECK: moe.combine
// CHECK: ^ {{.*}}slot
// CHECK: moe-run: error: a check of --runtime-verification failed (see above)

// The assertion is not JSON.
// RUN: not moe-run %s -O0 --fill=slots=3 --shape=rows=3x4 --random-weights --runtime-verification --json=- 2> %t/err | count 0

// Without it, a slot that is nowhere adds nothing.
// RUN: moe-run %s -O0 --fill=slots=3 --shape=rows=3x4 --random-weights --output=%t/zero.npy
// RUN: %python -c "import sys; data = open(sys.argv[1], 'rb').read(); assert data[-32:] == bytes(32)" %t/zero.npy
func.func @combine(%rows: tensor<?x4xf32>, %slots: tensor<2x2xi32>, %weights: tensor<2x2xf32>) -> tensor<2x4xf32> {
  %empty = tensor.empty() : tensor<2x4xf32>
  %y = moe.combine rows(%rows : tensor<?x4xf32>) slots(%slots : tensor<2x2xi32>) weights(%weights : tensor<2x2xf32>)
      outs(%empty : tensor<2x4xf32>)
  return %y : tensor<2x4xf32>
}
