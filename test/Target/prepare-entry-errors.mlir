// RUN: moe-opt %s --split-input-file --moe-prepare-entry --verify-diagnostics

// expected-error @below {{there is no public function with a body to compile}}
module {
  func.func private @f(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
}

// -----

// expected-error @below {{there are 2 public functions; name the one to compile: @f, @g}}
module {
  func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
  func.func @g(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
}

// -----

// expected-error @below {{argument 1 of @f is a 'f32', but an entry function takes and returns ranked tensors only}}
func.func @f(%x: tensor<4xf32>, %s: f32) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

// expected-error @below {{argument 0 of @f is a 'tensor<*xf32>', but an entry function takes and returns ranked tensors only}}
func.func @f(%x: tensor<*xf32>) -> tensor<*xf32> {
  return %x : tensor<*xf32>
}

// -----

// expected-error @below {{argument 0 of @f is a 'tensor<4xui8>', but the element types of an entry function are f64, f32, f16, bf16, i64, i32, i16, i8 and i1}}
func.func @f(%x: tensor<4xui8>) -> tensor<4xui8> {
  return %x : tensor<4xui8>
}

// -----

// expected-error @below {{result 0 of @f is a 'tensor<4xindex>', but the element types}}
func.func @f() -> tensor<4xindex> {
  %y = tensor.empty() : tensor<4xindex>
  return %y : tensor<4xindex>
}

// -----

// expected-error @below {{argument 0 of @f is a 'tensor<4xf32, "sparse">', but an entry function takes tensors without encoding only}}
func.func @f(%x: tensor<4xf32, "sparse">) -> tensor<4xf32, "sparse"> {
  return %x : tensor<4xf32, "sparse">
}

// -----

// expected-error @below {{@f returns nothing that a caller could read}}
func.func @f(%x: tensor<4xf32>) {
  return
}

// -----

// expected-error @below {{two arguments or results of @f have the name 'x'; give one another moe.name}}
func.func @f(%a: tensor<4xf32> {moe.name = "x"}) -> (tensor<4xf32> {moe.name = "x"}) {
  return %a : tensor<4xf32>
}

// -----

// expected-error @below {{@f is called by another function of the module; give that function a callee of its own}}
func.func @f(%a: tensor<4xf32>) -> tensor<4xf32> {
  return %a : tensor<4xf32>
}
func.func private @g(%a: tensor<4xf32>) -> tensor<4xf32> {
  %b = func.call @f(%a) : (tensor<4xf32>) -> tensor<4xf32>
  return %b : tensor<4xf32>
}

// -----

// expected-error @below {{@f has 2 blocks; an entry function has one: write its control flow with scf}}
func.func @f(%a: tensor<4xf32>) -> tensor<4xf32> {
  cf.br ^next
^next:
  return %a : tensor<4xf32>
}

// -----

// expected-error @below {{@f needs the symbol @f.body, which is taken}}
func.func @f(%a: tensor<4xf32>) -> tensor<4xf32> {
  return %a : tensor<4xf32>
}
func.func private @f.body(%a: tensor<4xf32>) -> tensor<4xf32>

// -----

// expected-error @below {{@f is prepared as an entry already}}
func.func @f(%a: tensor<4xf32>) -> tensor<4xf32> attributes {moe.entry = {}} {
  return %a : tensor<4xf32>
}
