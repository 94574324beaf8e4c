// What .npy does not have (bf16) is rounded on the way in, and widened on the way out.
// RUN: rm -rf %t && %python %S/Inputs/make_model.py %t
// RUN: moe-run %s -O0 --entry=double --input=%t/x.npy --output=%t/y.npy --json=%t/report.json | FileCheck %s
// CHECK: note: 'x' (f32 in '{{.*}}x.npy') is rounded to nearest even to bf16
// CHECK-NEXT: time:
// RUN: FileCheck %s --check-prefix=JSON < %t/report.json
// JSON: "notes": [
// JSON-NEXT: "'x' (f32 in '{{.*}}x.npy') is rounded to nearest even to bf16

// RUN: moe-run %s -O0 --entry=double --input=%t/x.npy --output=%t/y.safetensors
// RUN: moe-run %s -O0 --entry=double --input=%t/x_bf16.safetensors --output=%t/exact.safetensors | FileCheck %s --check-prefix=EXACT
// EXACT: argument 'x': 5x8xbf16, 0.1 kB, {{.*}}x_bf16.safetensors, mapped
// EXACT-NOT: note:
// RUN: %python %S/Inputs/check_types.py %t

// A file of results in another float type is a reference like any other.
// RUN: moe-run %s -O0 --entry=double --input=%t/x.npy --check=%t/y.npy --check=%t/y.safetensors --tolerance=0
func.func @double(%x: tensor<?x8xbf16>) -> tensor<?x8xbf16> {
  %0 = arith.addf %x, %x : tensor<?x8xbf16>
  return %0 : tensor<?x8xbf16>
}

// Integers and bools go through as they are.
// RUN: moe-run %s -O0 --entry=integers --fill=i=-3..3 --fill=b=0..1 --output=%t/i.safetensors --check
// RUN: moe-run %s -O0 --entry=integers --input=i=%t/i.safetensors:j --input=b=%t/i.safetensors:c --check=%t/i.safetensors | FileCheck %s --check-prefix=INT
// INT: check: 'j' against {{.*}}: 0 elements differ: ok
// INT: check: 'c' against {{.*}}: 0 elements differ: ok
func.func @integers(%i: tensor<4x3xi32>, %b: tensor<5xi1>)
    -> (tensor<4x3xi32> {moe.name = "j"}, tensor<5xi1> {moe.name = "c"}) {
  return %i, %b : tensor<4x3xi32>, tensor<5xi1>
}
