// RUN: moe-opt %s --moe-gate-to-vector --split-input-file --verify-diagnostics

func.func @many_experts(%logits: memref<?x1000xf32>, %weights: memref<?x8xf32>, %ids: memref<?x8xi32>) {
  // expected-error @below {{has a lowering_config, but registers rank at most 512 experts, not 1000}}
  moe.gate score(softmax) ins(%logits : memref<?x1000xf32>) outs(%weights, %ids : memref<?x8xf32>, memref<?x8xi32>)
      {moe.lowering_config = #moe.cpu_routing<block_tokens = 32>}
  return
}

// -----

func.func @many_choices(%logits: memref<?x100xf32>, %weights: memref<?x65xf32>, %ids: memref<?x65xi32>) {
  // expected-error @below {{has a lowering_config, but registers hold at most 64 weights, not 65}}
  moe.gate score(softmax) ins(%logits : memref<?x100xf32>) outs(%weights, %ids : memref<?x65xf32>, memref<?x65xi32>)
      {moe.lowering_config = #moe.cpu_routing<block_tokens = 32>}
  return
}
