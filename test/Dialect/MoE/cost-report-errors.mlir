// What is missing or wrong is said, and nothing is written.

// RUN: rm -rf %t && split-file %s %t
// DEFINE: %{options} =
// DEFINE: %{file} = %t/layer.mlir
// DEFINE: %{report} = rm -f %t/out && not moe-opt %{file} --moe-cost-report="%{options} output=%t/out" -o /dev/null \
// DEFINE:     2> %t/errors && FileCheck %s --input-file=%t/errors --check-prefix

// REDEFINE: %{options} = routing=uniform
// RUN: %{report} TOKENS && not ls %t/out
// TOKENS: error: the cost of 'moe.dispatch' depends on a size of tensor<?x2xi32> that is not known; say how many tokens there are, as in tokens=256

// REDEFINE: %{options} = tokens=-2
// RUN: %{report} NEGATIVE
// NEGATIVE: error: tokens=-2 is no number of tokens: 0 to 2^31 - 1

// REDEFINE: %{options} = tokens=6 format=xml
// RUN: %{report} FORMAT
// FORMAT: error: format=xml is neither text nor json

// REDEFINE: %{options} = tokens=6 routing=zipf:fast
// RUN: %{report} ZIPF
// ZIPF: error: routing: the exponent of zipf is 'fast', not a number of at least 0: zipf:1.0

// REDEFINE: %{options} = tokens=6 routing=random
// RUN: %{report} ROUTING
// ROUTING: error: routing: 'random' is no routing: uniform, zipf:EXPONENT or file:PATH

// REDEFINE: %{options} = tokens=6 routing=file:%t/missing
// RUN: %{report} MISSING
// MISSING: error: routing: cannot read '{{.*}}missing': No such file

// REDEFINE: %{options} = tokens=6 routing=file:%t/words.txt
// RUN: %{report} WORDS
// WORDS: error: routing: '{{.*}}words.txt': count 1 is no number of tokens, an integer of 0 to 2^31 - 1

// REDEFINE: %{options} = tokens=6 routing=file:%t/nested.json
// RUN: %{report} NESTED
// NESTED: error: routing: '{{.*}}nested.json': tokens_per_expert has to be an array of integers, one an expert

// REDEFINE: %{options} = tokens=6 routing=file:%t/twice.json
// RUN: %{report} TWICE
// TWICE: error: routing: JSON error at byte 52: the name 'tokens_per_expert' is given twice

// REDEFINE: %{options} = tokens=6 routing=file:%t/other.json
// RUN: %{report} OTHER
// OTHER: error: routing: '{{.*}}other.json' has no member 'tokens_per_expert', an array of integers, one an expert

// REDEFINE: %{options} = tokens=6 routing=file:%t/layers.json
// RUN: %{report} LAYERS
// LAYERS: error: routing: '{{.*}}layers.json' has statistics of 2 layers; write the counts of one of them to a file, as an array of integers

// REDEFINE: %{options} = tokens=6 routing=file:%t/two.json
// RUN: %{report} EXPERTS
// EXPERTS: error: the cost of 'moe.dispatch' cannot be told: 'file:{{.*}}two.json' has counts of 2 experts, but the layer has 3

// REDEFINE: %{options} = tokens=6 routing=file:%t/many.json
// RUN: %{report} MANY
// MANY: error: the cost of 'moe.dispatch' cannot be told: 'file:{{.*}}many.json' counts 13 rows, but 6 tokens make 2 choices each: 12

// REDEFINE: %{file} = %t/static.mlir
// REDEFINE: %{options} = tokens=7
// RUN: %{report} STATIC
// STATIC: error: the cost of 'moe.plan' is for 6 tokens, as the layer says, but tokens=7 was asked; leave that out

// REDEFINE: %{file} = %t/buffers.mlir
// REDEFINE: %{options} = tokens=6
// RUN: %{report} BUFFERS
// BUFFERS: error: the cost of 'moe.plan' is only told on tensors; run the report before bufferization

//--- words.txt
3 many
//--- nested.json
[[1], 2, 3]
//--- twice.json
{"tokens_per_expert": [1, 2, 3], "tokens_per_expert": [1, 2, 3]}
//--- other.json
{"tokens": [1, 2, 3]}
//--- layers.json
{"layers": [{"tokens": [1, 2, 3]}, {"tokens": [1, 2, 3]}]}
//--- two.json
[1, 2]
//--- many.json
[1, 2, 10]
//--- layer.mlir
func.func @layer(%ids: tensor<?x2xi32>, %x: tensor<?x2xf32>, %o: tensor<4xi32>, %s: tensor<?x2xi32>,
    %r: tensor<?x2xf32>) -> tensor<?x2xf32> {
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x2xf32>)
      outs(%o, %s, %r : tensor<4xi32>, tensor<?x2xi32>, tensor<?x2xf32>)
  return %rows : tensor<?x2xf32>
}
//--- static.mlir
func.func @layer(%ids: tensor<6x1xi32>, %o: tensor<4xi32>, %s: tensor<6x1xi32>, %r: tensor<6xi32>) -> tensor<4xi32> {
  %offsets, %slots, %source = moe.plan ids(%ids : tensor<6x1xi32>)
      outs(%o, %s, %r : tensor<4xi32>, tensor<6x1xi32>, tensor<6xi32>)
  return %offsets : tensor<4xi32>
}
//--- buffers.mlir
func.func @layer(%ids: memref<?x1xi32>, %o: memref<4xi32>, %s: memref<?x1xi32>, %r: memref<?xi32>) {
  moe.plan ids(%ids : memref<?x1xi32>) outs(%o, %s, %r : memref<4xi32>, memref<?x1xi32>, memref<?xi32>)
  return
}
