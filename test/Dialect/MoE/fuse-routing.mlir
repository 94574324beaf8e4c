// Router matmul, elementwise work, gate and plan become one moe.route, for the routers of the model
// families. Where the pass declines: fuse-routing-missed.mlir.

// RUN: moe-opt %s --moe-fuse-routing --canonicalize | FileCheck %s

#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>

// Logits that are rounded, as those of a linear layer are.
// CHECK-LABEL: func @mixtral
func.func @mixtral(%x: tensor<?x8xbf16>, %w: tensor<4x8xbf16>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK-NOT: {{moe.gate|moe.plan|linalg.matmul}}
  // CHECK: moe.route score(softmax) renormalize<> router(%arg0[t, k] * %arg1[e, k] : tensor<?x8xbf16>, tensor<4x8xbf16>)
  // CHECK-SAME: outs({{.*}} : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) logits {
  // CHECK-NEXT: ^bb0(%[[SUM:.*]]: f32):
  // CHECK-NEXT: %[[N:.*]] = arith.truncf %[[SUM]] : f32 to bf16
  // CHECK-NEXT: %[[L:.*]] = arith.extf %[[N]] : bf16 to f32
  // CHECK-NEXT: moe.yield %[[L]] : f32
  // CHECK-NEXT: }
  // CHECK-NEXT: return %weights, %ids, %offsets, %slots, %source
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xbf16>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xbf16>, tensor<4x8xbf16>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %narrow = arith.truncf %sums : tensor<?x4xf32> to tensor<?x4xbf16>
  %logits = arith.extf %narrow : tensor<?x4xbf16> to tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) renormalize<> ins(%logits : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// The weights are rounded as well.
// CHECK-LABEL: func @olmoe
func.func @olmoe(%x: tensor<?x8xbf16>, %w: tensor<4x8xbf16>)
    -> (tensor<?x2xbf16>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(softmax) router(
  // CHECK-SAME: outs({{.*}} : tensor<?x2xbf16>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) logits {
  // CHECK: } weights {
  // CHECK-NEXT: ^bb0(%[[W:.*]]: f32):
  // CHECK-NEXT: %[[S:.*]] = arith.truncf %[[W]] : f32 to bf16
  // CHECK-NEXT: moe.yield %[[S]] : bf16
  // CHECK-NOT: {{moe.gate|moe.plan|linalg.matmul}}
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xbf16>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xbf16>, tensor<4x8xbf16>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %narrow = arith.truncf %sums : tensor<?x4xf32> to tensor<?x4xbf16>
  %logits = arith.extf %narrow : tensor<?x4xbf16> to tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %stored = arith.truncf %weights : tensor<?x2xf32> to tensor<?x2xbf16>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %stored, %ids, %p#0, %p#1, %p#2 : tensor<?x2xbf16>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// Nothing between matmul and gate: no region.
// CHECK-LABEL: func @deepseek
func.func @deepseek(%x: tensor<?x8xbf16>, %w: tensor<4x8xbf16>, %b: tensor<4xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(sigmoid) groups<count = 2, keep = 1, score = top2_sum> renormalize<eps = 9.99999968E-21 : f32> scale(2.500000e+00)
  // CHECK-SAME: router(%arg0[t, k] * %arg1[e, k] : tensor<?x8xbf16>, tensor<4x8xbf16>) bias(%arg2 : tensor<4xf32>) outs({{.*}} tensor<?xi32>){{$}}
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xbf16>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xbf16>, tensor<4x8xbf16>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(sigmoid) groups<count = 2, keep = 1, score = top2_sum> renormalize<eps = 1.0e-20 : f32> scale(2.5) ins(%sums : tensor<?x4xf32>) bias(%b : tensor<4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// A bias of the router is an extra, before its broadcast.
// CHECK-LABEL: func @gpt_oss
func.func @gpt_oss(%x: tensor<?x8xbf16>, %w: tensor<4x8xbf16>, %b: tensor<4xbf16>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(softmax) scope(selected) router(
  // CHECK-SAME: extras(%arg2[e] : tensor<4xbf16>) outs({{.*}}) logits {
  // CHECK-NEXT: ^bb0(%[[SUM:.*]]: f32, %[[B:.*]]: bf16):
  // CHECK-NEXT: %[[WIDE:.*]] = arith.extf %[[B]]
  // CHECK-NEXT: %[[L:.*]] = arith.addf %[[SUM]], %[[WIDE]] : f32
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xbf16>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xbf16>, tensor<4x8xbf16>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %be = tensor.empty(%T) : tensor<?x4xbf16>
  %br = linalg.broadcast ins(%b : tensor<4xbf16>) outs(%be : tensor<?x4xbf16>) dimensions = [0]
  %bx = arith.extf %br : tensor<?x4xbf16> to tensor<?x4xf32>
  %biased = arith.addf %sums, %bx : tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) scope(selected) ins(%biased : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// The same in linalg.generic.
// CHECK-LABEL: func @bias_in_generic
func.func @bias_in_generic(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %b: tensor<4xbf16>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(softmax) router({{.*}}) extras(%arg2[e] : tensor<4xbf16>) outs({{.*}}) logits {
  // CHECK-NEXT: ^bb0(%[[SUM:.*]]: f32, %[[B:.*]]: bf16):
  // CHECK-NEXT: %[[WIDE:.*]] = arith.extf %[[B]]
  // CHECK-NEXT: %[[L:.*]] = arith.addf %[[SUM]], %[[WIDE]] : f32
  // CHECK-NEXT: moe.yield %[[L]] : f32
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %logits = linalg.generic {indexing_maps = [#full, #expert, #full], iterator_types = ["parallel", "parallel"]}
      ins(%sums, %b : tensor<?x4xf32>, tensor<4xbf16>) outs(%le : tensor<?x4xf32>) {
  ^bb0(%s: f32, %eb: bf16, %o: f32):
    %wide = arith.extf %eb : bf16 to f32
    %sum = arith.addf %s, %wide : f32
    linalg.yield %sum : f32
  } -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// What the matmul starts from is added after the sum.
// CHECK-LABEL: func @starts_from_bias
func.func @starts_from_bias(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %b: tensor<4xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route {{.*}} extras(%arg2[e] : tensor<4xf32>)
  // CHECK-NEXT: ^bb0(%[[SUM:.*]]: f32, %[[B:.*]]: f32):
  // CHECK-NEXT: arith.addf %[[SUM]], %[[B]] : f32
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %start = linalg.broadcast ins(%b : tensor<4xf32>) outs(%le : tensor<?x4xf32>) dimensions = [0]
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%start : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// Constants come along; any scalar function will do.
// CHECK-LABEL: func @soft_cap
func.func @soft_cap(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: %[[C:.*]] = arith.constant 3.000000e+01 : f32
  // CHECK: moe.route score(softmax) router({{.*}}) outs({{.*}}) logits {
  // CHECK-NEXT: ^bb0(%[[SUM:.*]]: f32):
  // CHECK-NEXT: %[[Q:.*]] = arith.divf %[[SUM]], %[[C]]
  // CHECK-NEXT: %[[H:.*]] = math.tanh %[[Q]]
  // CHECK-NEXT: %[[L:.*]] = arith.mulf %[[H]], %[[C]]
  // CHECK-NEXT: moe.yield %[[L]] : f32
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %cap = arith.constant dense<30.0> : tensor<4xf32>
  %capt = tensor.empty(%T) : tensor<?x4xf32>
  %caps = linalg.broadcast ins(%cap : tensor<4xf32>) outs(%capt : tensor<?x4xf32>) dimensions = [0]
  %scaled = arith.divf %sums, %caps : tensor<?x4xf32>
  %tanh = math.tanh %scaled : tensor<?x4xf32>
  %logits = arith.mulf %tanh, %caps : tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// Scalars are used from where they are.
// CHECK-LABEL: func @temperature
func.func @temperature(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %temperature: f32)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route
  // CHECK: arith.mulf %{{.*}}, %arg2 : f32
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %temperatures = linalg.fill ins(%temperature : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %logits = arith.mulf %sums, %temperatures : tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// Gemma 4: a scale of the chosen expert, gathered by id.
// CHECK-LABEL: func @expert_scale
func.func @expert_scale(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %s: tensor<4xf32>)
    -> (tensor<?x2xbf16>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route {{.*}} weight_extras(%arg2[e] : tensor<4xf32>) outs({{.*}}) weights {
  // CHECK-NEXT: ^bb0(%[[W:.*]]: f32, %[[S:.*]]: f32):
  // CHECK-NEXT: %[[P:.*]] = arith.mulf %[[W]], %[[S]]
  // CHECK-NEXT: %[[R:.*]] = arith.truncf %[[P]] : f32 to bf16
  // CHECK-NEXT: moe.yield %[[R]] : bf16
  // CHECK-NOT: linalg.generic
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) renormalize<> ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %scales = linalg.generic {indexing_maps = [#full, #full], iterator_types = ["parallel", "parallel"]}
      ins(%ids : tensor<?x2xi32>) outs(%we : tensor<?x2xf32>) {
  ^bb0(%id: i32, %o: f32):
    %i = arith.index_cast %id : i32 to index
    %v = tensor.extract %s[%i] : tensor<4xf32>
    linalg.yield %v : f32
  } -> tensor<?x2xf32>
  %scaled = arith.mulf %weights, %scales : tensor<?x2xf32>
  %stored = arith.truncf %scaled : tensor<?x2xf32> to tensor<?x2xbf16>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %stored, %ids, %p#0, %p#1, %p#2 : tensor<?x2xbf16>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// The same in one operation, and a factor of each choice.
// CHECK-LABEL: func @expert_scale_in_one
func.func @expert_scale_in_one(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %s: tensor<4xf32>, %m: tensor<?x2xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route {{.*}} weight_extras(%arg2[e], %arg3[t, j] : tensor<4xf32>, tensor<?x2xf32>)
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %scaled = linalg.generic {indexing_maps = [#full, #full, #full, #full], iterator_types = ["parallel", "parallel"]}
      ins(%weights, %ids, %m : tensor<?x2xf32>, tensor<?x2xi32>, tensor<?x2xf32>) outs(%we : tensor<?x2xf32>) {
  ^bb0(%weight: f32, %id: i32, %choice: f32, %o: f32):
    %i = arith.index_cast %id : i32 to index
    %v = tensor.extract %s[%i] : tensor<4xf32>
    %product = arith.mulf %weight, %v : f32
    %masked = arith.mulf %product, %choice : f32
    linalg.yield %masked : f32
  } -> tensor<?x2xf32>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %scaled, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// The mix is the second result of the logits region.
// CHECK-LABEL: func @mix
func.func @mix(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %b: tensor<4xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(none)
  // CHECK-NEXT: ^bb0(%[[SUM:.*]]: f32, %[[B:.*]]: f32):
  // CHECK-NEXT: %[[L:.*]] = arith.addf %[[SUM]], %[[B]]
  // CHECK-NEXT: moe.yield %[[L]], %[[SUM]] : f32, f32
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %biased = linalg.generic {indexing_maps = [#full, #expert, #full], iterator_types = ["parallel", "parallel"]}
      ins(%sums, %b : tensor<?x4xf32>, tensor<4xf32>) outs(%le : tensor<?x4xf32>) {
  ^bb0(%s: f32, %eb: f32, %o: f32):
    %sum = arith.addf %s, %eb : f32
    linalg.yield %sum : f32
  } -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(none) ins(%biased : tensor<?x4xf32>) mix(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// Noise from a second router, which is computed before.
// CHECK-LABEL: func @two_matmuls
func.func @two_matmuls(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %w2: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: %[[NOISE:.*]] = linalg.matmul
  // CHECK: moe.route score(softmax) router(%arg0[t, k] * %arg1[e, k] : {{.*}}) extras(%[[NOISE]][t, e] : tensor<?x4xf32>)
  // CHECK: ^bb0(%[[SUM:.*]]: f32, %[[N:.*]]: f32):
  // CHECK-NEXT: %[[L:.*]] = arith.addf %[[SUM]], %[[N]]
  // CHECK-NEXT: moe.yield %[[L]] : f32
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %noise = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w2 : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %logits = arith.addf %sums, %noise : tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// Weights from a second router.
// CHECK-LABEL: func @mix_of_another
func.func @mix_of_another(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %w2: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: %[[MIX:.*]] = linalg.matmul
  // CHECK: moe.route score(softmax) router(%arg0[t, k] * %arg1[e, k] : {{.*}}) extras(%[[MIX]][t, e] : tensor<?x4xf32>)
  // CHECK: ^bb0(%[[SUM:.*]]: f32, %[[M:.*]]: f32):
  // CHECK-NEXT: moe.yield %[[SUM]], %[[M]] : f32, f32
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %mix = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w2 : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>) mix(%mix : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// A softmax before the gate is its score.
// CHECK-LABEL: func @softmax_outside
func.func @softmax_outside(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK-NOT: linalg.softmax
  // CHECK: moe.route score(softmax) router(%arg0[t, k] * %arg1[e, k] :
  // CHECK-NOT: linalg.softmax
  // CHECK: return
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %scores = linalg.softmax dimension(1) ins(%sums : tensor<?x4xf32>) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(none) ins(%scores : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// The same, written out, on logits with a bias.
// CHECK-LABEL: func @explicit_softmax
func.func @explicit_softmax(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %b: tensor<4xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK-NOT: linalg.reduce
  // CHECK: moe.route score(softmax) router(%arg0[t, k] * %arg1[e, k] : {{.*}}) extras(%arg2[e] :
  // CHECK: %[[L:.*]] = arith.addf
  // CHECK-NEXT: moe.yield %[[L]] : f32
  // CHECK-NOT: linalg.reduce
  // CHECK: return
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %biased = linalg.generic {indexing_maps = [#full, #expert, #full], iterator_types = ["parallel", "parallel"]}
      ins(%sums, %b : tensor<?x4xf32>, tensor<4xf32>) outs(%le : tensor<?x4xf32>) {
  ^bb0(%s: f32, %eb: f32, %o: f32):
    %logit = arith.addf %s, %eb : f32
    linalg.yield %logit : f32
  } -> tensor<?x4xf32>
  %lowest = arith.constant 0xFF800000 : f32
  %te = tensor.empty(%T) : tensor<?xf32>
  %tl = linalg.fill ins(%lowest : f32) outs(%te : tensor<?xf32>) -> tensor<?xf32>
  %tz = linalg.fill ins(%zero : f32) outs(%te : tensor<?xf32>) -> tensor<?xf32>
  %max = linalg.reduce { arith.maximumf } ins(%biased : tensor<?x4xf32>) outs(%tl : tensor<?xf32>) dimensions = [1]
  %wide_max = linalg.broadcast ins(%max : tensor<?xf32>) outs(%le : tensor<?x4xf32>) dimensions = [1]
  %less = arith.subf %biased, %wide_max : tensor<?x4xf32>
  %exp = math.exp %less : tensor<?x4xf32>
  %total = linalg.reduce { arith.addf } ins(%exp : tensor<?x4xf32>) outs(%tz : tensor<?xf32>) dimensions = [1]
  %scores = linalg.generic {indexing_maps = [#full, #token, #full], iterator_types = ["parallel", "parallel"]}
      ins(%exp, %total : tensor<?x4xf32>, tensor<?xf32>) outs(%le : tensor<?x4xf32>) {
  ^bb0(%e: f32, %t: f32, %o: f32):
    %share = arith.divf %e, %t : f32
    linalg.yield %share : f32
  } -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(none) ins(%scores : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// K×E
// CHECK-LABEL: func @expert_minor
func.func @expert_minor(%x: tensor<?x8xf32>, %w: tensor<8x4xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(softmax) router(%arg0[t, k] * %arg1[k, e] : tensor<?x8xf32>, tensor<8x4xf32>)
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ke, #te] ins(%x, %w : tensor<?x8xf32>, tensor<8x4xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// Transposes and extensions are read through, factors may be in any order.
// CHECK-LABEL: func @transposed
func.func @transposed(%x: tensor<?x8xbf16>, %w: tensor<4x8xbf16>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(softmax) router(%arg0[t, k] * %arg1[e, k] : tensor<?x8xbf16>, tensor<4x8xbf16>)
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xbf16>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %xw = arith.extf %x : tensor<?x8xbf16> to tensor<?x8xf32>
  %te = tensor.empty() : tensor<8x4xbf16>
  %turned = linalg.transpose ins(%w : tensor<4x8xbf16>) outs(%te : tensor<8x4xbf16>) permutation = [1, 0]
  %ww = arith.extf %turned : tensor<8x4xbf16> to tensor<8x4xf32>
  %sums = linalg.generic {indexing_maps = [#ke, #tk, #te], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%ww, %xw : tensor<8x4xf32>, tensor<?x8xf32>) outs(%lz : tensor<?x4xf32>) {
  ^bb0(%a: f32, %b: f32, %s: f32):
    %product = arith.mulf %b, %a : f32
    %sum = arith.addf %s, %product : f32
    linalg.yield %sum : f32
  } -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// What the plan needs moves before the gate.
// CHECK-LABEL: func @capacity
func.func @capacity(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %c: index)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK-DAG: %[[CAP:.*]] = arith.muli %arg2, %c2
  // CHECK: moe.route {{.*}} capacity(%[[CAP]]) order(choice_major) tokens_per_group(%{{.*}})
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %cap = arith.muli %c, %c2 : index
  %group = tensor.dim %ids, %c0 : tensor<?x2xi32>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) capacity(%cap) order(choice_major) tokens_per_group(%group) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// Weights with two readers are stored as they are.
// CHECK-LABEL: func @weights_read_twice
func.func @weights_read_twice(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>, tensor<?x2xf32>) {
  // CHECK: %weights, %ids, %offsets, %slots, %source = moe.route {{.*}}tensor<?xi32>){{$}}
  // CHECK-DAG: arith.addf %weights, %weights
  // CHECK-DAG: arith.negf %weights
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %doubled = arith.addf %weights, %weights : tensor<?x2xf32>
  %also = arith.negf %weights : tensor<?x2xf32>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %doubled, %ids, %p#0, %p#1, %p#2, %also : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>, tensor<?x2xf32>
}

// The weights divided by their sum, in any elementwise form.
// CHECK-LABEL: func @renormalized_outside
func.func @renormalized_outside(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(softmax) renormalize<> router
  // CHECK-SAME: tensor<?xi32>){{$}}
  // CHECK-NOT: linalg
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %te = tensor.empty(%T) : tensor<?xf32>
  %tz = linalg.fill ins(%zero : f32) outs(%te : tensor<?xf32>) -> tensor<?xf32>
  %totals = linalg.reduce { arith.addf } ins(%weights : tensor<?x2xf32>) outs(%tz : tensor<?xf32>) dimensions = [1]
  %shares = linalg.generic {indexing_maps = [#full, #token, #full], iterator_types = ["parallel", "parallel"]}
      ins(%weights, %totals : tensor<?x2xf32>, tensor<?xf32>) outs(%we : tensor<?x2xf32>) {
  ^bb0(%weight: f32, %total: f32, %o: f32):
    %share = arith.divf %weight, %total : f32
    linalg.yield %share : f32
  } -> tensor<?x2xf32>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %shares, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// With an epsilon that is added to the sums, whole tensors, and a factor behind.
// CHECK-LABEL: func @renormalized_with_epsilon
func.func @renormalized_with_epsilon(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(sigmoid) renormalize<eps = 1.250000e-01 : f32> router
  // CHECK-NEXT: ^bb0(%[[W:.*]]: f32):
  // CHECK-NEXT: %[[R:.*]] = arith.mulf %[[W]], %{{.*}} : f32
  // CHECK-NEXT: moe.yield %[[R]] : f32
  // CHECK-NOT: linalg
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(sigmoid) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %te = tensor.empty(%T) : tensor<?xf32>
  %tz = linalg.fill ins(%zero : f32) outs(%te : tensor<?xf32>) -> tensor<?xf32>
  %totals = linalg.reduce { arith.addf } ins(%weights : tensor<?x2xf32>) outs(%tz : tensor<?xf32>) dimensions = [1]
  %eps = arith.constant 0.125 : f32
  %epsilons = tensor.splat %eps[%T] : tensor<?xf32>
  %more = arith.addf %totals, %epsilons : tensor<?xf32>
  %wide = linalg.broadcast ins(%more : tensor<?xf32>) outs(%we : tensor<?x2xf32>) dimensions = [1]
  %shares = arith.divf %weights, %wide : tensor<?x2xf32>
  %factor = arith.constant 2.5 : f32
  %factors = tensor.splat %factor[%T] : tensor<?x2xf32>
  %scaled = arith.mulf %shares, %factors : tensor<?x2xf32>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %scaled, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// A lower bound of the sums.
// CHECK-LABEL: func @renormalized_with_bound
func.func @renormalized_with_bound(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(sigmoid) renormalize<eps = 2.500000e-01 : f32, mode = clamp> router
  // CHECK-NOT: linalg
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(sigmoid) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %te = tensor.empty(%T) : tensor<?xf32>
  %tz = linalg.fill ins(%zero : f32) outs(%te : tensor<?xf32>) -> tensor<?xf32>
  %totals = linalg.reduce { arith.addf } ins(%weights : tensor<?x2xf32>) outs(%tz : tensor<?xf32>) dimensions = [1]
  %least = arith.constant 0.25 : f32
  %shares = linalg.generic {indexing_maps = [#full, #token, #full], iterator_types = ["parallel", "parallel"]}
      ins(%weights, %totals : tensor<?x2xf32>, tensor<?xf32>) outs(%we : tensor<?x2xf32>) {
  ^bb0(%weight: f32, %total: f32, %o: f32):
    %bounded = arith.maximumf %least, %total : f32
    %share = arith.divf %weight, %bounded : f32
    linalg.yield %share : f32
  } -> tensor<?x2xf32>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %shares, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// The gate has a scale, which renormalization comes before; and more than a quotient is computed from the
// sums. Both stay behind the op, as other row-wise work does.
// CHECK-LABEL: func @renormalized_after_scale
func.func @renormalized_after_scale(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(softmax) scale(2.000000e+00) router
  // CHECK: linalg.reduce
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) scale(2.0) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %te = tensor.empty(%T) : tensor<?xf32>
  %tz = linalg.fill ins(%zero : f32) outs(%te : tensor<?xf32>) -> tensor<?xf32>
  %totals = linalg.reduce { arith.addf } ins(%weights : tensor<?x2xf32>) outs(%tz : tensor<?xf32>) dimensions = [1]
  %wide = linalg.broadcast ins(%totals : tensor<?xf32>) outs(%we : tensor<?x2xf32>) dimensions = [1]
  %shares = arith.divf %weights, %wide : tensor<?x2xf32>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %shares, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// CHECK-LABEL: func @other_row_wise_work
func.func @other_row_wise_work(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  // CHECK: moe.route score(softmax) router
  // CHECK: linalg.reduce
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %te = tensor.empty(%T) : tensor<?xf32>
  %tz = linalg.fill ins(%zero : f32) outs(%te : tensor<?xf32>) -> tensor<?xf32>
  %totals = linalg.reduce { arith.addf } ins(%weights : tensor<?x2xf32>) outs(%tz : tensor<?xf32>) dimensions = [1]
  %roots = math.sqrt %totals : tensor<?xf32>
  %wide = linalg.broadcast ins(%roots : tensor<?xf32>) outs(%we : tensor<?x2xf32>) dimensions = [1]
  %shares = arith.divf %weights, %wide : tensor<?x2xf32>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %shares, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// The weights themselves are a result, too.
// CHECK-LABEL: func @renormalized_and_not
func.func @renormalized_and_not(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>, tensor<?x2xf32>) {
  // CHECK: moe.route score(softmax) router
  // CHECK: linalg.reduce
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %te = tensor.empty(%T) : tensor<?xf32>
  %tz = linalg.fill ins(%zero : f32) outs(%te : tensor<?xf32>) -> tensor<?xf32>
  %totals = linalg.reduce { arith.addf } ins(%weights : tensor<?x2xf32>) outs(%tz : tensor<?xf32>) dimensions = [1]
  %wide = linalg.broadcast ins(%totals : tensor<?xf32>) outs(%we : tensor<?x2xf32>) dimensions = [1]
  %shares = arith.divf %weights, %wide : tensor<?x2xf32>
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %shares, %ids, %p#0, %p#1, %p#2, %weights : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>, tensor<?x2xf32>
}

// A dispatch of which rows are read goes on copying them, of the route's ids.
// CHECK-LABEL: func @dispatch
func.func @dispatch(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %payload: tensor<?x2xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xf32>) {
  // CHECK: %[[W:.*]], %[[IDS:.*]], %[[O:.*]], %[[S:.*]], %{{.*}} = moe.route
  // CHECK-SAME: tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  // CHECK: %{{.*}}, %{{.*}}, %[[ROWS:.*]] = moe.dispatch ids(%[[IDS]] :
  // CHECK: return %[[W]], %[[IDS]], %[[O]], %[[S]], %[[ROWS]] :
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %sums = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %re = tensor.empty(%M) : tensor<?xf32>
  %d:3 = moe.dispatch ids(%ids : tensor<?x2xi32>) choices(%payload : tensor<?x2xf32>)
      outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xf32>)
  return %weights, %ids, %d#0, %d#1, %d#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xf32>
}
