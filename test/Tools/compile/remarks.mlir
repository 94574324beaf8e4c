// The remark flags of mlir-opt, as moe-run has them.

// RUN: moe-compile %s -o %t.o --remarks-filter=.* --remark-format=yaml --remark-policy=final --remarks-output-file=%t.yaml
// RUN: ls %t.yaml
// RUN: rm -f %t.h
// RUN: not moe-compile %s --emit=header -o %t.h '--remarks-filter-missed=[' 2>&1 | FileCheck %s --check-prefix=FILTER
// FILTER: moe-compile: error: the filter of remarks '[' is no regular expression:
// RUN: not moe-compile %s --emit=header -o %t.h --remarks-filter=.* --remark-format=bitstream --remarks-output-file=%t/none/r 2>&1 | FileCheck %s --check-prefix=FILE
// FILE: moe-compile: error: --remarks-output-file: cannot write remarks to '{{.*}}none/r'; the folder must exist and be writable
// RUN: not ls %t.h

func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = arith.negf %x : tensor<4xf32>
  return %y : tensor<4xf32>
}
