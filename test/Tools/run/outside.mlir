// Undefined behaviour of the program ends the run with a message, and its cause has one.
// UNSUPPORTED: sanitizers
// RUN: rm -rf %t && mkdir %t
// RUN: not moe-run %s -O0 --fill=ids=1 --random-weights --output=%t/y.npy 2>&1 | FileCheck %s
// CHECK: moe-run: error: the layer reads or writes outside its tensors; --runtime-verification may tell where
// RUN: not moe-run %s -O0 --fill=ids=1 --random-weights --output=%t/y.npy --runtime-verification 2>&1 | FileCheck %s --check-prefix=CAUSE
// CAUSE: there are fewer rows than choices that are kept
// CAUSE: moe-run: error: a check of --runtime-verification failed (see above)
// RUN: ls %t | count 0
func.func @outside(%ids: tensor<100000x1xi32>, %x: tensor<100000x64xf32>) -> tensor<1x64xf32> {
  %o = tensor.empty() : tensor<5xi32>
  %s = tensor.empty() : tensor<100000x1xi32>
  %r = tensor.empty() : tensor<1x64xf32>
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<100000x1xi32>) tokens(%x : tensor<100000x64xf32>)
      outs(%o, %s, %r : tensor<5xi32>, tensor<100000x1xi32>, tensor<1x64xf32>)
  return %rows : tensor<1x64xf32>
}
