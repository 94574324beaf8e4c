// RUN: moe-opt %s --moe-expand-small-floats | FileCheck %s

// CHECK-LABEL: func @scalar
// CHECK: arith.bitcast %{{.*}} : f8E4M3FN to i8
// CHECK-NOT: arith.extf
// CHECK: return %{{.*}} : f32
func.func @scalar(%code: f8E4M3FN) -> f32 {
  %x = arith.extf %code : f8E4M3FN to f32
  return %x : f32
}

// Vectors stay vectors; a narrower type is rounded to, once.
// CHECK-LABEL: func @narrow
// CHECK: arith.bitcast %{{.*}} : vector<4xf8E5M2> to vector<4xi8>
// CHECK-NOT: arith.extf
// CHECK: arith.truncf %{{.*}} : vector<4xf32> to vector<4xbf16>
func.func @narrow(%codes: vector<4xf8E5M2>) -> vector<4xbf16> {
  %x = arith.extf %codes : vector<4xf8E5M2> to vector<4xbf16>
  return %x : vector<4xbf16>
}

// What LLVM has stays.
// CHECK-LABEL: func @half
// CHECK: arith.extf %{{.*}} : f16 to f32
func.func @half(%h: f16) -> f32 {
  %x = arith.extf %h : f16 to f32
  return %x : f32
}
