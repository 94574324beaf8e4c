// What moe-compile writes, by suffix and by --emit.
// RUN: rm -rf %t && mkdir -p %t

// A shared object and its header: four functions for others to see, nothing that
// it needs but the C library and libm.
// RUN: moe-compile %s -o %t/f.so
// RUN: llvm-nm -D --defined-only --format=just-symbols %t/f.so | FileCheck %s --check-prefix=SYMBOLS
// SYMBOLS-NOT:  {{.}}
// SYMBOLS:      {{^}}f{{$}}
// SYMBOLS-NEXT: {{^}}f_packed{{$}}
// SYMBOLS-NEXT: {{^}}f_workspace{{$}}
// SYMBOLS-NEXT: {{^}}f_workspace_packed{{$}}
// SYMBOLS-NOT:  {{.}}
// RUN: llvm-readobj --needed-libs --dynamic-table %t/f.so | FileCheck %s --check-prefix=NEEDED
// NEEDED:      SONAME {{.*}}[f.so]
// NEEDED:      NeededLibraries [
// NEEDED-NEXT:   libc.
// NEEDED-NEXT:   libm.
// NEEDED-NEXT: ]

// The header is C99 and C++.
// RUN: echo '#include "f.h"' > %t/user.c && cp %t/user.c %t/user.cpp
// RUN: %cc -std=c99 -Wall -Wextra -pedantic -Werror -I%t -fsyntax-only %t/user.c
// RUN: %cxx -std=c++17 -Wall -Wextra -pedantic -Werror -I%t -fsyntax-only %t/user.cpp
// It lives with another one, and with moe.h.
// RUN: sed -e 's/@f/@g/' %s > %t/g.mlir && moe-compile %t/g.mlir -o %t/g.h
// RUN: echo '#include "moe/Runtime/moe.h"' > %t/both.c
// RUN: echo '#include "f.h"' >> %t/both.c && echo '#include "g.h"' >> %t/both.c
// RUN: %cc -std=c99 -Wall -Wextra -pedantic -Werror -I%t -I%moe_src_root/include -fsyntax-only %t/both.c

// RUN: FileCheck %s --check-prefix=HEADER --match-full-lines --strict-whitespace < %t/f.h
//      HEADER: * Written by moe-compile from emit.mlir, for {{.*}}.
//      HEADER: * f: the layer.
// HEADER-NEXT: *
// HEADER-NEXT: * Arguments: position, name, type, shape, tensor of the checkpoint.
// HEADER-NEXT: *
// HEADER-NEXT: *    0  x_in  MOE_F32   [x_in_0, 3]            called x.in
// HEADER-NEXT: *    1  w     MOE_F32   [3]                    weights.* /oops
// HEADER-NEXT: *
// HEADER-NEXT: * Results:
// HEADER-NEXT: *
// HEADER-NEXT: *    2  y     MOE_F32   [(x_in_0 + 1) * 2, 3]
// HEADER-NEXT: *
// HEADER-NEXT: * Sizes that the caller chooses:
// HEADER-NEXT: *
// HEADER-NEXT: *   x_in_0 = x_in->shape[0]
//      HEADER:int32_t f(const moe_tensor *x_in,
// HEADER-NEXT:          const moe_tensor *w,
// HEADER-NEXT:          const moe_tensor *y,
// HEADER-NEXT:          void *workspace, size_t workspace_bytes);
//      HEADER: * The same, with the 3 tensors in an array, in the order of their positions.
//      HEADER:int32_t f_packed(const moe_tensor *const *tensors, void *workspace,
// HEADER-NEXT:                 size_t workspace_bytes);
//      HEADER:size_t f_workspace(int64_t x_in_0);
//      HEADER:size_t f_workspace_packed(const moe_tensor *const *tensors);

// An object and assembly come with a header too; texts for people do not.
// RUN: moe-compile %s -o %t/o.o --target-cpu=x86-64-v3 --target-triple=x86_64-linux-gnu
// RUN: llvm-readobj --file-headers %t/o.o | FileCheck %s --check-prefix=OBJECT
// OBJECT: Format: elf64-x86-64
// RUN: test -f %t/o.h
// RUN: moe-compile %s -o %t/a.s && test -f %t/a.h
// RUN: moe-compile %s -o %t/l.ll && not ls %t/l.h
// RUN: moe-compile %s -o %t/m.mlir && not ls %t/m.h

// RUN: moe-compile %s --emit=llvm | FileCheck %s --check-prefix=LLVM
// LLVM: define {{.*}}i32 @f(ptr
// RUN: moe-compile %s --emit=mlir | FileCheck %s --check-prefix=MLIR
// MLIR: llvm.func @f(
// RUN: moe-compile %s --emit=header -o - | FileCheck %s --check-prefix=STDOUT
// STDOUT: int32_t f(const moe_tensor *x_in,

// A version an instruction set, and one entry, for all machines, that chooses.
// RUN: moe-compile %s --emit=llvm --target-triple=x86_64-linux-gnu | FileCheck %s --check-prefix=VERSIONS
// VERSIONS-DAG: define {{.*}} @f.amx-bf16({{.*}} #[[AMX:[0-9]+]]
// VERSIONS-DAG: attributes #[[AMX]] = { {{.*}}"target-features"="+avx512bf16,+amx-tile,+amx-bf16"
// VERSIONS-DAG: define {{.*}} @f.avx512bf16({{.*}} #[[BF16:[0-9]+]]
// VERSIONS-DAG: define {{.*}} @f.avx512({{.*}} #[[AVX512:[0-9]+]]
// VERSIONS-DAG: define {{.*}} @f.avx2({{.*}} #[[AVX2:[0-9]+]]
// VERSIONS-DAG: attributes #[[BF16]] = { {{.*}}"target-cpu"="x86-64-v4" "target-features"="+avx512bf16"
// VERSIONS-DAG: attributes #[[AVX512]] = { {{.*}}"target-cpu"="x86-64-v4" }
// VERSIONS-DAG: attributes #[[AVX2]] = { {{.*}}"target-cpu"="x86-64-v3" }
// RUN: moe-compile %s --emit=llvm --target-triple=x86_64-linux-gnu --isa=avx2 | FileCheck %s --check-prefix=ONE
// ONE-NOT: @f.avx512
// ONE: define {{.*}} @f.avx2(
// RUN: moe-compile %s --emit=header --isa=avx512,avx2 -o - | FileCheck %s --check-prefix=CHOICE
// CHOICE: It chooses from code for avx512, avx2.

// The cpu decides the instructions; another machine can be compiled for.
// RUN: moe-compile %s --emit=asm --target-triple=x86_64-linux-gnu --target-cpu=x86-64 | FileCheck %s --check-prefix=SSE
// SSE-NOT: {{[yz]}}mm
// RUN: moe-compile %s --emit=asm --target-triple=x86_64-linux-gnu --target-cpu=x86-64-v4 | FileCheck %s --check-prefix=AVX
// AVX: vmulps
// RUN: moe-compile %s --emit=asm --target-triple=aarch64-linux-gnu | FileCheck %s --check-prefix=AARCH64
// AARCH64: ret

// Without optimization the check stays a function.
// RUN: moe-compile %s --emit=llvm -O0 | FileCheck %s --check-prefix=O0
// O0: define internal i32 @moe.check_tensor(

func.func @f(%x: tensor<?x3xf32> {moe.name = "x.in"},
             %w: tensor<3xf32> {moe.param = "weights.*/oops"}) -> tensor<?x3xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x3xf32>
  %t1 = arith.addi %t, %c1 : index
  %t2 = arith.muli %t1, %c2 : index
  %init = tensor.empty(%t2) : tensor<?x3xf32>
  %cleared = linalg.fill ins(%zero : f32) outs(%init : tensor<?x3xf32>) -> tensor<?x3xf32>
  %e = tensor.empty(%t) : tensor<?x3xf32>
  %z = linalg.generic {
      indexing_maps = [affine_map<(t, h) -> (t, h)>, affine_map<(t, h) -> (h)>,
                       affine_map<(t, h) -> (t, h)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%x, %w : tensor<?x3xf32>, tensor<3xf32>) outs(%e : tensor<?x3xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %m = arith.mulf %a, %b : f32
    %s = math.exp %m : f32
    linalg.yield %s : f32
  } -> tensor<?x3xf32>
  %y = tensor.insert_slice %z into %cleared[0, 0] [%t, 3] [1, 1]
      : tensor<?x3xf32> into tensor<?x3xf32>
  return %y : tensor<?x3xf32>
}
