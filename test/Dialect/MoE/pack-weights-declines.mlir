// What keeps a weight from being packed: the remark says which, and why. Those that an op reads beside it are not
// packed either.

// RUN: moe-opt %s --moe-pack-weights --remarks-filter-missed=moe-pack-weights 2>%t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK --implicit-check-not=remark: < %t.remarks

// REMARK: remark: [Missed] a weight is not packed | Category:moe-pack-weights | Function=dense
// REMARK-SAME: argument 2 (shared): it is the same for all experts
// REMARK: remark: [Missed] {{.*}} | Function=dense
// REMARK-SAME: argument 3: it is read beside argument 2 (shared), which is not packed, and of an op's weights all are packed or none
// REMARK-SAME: let that be packed, or read it in an op of its own
// CHECK-LABEL: func.func @dense(
// CHECK-SAME: tensor<64x8xf32> {moe.name = "shared"}, %{{.*}}: tensor<4x64x8xf32>
// CHECK-NOT: moe.pack
// CHECK-NOT: @dense_pack
func.func @dense(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %s: tensor<64x8xf32> {moe.name = "shared"},
    %w: tensor<4x64x8xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %s[n, k] + %x[m, k] * %w[e, n, k]
               : tensor<?x8xf32>, tensor<64x8xf32>, tensor<?x8xf32>, tensor<4x64x8xf32>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x64xf32>
}

// One remark for one weight, however often it is read.
// REMARK: remark: [Missed] {{.*}} | Function=decoded
// REMARK-SAME: argument 2: a decode region computes it from what is stored
// CHECK-LABEL: func.func @decoded(
// CHECK-NOT: moe.pack
// CHECK-NOT: @decoded_pack
func.func @decoded(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x64x8xi8>,
    %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * decode(%w[e, n, k]), %x[m, k] * decode(%w[e, n, k])
               : tensor<?x8xf32>, tensor<4x64x8xi8>, tensor<?x8xf32>, tensor<4x64x8xi8>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  } decode {
  ^bb0(%n: index, %k: index, %q: i8):
    %v = arith.sitofp %q : i8 to f32
    moe.yield %v : f32
  } decode {
  ^bb0(%n: index, %k: index, %q: i8):
    %v = arith.sitofp %q : i8 to f32
    moe.yield %v : f32
  }
  return %y : tensor<?x64xf32>
}

// REMARK: remark: [Missed] {{.*}} | Function=dynamic
// REMARK-SAME: argument 2: its N or K is unknown
// REMARK-SAME: give its type static sizes
// REMARK: remark: [Missed] {{.*}} | Function=dynamic
// REMARK-SAME: argument 3: its N or K is unknown
// CHECK-LABEL: func.func @dynamic(
// CHECK-NOT: @dynamic_pack
func.func @dynamic(%o: tensor<5xi32>, %x: tensor<?x?xf32>, %w: tensor<4x64x?xf32>, %v: tensor<4x?x8xf32>,
    %init: tensor<?x64xf32>, %wide: tensor<?x?xf32>) -> (tensor<?x64xf32>, tensor<?x?xf32>) {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x?xf32>, tensor<4x64x?xf32>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  %z = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %v[e, n, k] : tensor<?x?xf32>, tensor<4x?x8xf32>)
      outs(%wide : tensor<?x?xf32>) {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %y, %z : tensor<?x64xf32>, tensor<?x?xf32>
}

// REMARK: remark: [Missed] {{.*}} | Function=indices
// REMARK-SAME: argument 2: its index is neither [e, n, k] nor [e, k, n] with columns n * stride + first
// REMARK-SAME: store it as E×N×K or E×K×N
// REMARK: remark: [Missed] {{.*}} | Function=indices
// REMARK-SAME: argument 3: its index is neither
// REMARK: remark: [Missed] {{.*}} | Function=indices
// REMARK-SAME: argument 4: its index is neither
// REMARK: remark: [Missed] {{.*}} | Function=indices
// REMARK-SAME: argument 5: its index is neither
// CHECK-LABEL: func.func @indices(
// CHECK-NOT: @indices_pack
func.func @indices(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<64x4x8xf32>, %v: tensor<4x64x16xf32>,
    %u: tensor<4x32x8xf32>, %t: tensor<256x8xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[n, e, k], %x[m, k] * %v[e, n, k + 8], %x[m, k] * %u[e, n floordiv 2, k],
               %x[m, k] * %t[e * 64 + n, k]
               : tensor<?x8xf32>, tensor<64x4x8xf32>, tensor<?x8xf32>, tensor<4x64x16xf32>,
                 tensor<?x8xf32>, tensor<4x32x8xf32>, tensor<?x8xf32>, tensor<256x8xf32>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32, %d: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x64xf32>
}

// REMARK: remark: [Missed] {{.*}} | Function=other_readers
// REMARK-SAME: it is no argument of the function
// REMARK-SAME: pass the stored tensor as an argument
// REMARK: remark: [Missed] {{.*}} | Function=other_readers
// REMARK-SAME: argument 2: 'arith.negf' reads it as well
// REMARK-SAME: pass what that reads as another argument
// REMARK: remark: [Missed] {{.*}} | Function=other_readers
// REMARK-SAME: argument 3: a grouped matmul reads it as another operand as well
// REMARK: remark: [Missed] {{.*}} | Function=other_readers
// REMARK-SAME: argument 4: it is read as [e, n, k] and as [e, k, n]
// CHECK-LABEL: func.func @other_readers(
// CHECK-NOT: @other_readers_pack
func.func @other_readers(%o: tensor<5xi32>, %x: tensor<?x64xf32>, %w: tensor<4x64x64xf32>, %v: tensor<4x64x64xf32>,
    %u: tensor<4x64x64xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %made = arith.negf %w : tensor<4x64x64xf32>
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] + %x[m, k] * %made[e, n, k] + %x[m, k] * %v[e, n, k]
               + %x[m, k] * %u[e, n, k] + %x[m, k] * %u[e, k, n]
               : tensor<?x64xf32>, tensor<4x64x64xf32>, tensor<?x64xf32>, tensor<4x64x64xf32>,
                 tensor<?x64xf32>, tensor<4x64x64xf32>, tensor<?x64xf32>, tensor<4x64x64xf32>,
                 tensor<?x64xf32>, tensor<4x64x64xf32>)
      extras(%v[e, n, 0] : tensor<4x64x64xf32>) outs(%init : tensor<?x64xf32>) {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x64xf32>
}

// The second op's weight keeps @c from being packed in it, @c keeps @b from being packed in the first, and @a goes
// with @b; what nothing is read beside is packed.
// REMARK: remark: [Missed] {{.*}} | Function=chain
// REMARK-SAME: argument 5: 'tensor.extract_slice' reads it as well
// REMARK: remark: [Missed] {{.*}} | Function=chain
// REMARK-SAME: argument 4: it is read beside argument 5, which is not packed
// REMARK: remark: [Missed] {{.*}} | Function=chain
// REMARK-SAME: argument 3: it is read beside argument 4, which is not packed
// REMARK: remark: [Missed] {{.*}} | Function=chain
// REMARK-SAME: argument 2: it is read beside argument 3, which is not packed
// CHECK-LABEL: func.func @chain(
// CHECK-COUNT-4: tensor<4x64x8xf32>
// CHECK-SAME: tensor<4x2x8x32xf32>
// CHECK-SAME: moe.packed = array<i32: 6>
// CHECK-LABEL: func.func @chain_pack(
// CHECK-SAME: tensor<?x64x8xf32>) -> tensor<?x2x8x32xf32>
func.func @chain(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %a: tensor<4x64x8xf32>, %b: tensor<4x64x8xf32>,
    %c: tensor<4x64x8xf32>, %d: tensor<4x64x8xf32>, %alone: tensor<4x64x8xf32>, %init: tensor<?x64xf32>)
    -> (tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<64xf32>) {
  %p = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %a[e, n, k] + %x[m, k] * %b[e, n, k]
               : tensor<?x8xf32>, tensor<4x64x8xf32>, tensor<?x8xf32>, tensor<4x64x8xf32>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%y: f32):
    moe.yield %y : f32
  }
  %q = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %b[e, n, k] + %x[m, k] * %c[e, n, k]
               : tensor<?x8xf32>, tensor<4x64x8xf32>, tensor<?x8xf32>, tensor<4x64x8xf32>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%y: f32):
    moe.yield %y : f32
  }
  %r = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %c[e, n, k] + %x[m, k] * %d[e, n, k]
               : tensor<?x8xf32>, tensor<4x64x8xf32>, tensor<?x8xf32>, tensor<4x64x8xf32>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%y: f32):
    moe.yield %y : f32
  }
  %s = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %alone[e, n, k] : tensor<?x8xf32>, tensor<4x64x8xf32>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%y: f32):
    moe.yield %y : f32
  }
  %t = tensor.extract_slice %d[0, 0, 0] [1, 64, 1] [1, 1, 1] : tensor<4x64x8xf32> to tensor<64xf32>
  return %p, %q, %r, %s, %t : tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<64xf32>
}

// REMARK: remark: [Missed] {{.*}} | Function=beside_no_argument
// REMARK-SAME: it is no argument of the function
// REMARK: remark: [Missed] {{.*}} | Function=beside_no_argument
// REMARK-SAME: argument 2: it is read beside a weight that is no argument, which is not packed
// CHECK-LABEL: func.func @beside_no_argument(
// CHECK-NOT: @beside_no_argument_pack
func.func @beside_no_argument(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x64x8xf32>,
    %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %made = arith.constant dense<1.0> : tensor<4x64x8xf32>
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k], %x[m, k] * %made[e, n, k]
               : tensor<?x8xf32>, tensor<4x64x8xf32>, tensor<?x8xf32>, tensor<4x64x8xf32>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%a: f32, %b: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x64xf32>
}

// REMARK: remark: [Missed] {{.*}} | Function=memrefs
// REMARK-SAME: argument 2: it is a memref
// REMARK-SAME: run this pass before bufferization
// CHECK-LABEL: func.func @memrefs(
// CHECK-NOT: @memrefs_pack
func.func @memrefs(%o: memref<5xi32>, %x: memref<?x8xf32>, %w: memref<4x64x8xf32>, %y: memref<?x64xf32>) {
  moe.grouped_matmul offsets(%o : memref<5xi32>)
      products(%x[m, k] * %w[e, n, k] : memref<?x8xf32>, memref<4x64x8xf32>)
      outs(%y : memref<?x64xf32>) {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// REMARK: remark: [Missed] {{.*}} | Function=called
// REMARK-SAME: the function is called by others
// REMARK-SAME: inline it first
// CHECK-LABEL: func.func @called(
// CHECK-NOT: @called_pack
func.func @called(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x64x8xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = moe.grouped_matmul offsets(%o : tensor<5xi32>)
      products(%x[m, k] * %w[e, n, k] : tensor<?x8xf32>, tensor<4x64x8xf32>)
      outs(%init : tensor<?x64xf32>) {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %y : tensor<?x64xf32>
}

func.func @caller(%o: tensor<5xi32>, %x: tensor<?x8xf32>, %w: tensor<4x64x8xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = call @called(%o, %x, %w, %init) : (tensor<5xi32>, tensor<?x8xf32>, tensor<4x64x8xf32>, tensor<?x64xf32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
