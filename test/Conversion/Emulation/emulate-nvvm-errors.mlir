// RUN: moe-opt %s --moe-emulate-nvvm --split-input-file --verify-diagnostics

gpu.module @kernels {
  llvm.func @k(%n: i32) attributes {gpu.kernel, nvvm.kernel} {
    // expected-error @below {{'arith.addi' op cannot be emulated: kernels must be in the llvm and nvvm dialects; run the conversions to LLVM first}}
    %m = arith.addi %n, %n : i32
    llvm.return
  }
}

// -----

gpu.module @kernels {
  llvm.func @k() attributes {gpu.kernel, nvvm.kernel} {
    // expected-error @below {{'nvvm.breakpoint' op has no emulation; lib/Emulation is where one is added}}
    nvvm.breakpoint
    llvm.return
  }
}

// -----

gpu.module @kernels {
  llvm.func @k(%x: f32) attributes {gpu.kernel, nvvm.kernel} {
    // expected-error @below {{has no emulation for 'llvm.nvvm.d2i.rn'}}
    %y = llvm.call_intrinsic "llvm.nvvm.d2i.rn"(%x) : (f32) -> f32
    llvm.return
  }
}

// -----

gpu.module @kernels {
  llvm.func @k(%x: f32) attributes {gpu.kernel, nvvm.kernel} {
    // expected-error @below {{has no emulation for 'trap;'}}
    nvvm.inline_ptx "trap;"
    llvm.return
  }
}

// -----

llvm.func @k()
gpu.module @kernels {
  // expected-error @below {{has the name of another symbol of the module, 'k'; kernels need names of their own}}
  llvm.func @k() attributes {gpu.kernel, nvvm.kernel} {
    llvm.return
  }
}
