// Where moe-fuse-routing declines: it says why and what to change, and changes nothing.

// RUN: moe-opt %s --split-input-file --moe-fuse-routing --remarks-filter-missed=moe-fuse-routing --verify-diagnostics | FileCheck %s
// CHECK-NOT: moe.route
// CHECK-LABEL: func.func @dispatch(
// CHECK-NOT: moe.plan
// CHECK-NOT: tensor.dim %{{[0-9]}}

#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// A softmax over the tokens.
func.func @softmax_of_tokens(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
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
  // expected-remark @+2 {{Reason="the logits come from 'linalg.softmax', not elementwise from a matmul"}}
  %scores = linalg.softmax dimension(0) ins(%sums : tensor<?x4xf32>) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(none) ins(%scores : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// Somebody else reads the scores.
func.func @softmax_read(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x4xf32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
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
  // expected-remark @+1 {{'func.return' reads the logits too, which moe.route does not store}}
  return %weights, %scores, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x4xf32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// A row-wise norm.
func.func @norm_between(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
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
  %te = tensor.empty(%T) : tensor<?xf32>
  %tz = linalg.fill ins(%zero : f32) outs(%te : tensor<?xf32>) -> tensor<?xf32>
  // expected-remark @+1 {{Reason="'linalg.reduce' between matmul and gate is not elementwise"}}
  %totals = linalg.reduce ins(%sums : tensor<?x4xf32>) outs(%tz : tensor<?xf32>) dimensions = [1]
    (%in: f32, %total: f32) {
      %next = arith.addf %in, %total : f32
      linalg.yield %next : f32
    }
  %logits = linalg.generic {indexing_maps = [#full, #token, #full], iterator_types = ["parallel", "parallel"]}
      ins(%sums, %totals : tensor<?x4xf32>, tensor<?xf32>) outs(%le : tensor<?x4xf32>) {
  ^bb0(%s: f32, %total: f32, %o: f32):
    %share = arith.divf %s, %total : f32
    linalg.yield %share : f32
  } -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%logits : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// Somebody else reads the logits.
func.func @logits_read(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>, tensor<?x4xf32>) {
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
  // expected-remark @+1 {{Reason="'arith.negf' reads the logits too, which moe.route does not store"}}
  %aux = arith.negf %sums : tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2, %aux : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>, tensor<?x4xf32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// A sum in bf16.
func.func @narrow_sum(%x: tensor<?x8xbf16>, %w: tensor<4x8xbf16>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
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
  %zero16 = arith.constant 0.0 : bf16
  %ne = tensor.empty(%T) : tensor<?x4xbf16>
  %nz = linalg.fill ins(%zero16 : bf16) outs(%ne : tensor<?x4xbf16>) -> tensor<?x4xbf16>
  // expected-remark @+1 {{Reason="the router's matmul does not add in f32", Remark="routing is not fused", Suggestion="give it a destination of f32, and round the sums after it"}}
  %narrow = linalg.matmul indexing_maps = [#tk, #ek, #te] ins(%x, %w : tensor<?x8xbf16>, tensor<4x8xbf16>)
      outs(%nz : tensor<?x4xbf16>) -> tensor<?x4xbf16>
  %sums = arith.extf %narrow : tensor<?x4xbf16> to tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// Products that are rounded are other products.
func.func @rounded_products(%x: tensor<?x8xbf16>, %w: tensor<4x8xbf16>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
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
  // expected-remark @+1 {{Reason="the router's reduction is no matmul of tokens and experts"}}
  %sums = linalg.generic {indexing_maps = [#tk, #ek, #te], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %w : tensor<?x8xbf16>, tensor<4x8xbf16>) outs(%lz : tensor<?x4xf32>) {
  ^bb0(%a: bf16, %b: bf16, %s: f32):
    %narrow = arith.mulf %a, %b : bf16
    %product = arith.extf %narrow : bf16 to f32
    %sum = arith.addf %s, %product : f32
    linalg.yield %sum : f32
  } -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// The best choices are kept.
func.func @priority(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %c: index)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
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
  // expected-remark @+1 {{capacity goes by priority, which moe.route has not}}
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) capacity(%c) priority(%weights : tensor<?x2xf32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// Ids that are given.
func.func @table(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %table: tensor<?x2xi32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
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
  // expected-remark @+1 {{the ids are not those of one moe.gate but made by the caller (a block argument)}}
  %p:3 = moe.plan ids(%table : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// Ids of two gates: sparsemixer, and others beyond top-k.
func.func @two_gates(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %w2: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
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
  %k1 = tensor.extract_slice %ids[0, 0] [%T, 1] [1, 1] : tensor<?x2xi32> to tensor<?x1xi32>
  %both = tensor.insert_slice %k1 into %ie[0, 1] [%T, 1] [1, 1] : tensor<?x1xi32> into tensor<?x2xi32>
  // expected-remark @+1 {{the ids are not those of one moe.gate but made by 'tensor.insert_slice'}}
  %p:3 = moe.plan ids(%both : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// A capacity that the ids decide.
func.func @sizes_from_ids(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
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
  %first = tensor.extract %ids[%c0, %c0] : tensor<?x2xi32>
  %cap = arith.index_cast %first : i32 to index
  // expected-remark @+1 {{what moe.plan needs is computed from the ids}}
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) capacity(%cap) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// Every other element of the tokens.
func.func @strided(%x: tensor<?x16xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c0 : tensor<?x16xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  // expected-remark @+1 {{the router's matmul does not multiply tokens by experts}}
  %sums = linalg.generic {indexing_maps = [affine_map<(t, e, k) -> (t, k * 2)>, #ek, #te],
                          iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %w : tensor<?x16xf32>, tensor<4x8xf32>) outs(%lz : tensor<?x4xf32>) {
  ^bb0(%a: f32, %b: f32, %s: f32):
    %product = arith.mulf %a, %b : f32
    %sum = arith.addf %s, %product : f32
    linalg.yield %sum : f32
  } -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// Tokens stored the other way around.
func.func @tokens_turned(%x: tensor<8x?xf32>, %w: tensor<4x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %zero = arith.constant 0.0 : f32
  %T = tensor.dim %x, %c1 : tensor<8x?xf32>
  %M = arith.muli %T, %c2 : index
  %le = tensor.empty(%T) : tensor<?x4xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x4xf32>) -> tensor<?x4xf32>
  %we = tensor.empty(%T) : tensor<?x2xf32>
  %ie = tensor.empty(%T) : tensor<?x2xi32>
  %oe = tensor.empty() : tensor<5xi32>
  %re = tensor.empty(%M) : tensor<?xi32>
  // expected-remark @+1 {{the tokens are K×T}}
  %sums = linalg.matmul indexing_maps = [affine_map<(t, e, k) -> (k, t)>, #ek, #te] ins(%x, %w : tensor<8x?xf32>, tensor<4x8xf32>)
      outs(%lz : tensor<?x4xf32>) -> tensor<?x4xf32>
  %weights, %ids = moe.gate score(softmax) ins(%sums : tensor<?x4xf32>)
      outs(%we, %ie : tensor<?x2xf32>, tensor<?x2xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x2xi32>) outs(%oe, %ie, %re : tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?xi32>
}

// -----
#tk = affine_map<(t, e, k) -> (t, k)>
#ek = affine_map<(t, e, k) -> (e, k)>
#ke = affine_map<(t, e, k) -> (k, e)>
#te = affine_map<(t, e, k) -> (t, e)>
#full = affine_map<(t, e) -> (t, e)>
#token = affine_map<(t, e) -> (t)>
#expert = affine_map<(t, e) -> (e)>
#swap = affine_map<(t, e) -> (e, t)>
// A dispatch that copies rows by priority.
func.func @dispatch(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %c: index)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>) {
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
  %rows = tensor.empty(%M) : tensor<?x8xf32>
  // expected-remark @+1 {{capacity goes by priority, which moe.route has not}}
  %p:3 = moe.dispatch ids(%ids : tensor<?x2xi32>) tokens(%x : tensor<?x8xf32>)
      capacity(%c) priority(%weights : tensor<?x2xf32>)
      outs(%oe, %ie, %rows : tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>)
  return %weights, %ids, %p#0, %p#1, %p#2 : tensor<?x2xf32>, tensor<?x2xi32>, tensor<5xi32>, tensor<?x2xi32>, tensor<?x8xf32>
}
