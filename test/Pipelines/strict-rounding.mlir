// RUN: moe-opt %s --moe-strict-rounding | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering | FileCheck %s --check-prefix=LOWERED

// Other flags stay.

// CHECK-LABEL: func @casts
// CHECK: arith.extf %{{.*}} : bf16 to f32
// CHECK: arith.mulf %{{.*}} fastmath<contract> : f32
// CHECK: arith.truncf %{{.*}} fastmath<nnan> : f32 to bf16
func.func @casts(%a: bf16) -> bf16 {
  %wide = arith.extf %a fastmath<contract> : bf16 to f32
  %square = arith.mulf %wide, %wide fastmath<contract> : f32
  %narrow = arith.truncf %square fastmath<nnan,contract> : f32 to bf16
  return %narrow : bf16
}

// A product in bf16 is rounded before it is added to; rounding is integer arithmetic here.

// LOWERED-LABEL: llvm.func @chain
// LOWERED: llvm.fmul %{{.*}} : f32
// LOWERED: llvm.lshr
// LOWERED: llvm.fadd %{{.*}} : f32
// LOWERED: llvm.lshr
func.func @chain(%a: tensor<?x4xbf16>, %slots: tensor<?x1xi32>, %weights: tensor<?x1xf32>)
    -> tensor<?x4xbf16> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %a, %c0 : tensor<?x4xbf16>
  %product = arith.mulf %a, %a : tensor<?x4xbf16>
  %sum = arith.addf %product, %a : tensor<?x4xbf16>
  %empty = tensor.empty(%n) : tensor<?x4xbf16>
  %y = moe.combine rows(%sum : tensor<?x4xbf16>) slots(%slots : tensor<?x1xi32>)
      weights(%weights : tensor<?x1xf32>) outs(%empty : tensor<?x4xbf16>)
  return %y : tensor<?x4xbf16>
}
