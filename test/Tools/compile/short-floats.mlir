// An artifact brings the conversions of bf16 and f16 that its cpu does not have:
// they are in compiler-rt, which it does not need.
// RUN: rm -rf %t && mkdir -p %t
// RUN: moe-compile %s -o %t/f.o --target-triple=x86_64-linux-gnu
// RUN: llvm-nm --undefined-only --format=just-symbols %t/f.o | FileCheck %s --allow-empty
// CHECK-NOT: __
// They are not for others to see: two artifacts can be linked together.
// RUN: llvm-nm --extern-only --defined-only --format=just-symbols %t/f.o | FileCheck %s --check-prefix=DEFINED
// DEFINED-NOT:  {{.}}
// DEFINED:      {{^}}f{{$}}
// DEFINED-NEXT: {{^}}f_packed{{$}}
// DEFINED-NEXT: {{^}}f_workspace{{$}}
// DEFINED-NEXT: {{^}}f_workspace_packed{{$}}
// DEFINED-NOT:  {{.}}
// RUN: llvm-nm --format=just-symbols %t/f.o | FileCheck %s --check-prefix=ALL
// ALL-DAG: __truncsfhf2
// ALL-DAG: __truncsfbf2

func.func @f(%x: tensor<16xf32>, %b: tensor<16xbf16>) -> (tensor<16xf16>, tensor<16xbf16>) {
  %0 = arith.truncf %x : tensor<16xf32> to tensor<16xf16>
  %1 = arith.truncf %x : tensor<16xf32> to tensor<16xbf16>
  %2 = arith.mulf %1, %b : tensor<16xbf16>
  return %0, %2 : tensor<16xf16>, tensor<16xbf16>
}
