// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-emulate-amx | FileCheck %s

// Tiles are buffers of the function; what a loop carries is copied.
// CHECK-LABEL: func @sum(
//  CHECK-SAME:   %[[A:.*]]: memref<64x64xbf16>, %{{.*}}: memref<64x64xbf16>, %[[C:.*]]: memref<16x16xf32>
// CHECK-COUNT-5: memref.alloca()
//   CHECK-NOT: amx
//       CHECK: scf.for %{{.*}} = %{{.*}} to %{{.*}} step %{{.*}} {
//       CHECK:   vector.load %[[A]]
//       CHECK:   vector.deinterleave %{{.*}} : vector<32xbf16> -> vector<16xbf16>
// CHECK-COUNT-2: vector.fma
//       CHECK: vector.store %{{.*}}, %[[C]]
//   CHECK-NOT: amx
func.func @sum(%a: memref<64x64xbf16>, %b: memref<64x64xbf16>, %c: memref<16x16xf32>) {
  %c0 = arith.constant 0 : index
  %c32 = arith.constant 32 : index
  %c64 = arith.constant 64 : index
  %zero = amx.tile_zero : !amx.tile<16x16xf32>
  %sum = scf.for %k = %c0 to %c64 step %c32 iter_args(%acc = %zero) -> !amx.tile<16x16xf32> {
    %x = amx.tile_load %a[%c0, %k] : memref<64x64xbf16> into !amx.tile<16x32xbf16>
    %y = amx.tile_load %b[%k, %c0] : memref<64x64xbf16> into !amx.tile<16x32xbf16>
    %next = amx.tile_mulf %x, %y, %acc
        : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
    scf.yield %next : !amx.tile<16x16xf32>
  }
  amx.tile_store %c[%c0, %c0], %sum : memref<16x16xf32>, !amx.tile<16x16xf32>
  return
}

// -----

func.func @mixed(%n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = amx.tile_zero : !amx.tile<16x16xf32>
  // expected-error @+1 {{moe-emulate-amx: a loop carries tiles and other values}}
  %sum:2 = scf.for %k = %c0 to %n step %c1 iter_args(%acc = %zero, %i = %c0)
      -> (!amx.tile<16x16xf32>, index) {
    scf.yield %acc, %i : !amx.tile<16x16xf32>, index
  }
  return
}

// -----

func.func @integers(%m: memref<16x64xi8>) {
  %c0 = arith.constant 0 : index
  %a = amx.tile_load %m[%c0, %c0] : memref<16x64xi8> into !amx.tile<16x64xi8>
  %c = amx.tile_zero : !amx.tile<16x16xi32>
  // expected-error @+1 {{moe-emulate-amx: nothing is known of this op}}
  %d = amx.tile_muli %a, %a, %c : !amx.tile<16x64xi8>, !amx.tile<16x64xi8>, !amx.tile<16x16xi32>
  return
}
