// RUN: moe-opt %s --moe-merge-launches --verify-diagnostics

// expected-error @below {{has moe.merge_launches = 1 : i64; it takes true or false}}
func.func @layer() attributes {moe.merge_launches = 1 : i64} {
  return
}
