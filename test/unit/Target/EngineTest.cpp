//===- EngineTest.cpp - Tests of the JIT ------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/Engine.h"
#include "TargetTest.h"
#include <cmath>
#include <csignal>
#include <cstring>
#include <sys/wait.h>
#include <vector>

using namespace mlir;
using namespace mlir::moe;

namespace {

/// y = exp(a) + b, concatenated with itself along the rows; and the sum of a.
constexpr llvm::StringLiteral kText = R"(
  func.func @f(%a: tensor<?x3xf32> {moe.name = "a"}, %b: tensor<?x3xf32> {moe.name = "b"})
      -> (tensor<?x3xf32>, tensor<f32> {moe.name = "sum"}) {
    %c0 = arith.constant 0 : index
    %c2 = arith.constant 2 : index
    %zero = arith.constant 0.0 : f32
    %t = tensor.dim %a, %c0 : tensor<?x3xf32>
    %t2 = arith.muli %t, %c2 : index
    %e = math.exp %a : tensor<?x3xf32>
    %s = arith.addf %e, %b : tensor<?x3xf32>
    %y0 = tensor.empty(%t2) : tensor<?x3xf32>
    %y1 = tensor.insert_slice %s into %y0[0, 0] [%t, 3] [1, 1]
        : tensor<?x3xf32> into tensor<?x3xf32>
    %y2 = tensor.insert_slice %s into %y1[%t, 0] [%t, 3] [1, 1]
        : tensor<?x3xf32> into tensor<?x3xf32>
    %sum0 = tensor.empty() : tensor<f32>
    %sum1 = linalg.fill ins(%zero : f32) outs(%sum0 : tensor<f32>) -> tensor<f32>
    %sum = linalg.generic {
        indexing_maps = [affine_map<(t, h) -> (t, h)>, affine_map<(t, h) -> ()>],
        iterator_types = ["reduction", "reduction"]}
        ins(%a : tensor<?x3xf32>) outs(%sum1 : tensor<f32>) {
    ^bb0(%x: f32, %acc: f32):
      %next = arith.addf %acc, %x : f32
      linalg.yield %next : f32
    } -> tensor<f32>
    return %y2, %sum : tensor<?x3xf32>, tensor<f32>
  })";

class EngineTest : public TargetTest {
protected:
  void compile(StringRef text, CodeGenOptions options = {}) {
    module = parse(text);
    ASSERT_TRUE(module);
    EntryOptions entry;
    entry.exportShapes = true;
    StageDumper stages;
    FailureOr<EntrySignature> signature =
        lowerToLLVMDialect(*module, entry, stages);
    ASSERT_TRUE(succeeded(signature)) << diagnostics;
    auto created = Engine::create(*module, *signature, options);
    ASSERT_TRUE(bool(created)) << textOf(created.takeError());
    engine = std::move(*created);
  }

  static moe_tensor makeTensor(std::vector<float> &data,
                               ArrayRef<int64_t> shape) {
    return {data.data(), shape.data(), nullptr,
            static_cast<int32_t>(shape.size()), MOE_F32};
  }

  OwningOpRef<ModuleOp> module;
  std::unique_ptr<Engine> engine;
};

class EngineLevelTest : public EngineTest,
                        public ::testing::WithParamInterface<unsigned> {};

TEST_P(EngineLevelTest, computesShapesAndValues) {
  CodeGenOptions options;
  options.optLevel = GetParam();
  ASSERT_NO_FATAL_FAILURE(compile(kText, options));
  EXPECT_GT(engine->getCompileSeconds(), 0.0);

  std::vector<float> a = {0, 1, 2, -1, -2, 0.5f}, b = {1, 2, 3, 4, 5, 6};
  int64_t shape[] = {2, 3};
  moe_tensor ta = makeTensor(a, shape), tb = makeTensor(b, shape);
  SmallVector<SmallVector<int64_t>> shapes;
  ASSERT_EQ(textOf(engine->inferResultShapes({&ta, &tb}, shapes)), "");
  ASSERT_EQ(shapes.size(), 2u);
  EXPECT_EQ(shapes[0], (SmallVector<int64_t>{4, 3}));
  EXPECT_TRUE(shapes[1].empty());

  std::vector<float> y(12), sum(1);
  moe_tensor ty = makeTensor(y, shapes[0]), tsum = makeTensor(sum, shapes[1]);
  ASSERT_EQ(textOf(engine->call({&ta, &tb, &ty, &tsum})), "");
  for (int i = 0; i < 12; ++i)
    EXPECT_NEAR(y[i], std::exp(a[i % 6]) + b[i % 6], 1e-6f);
  EXPECT_EQ(sum[0], 0.5f);
  // Arguments stay as they are.
  EXPECT_EQ(a[1], 1.0f);
}

INSTANTIATE_TEST_SUITE_P(OptLevels, EngineLevelTest,
                         ::testing::Values(0u, 1u, 2u, 3u));

TEST_F(EngineTest, namesSizes) {
  ASSERT_NO_FATAL_FAILURE(compile(kText));
  const EntrySignature &signature = engine->getSignature();
  EXPECT_EQ(signature.arguments[0].sizeNames[0], "a_0");
  // The sum demands that b has as many rows.
  EXPECT_EQ(signature.arguments[1].sizeNames[0], "a_0");
  EXPECT_EQ(signature.results[0].sizeNames[0], "a_0 * 2");
  EXPECT_EQ(signature.results[0].sizeNames[1], "3");
}

TEST_F(EngineTest, refusesWrongTensors) {
  ASSERT_NO_FATAL_FAILURE(compile(kText));
  std::vector<float> data(12);
  int64_t two[] = {2, 3}, three[] = {3, 3}, four[] = {4, 3};
  moe_tensor a = makeTensor(data, two), b = makeTensor(data, three);
  SmallVector<SmallVector<int64_t>> shapes;
  std::string expected = "@f: 'b', a tensor<?x3xf32>: size 0 of 'a' is 2, but "
                         "size 0 of 'b' is 3";
  EXPECT_EQ(textOf(engine->inferResultShapes({&a, &b}, shapes)), expected);
  EXPECT_EQ(textOf(engine->inferResultShapes({&a}, shapes)),
            "@f takes 2 arguments, not 1");
  EXPECT_EQ(textOf(engine->call({&a})),
            "@f takes 4 arguments and results, not 1");

  moe_tensor y = makeTensor(data, four), sum = makeTensor(data, {});
  EXPECT_EQ(textOf(engine->call({&a, &b, &y, &sum})), expected);
  EXPECT_EQ(textOf(engine->call({&a, &a, &a, &sum})),
            "@f: 'y0', a tensor<?x3xf32>: the shape [2, 3] differs from the "
            "compiled one, or from what other arguments imply");
}

TEST_F(EngineTest, leavesSizesThatDependOnDataOpen) {
  ASSERT_NO_FATAL_FAILURE(compile(R"(
    func.func @f(%n: tensor<i32>) -> tensor<?xf32> {
      %c = tensor.extract %n[] : tensor<i32>
      %size = arith.index_cast %c : i32 to index
      %one = arith.constant 1.0 : f32
      %e = tensor.empty(%size) : tensor<?xf32>
      %y = linalg.fill ins(%one : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
      return %y : tensor<?xf32>
    })"));
  EXPECT_EQ(diagnostics, "size 0 of result 'y' depends on the data; calls do "
                         "not check it\n");
  EXPECT_EQ(engine->getSignature().results[0].sizeNames[0], "?");
  int32_t n = 2;
  moe_tensor tn = {&n, nullptr, nullptr, 0, MOE_I32};
  SmallVector<SmallVector<int64_t>> shapes;
  ASSERT_EQ(textOf(engine->inferResultShapes({&tn}, shapes)), "");
  EXPECT_EQ(shapes[0], SmallVector<int64_t>{ShapedType::kDynamic});
  std::vector<float> y(2);
  int64_t shape[] = {2};
  moe_tensor ty = makeTensor(y, shape);
  ASSERT_EQ(textOf(engine->call({&tn, &ty})), "");
  EXPECT_EQ(y[1], 1.0f);
}

// LLVM has this in compiler-rt, which a process need not have.
TEST_F(EngineTest, raisesToIntegerPowers) {
  ASSERT_NO_FATAL_FAILURE(compile(R"(
    func.func @f(%x: tensor<3xf32>, %n: tensor<3xi32>) -> tensor<3xf32> {
      %y = math.fpowi %x, %n : tensor<3xf32>, tensor<3xi32>
      return %y : tensor<3xf32>
    })"));
  std::vector<float> x = {2, -3, 5}, y(3);
  std::vector<int32_t> n = {-2, 3, 0};
  int64_t shape[] = {3};
  moe_tensor tx = makeTensor(x, shape), ty = makeTensor(y, shape);
  moe_tensor tn = {n.data(), shape, nullptr, 1, MOE_I32};
  ASSERT_EQ(textOf(engine->call({&tx, &tn, &ty})), "");
  EXPECT_EQ(y, (std::vector<float>{0.25f, -27, 1}));
}

/// Sorts rows of 2^`log` times T floats, which are in the workspace.
static std::string makeSortText(unsigned log) {
  return R"(
    func.func @f(%ids: tensor<?x1xi32>, %x: tensor<?x8xf32>) -> tensor<8xf32> {
      %c0 = arith.constant 0 : index
      %many = arith.constant )" +
         std::to_string(int64_t(1) << log) + R"( : index
      %T = tensor.dim %ids, %c0 : tensor<?x1xi32>
      %rows = arith.muli %T, %many : index
      %o = tensor.empty() : tensor<3xi32>
      %s = tensor.empty(%T) : tensor<?x1xi32>
      %r = tensor.empty(%rows) : tensor<?x8xf32>
      %offsets, %slots, %sorted = moe.dispatch ids(%ids : tensor<?x1xi32>)
          tokens(%x : tensor<?x8xf32>)
          outs(%o, %s, %r : tensor<3xi32>, tensor<?x1xi32>, tensor<?x8xf32>)
      %y = tensor.extract_slice %sorted[0, 0] [1, 8] [1, 1]
          : tensor<?x8xf32> to tensor<8xf32>
      return %y : tensor<8xf32>
    })";
}

TEST_F(EngineTest, worksInTheWorkspace) {
  ASSERT_NO_FATAL_FAILURE(compile(makeSortText(1)));
  EXPECT_FALSE(engine->getSignature().allocates);
  std::vector<int32_t> ids = {1, 0, 0, 1};
  std::vector<float> x(32), y(8);
  for (int i = 0; i < 32; ++i)
    x[i] = i;
  int64_t idsShape[] = {4, 1}, xShape[] = {4, 8}, yShape[] = {8};
  moe_tensor tids = {ids.data(), idsShape, nullptr, 2, MOE_I32};
  moe_tensor tx = makeTensor(x, xShape), ty = makeTensor(y, yShape);
  size_t bytes = engine->getWorkspaceBytes({&tids, &tx, &ty});
  EXPECT_EQ(bytes % 64, 0u);
  EXPECT_GE(bytes, 2u * 4 * 8 * 4);
  auto whole = Workspace::allocate(bytes), small = Workspace::allocate(64);
  ASSERT_TRUE(whole && small);
  memset(whole->getData(), 0xff, bytes);
  ASSERT_EQ(textOf(engine->call({&tids, &tx, &ty}, *whole)), "");
  EXPECT_EQ(y, (std::vector<float>{8, 9, 10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(textOf(engine->call({&tids, &tx, &ty}, *small)),
            "@f: the workspace has 64 bytes, and " + std::to_string(bytes) +
                " are needed: " + engine->getSignature().workspace.text);
  // A call would refuse it: it says so, and not how much memory it needs.
  tx.type = MOE_F64;
  EXPECT_EQ(engine->getWorkspaceBytes({&tids, &tx, &ty}), 0u);
  EXPECT_EQ(textOf(engine->call({&tids, &tx, &ty})),
            "@f: 'arg1', a tensor<?x8xf32>: wrong element type 0");
}

TEST_F(EngineTest, failsWithoutMemoryForTheWorkspace) {
  ASSERT_NO_FATAL_FAILURE(compile(makeSortText(42)));
  std::vector<int32_t> ids(4);
  std::vector<float> x(32), y(8);
  int64_t idsShape[] = {4, 1}, xShape[] = {4, 8}, yShape[] = {8};
  moe_tensor tids = {ids.data(), idsShape, nullptr, 2, MOE_I32};
  moe_tensor tx = makeTensor(x, xShape), ty = makeTensor(y, yShape);
  size_t bytes = engine->getWorkspaceBytes({&tids, &tx, &ty});
  EXPECT_EQ(textOf(engine->call({&tids, &tx, &ty})), "there is no memory for " +
                                                         std::to_string(bytes) +
                                                         " bytes of workspace");
}

TEST_F(EngineTest, abortsWithoutMemory) {
  // 2^42 rows of 8 floats: more than an address space has. The number is data,
  // so that they are not in the workspace.
  ASSERT_NO_FATAL_FAILURE(compile(R"(
    func.func @f(%ids: tensor<4x1xi32>, %x: tensor<4x8xf32>) -> tensor<8xf32> {
      %c0 = arith.constant 0 : index
      %rows = arith.constant 4398046511104 : index
      %id = tensor.extract %ids[%c0, %c0] : tensor<4x1xi32>
      %number = arith.index_cast %id : i32 to index
      %many = arith.addi %rows, %number : index
      %o = tensor.empty() : tensor<3xi32>
      %s = tensor.empty() : tensor<4x1xi32>
      %r = tensor.empty(%many) : tensor<?x8xf32>
      %offsets, %slots, %sorted = moe.dispatch ids(%ids : tensor<4x1xi32>)
          tokens(%x : tensor<4x8xf32>)
          outs(%o, %s, %r : tensor<3xi32>, tensor<4x1xi32>, tensor<?x8xf32>)
      %y = tensor.extract_slice %sorted[0, 0] [1, 8] [1, 1]
          : tensor<?x8xf32> to tensor<8xf32>
      return %y : tensor<8xf32>
    })"));
  std::vector<int32_t> ids(4);
  std::vector<float> x(32), y(8);
  int64_t idsShape[] = {4, 1}, xShape[] = {4, 8}, yShape[] = {8};
  moe_tensor tids = {ids.data(), idsShape, nullptr, 2, MOE_I32};
  moe_tensor tx = makeTensor(x, xShape), ty = makeTensor(y, yShape);
  // By abort, or by a sanitizer's malloc; not by a bad access.
  auto isClean = [](int status) {
    return status != 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  };
  EXPECT_EXIT(llvm::consumeError(engine->call({&tids, &tx, &ty})), isClean, "");
}

TEST_F(EngineTest, severalEnginesLiveTogether) {
  ASSERT_NO_FATAL_FAILURE(compile(kText));
  std::unique_ptr<Engine> first = std::move(engine);
  ASSERT_NO_FATAL_FAILURE(compile(R"(
    func.func @f(%a: tensor<3xf32>) -> tensor<3xf32> {
      %y = arith.negf %a : tensor<3xf32>
      return %y : tensor<3xf32>
    })"));
  EXPECT_NE(first->getFunction(), engine->getFunction());
  std::vector<float> a = {1, 2, 3}, y(3);
  int64_t shape[] = {3};
  moe_tensor ta = makeTensor(a, shape), ty = makeTensor(y, shape);
  ASSERT_EQ(textOf(engine->call({&ta, &ty})), "");
  EXPECT_EQ(y, (std::vector<float>{-1, -2, -3}));
}

} // namespace
