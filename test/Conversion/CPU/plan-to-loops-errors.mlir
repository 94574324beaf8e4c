// RUN: moe-opt %s --moe-plan-to-loops --split-input-file --verify-diagnostics

func.func @capacity(%ids: memref<?x8xi32>, %c: index, %o: memref<65xi32>, %s: memref<?x8xi32>, %r: memref<?xi32>) {
  // expected-error @below {{has a lowering_config, but with a capacity, what a token keeps depends on all tokens before it}}
  moe.plan ids(%ids : memref<?x8xi32>) capacity(%c) outs(%o, %s, %r : memref<65xi32>, memref<?x8xi32>, memref<?xi32>)
      {moe.lowering_config = #moe.cpu_routing<block_tokens = 256>}
  return
}
