// RUN: moe-opt %s --moe-loops-to-gpu --split-input-file --verify-diagnostics

module attributes {gpu.container_module} {
gpu.module @others {
  llvm.func @kernel() attributes {gpu.kernel} {
    llvm.return
  }
}
func.func @bound(%x: memref<8xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.load %x[%c0] : memref<8xi32>
  // expected-error@+1 {{'arith.index_cast' op is computed on the GPU, and the host would need the value for 'scf.for'}}
  %end = arith.index_cast %n : i32 to index
  // expected-note@+1 {{sizes and bounds may depend on the sizes of arguments, not on their data}}
  scf.for %i = %c0 to %end step %c1 {
    gpu.launch_func @others::@kernel blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1)
  }
  return
}
}

// -----

func.func @memory(%n: index) -> f32 {
  %c0 = arith.constant 0 : index
  // expected-error@+1 {{'memref.alloc' op is memory that a kernel would have to allocate}}
  %x = memref.alloc(%n) : memref<?xf32>
  %v = memref.load %x[%c0] : memref<?xf32>
  return %v : f32
}

// -----

func.func @math(%x: memref<8xf64>) {
  %c0 = arith.constant 0 : index
  %v = memref.load %x[%c0] : memref<8xf64>
  // expected-error@+1 {{'math.exp' op has no code for GPUs}}
  %e = math.exp %v : f64
  memref.store %e, %x[%c0] : memref<8xf64>
  return
}

// -----

func.func @layout(%x: memref<8xf32, strided<[2], offset: ?>>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  // expected-error@+1 {{'memref.store' op uses a 'memref<8xf32, strided<[2], offset: ?>>' from above, which a kernel cannot be given}}
  memref.store %zero, %x[%c0] : memref<8xf32, strided<[2], offset: ?>>
  return
}

// -----

// expected-error@+1 {{@blocks has several blocks; write its control flow with scf}}
func.func @blocks(%c: i1) {
  cf.cond_br %c, ^bb1, ^bb1
^bb1:
  return
}

// -----

func.func private @callee(%x: memref<f32>)
func.func @call(%x: memref<f32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    // expected-error@+1 {{'func.call' op calls a function from a kernel; inline it first}}
    func.call @callee(%x) : (memref<f32>) -> ()
  }
  return
}

// -----

func.func @left(%l: memref<?x8xf32>, %w: memref<?x2xf32>, %i: memref<?x2xi32>) {
  // expected-error@+1 {{'moe.gate' op has no kernel, and moe-decompose-for-gpu has not taken it apart; run it first}}
  moe.gate score(softmax) ins(%l : memref<?x8xf32>) outs(%w, %i : memref<?x2xf32>, memref<?x2xi32>)
  return
}
