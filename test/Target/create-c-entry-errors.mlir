// RUN: moe-opt %s --split-input-file --moe-create-c-entry --verify-diagnostics

// expected-error @below {{@f has moe.entry, but takes a 'tensor<4xf32>'; bufferize it with identity layouts first}}
func.func @f(%x: tensor<4xf32>, %y: memref<4xf32>)
    attributes {moe.entry = {results = 1 : i64, shapes = @f.shapes}} {
  return
}
func.func private @f.shapes() -> (i32, index)

// -----

// expected-error @below {{@f has moe.entry, but takes a 'memref<4xf32, strided<[?], offset: ?>>'; bufferize it with identity layouts first}}
func.func @f(%y: memref<4xf32, strided<[?], offset: ?>>)
    attributes {moe.entry = {results = 1 : i64, shapes = @f.shapes}} {
  return
}
func.func private @f.shapes() -> (i32, index)

// -----

// expected-error @below {{@f has moe.entry, but the C interface has no type for 'memref<4xindex>'}}
func.func @f(%y: memref<4xindex>)
    attributes {moe.entry = {results = 1 : i64, shapes = @f.shapes}} {
  return
}
func.func private @f.shapes() -> (i32, index)

// -----

// expected-error @below {{@f has moe.entry, but not the results and shapes that moe-prepare-entry writes}}
func.func @f(%y: memref<4xf32>) attributes {moe.entry = {results = 1 : i64, shapes = @g}} {
  return
}

// -----

// expected-error @below {{@f has moe.entry, but its arguments or results are not those of the entry that moe-prepare-entry prepared}}
func.func @f(%y: memref<4x4xf32>)
    attributes {moe.entry = {results = 1 : i64, shapes = @f.shapes}} {
  return
}
func.func private @f.shapes() -> (i32, index)

// -----

// expected-error @below {{the C interface of @f needs the symbol @f_packed, which another function of the module has}}
func.func @f(%y: memref<4xf32>)
    attributes {moe.entry = {results = 1 : i64, shapes = @f.shapes}} {
  return
}
func.func private @f.shapes() -> (i32, index)
func.func private @f_packed()
