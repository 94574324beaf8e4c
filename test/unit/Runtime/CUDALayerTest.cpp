//===- CUDALayerTest.cpp - What compiled layers call, without a GPU -------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Runtime/CUDALayer.h"

#include "gtest/gtest.h"
#include <cstdlib>
#include <dlfcn.h>
#include <string>
#include <thread>
#include <vector>

namespace {

/// A layer of two kernels. The stand-in is sm_90 with 227 KiB.
class CUDALayer : public ::testing::Test {
protected:
  void SetUp() override {
    setenv("MOE_CUDA_DRIVER", MOE_STAND_IN_DRIVER, 1);
    void *library = dlopen(MOE_STAND_IN_DRIVER, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    take = reinterpret_cast<const char *(*)()>(
        dlsym(library, "stand_in_take_calls"));
    fail = reinterpret_cast<void (*)(const char *, int)>(
        dlsym(library, "stand_in_fail"));
    auto setContext = reinterpret_cast<void (*)(bool)>(
        dlsym(library, "stand_in_set_context"));
    ASSERT_EQ(moe_cuda_init(), MOE_CUDA_OK) << moe_cuda_error();
    setContext(true);
    fail("", 0);
    take();
  }

  moe_cuda_image makeImage(const char *chip, int32_t arch, int32_t only,
                           const void *cubin, const char *ptx) {
    return {chip, arch, only, cubin, ptx, kernels, 2};
  }
  moe_cuda_program makeProgram(const std::vector<moe_cuda_image> &images) {
    return {"layer", images.data(), static_cast<uint32_t>(images.size()),
            nullptr};
  }
  /// Of a program that is PTX for one device.
  void beginCall(moe_cuda_call &call) {
    images = {makeImage("sm_90", 90, 0, nullptr, "ptx")};
    program = makeProgram(images);
    ASSERT_EQ(moe_cuda_begin(&call, &program, nullptr), MOE_CUDA_OK);
  }

  std::vector<moe_cuda_image> images;
  moe_cuda_program program = {};
  moe_cuda_layer_kernel kernels[2] = {{"first", 64 << 10, 0}, {"second", 0, 0}};
  const char *(*take)() = nullptr;
  void (*fail)(const char *, int) = nullptr;
};

TEST_F(CUDALayer, LoadsOnceAndLaunches) {
  std::vector<moe_cuda_image> images = {
      makeImage("sm_90", 90, 0, "cubin", "ptx")};
  moe_cuda_program program = makeProgram(images);
  moe_cuda_call call;
  ASSERT_EQ(moe_cuda_begin(&call, &program, &program), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "cuModuleLoadDataEx cubin\ncuModuleGetFunction first\n"
                       "cuFuncSetAttribute 8 65536\n"
                       "cuModuleGetFunction second\n");
  ASSERT_EQ(moe_cuda_begin(&call, &program, nullptr), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "");
  int argument = 42;
  void *args[] = {&argument};
  const int64_t sizes[] = {7, 1, 1, 256, 1, 1, 0, 0, 0, 0};
  moe_cuda_call_kernel(&call, 1, sizes, 512, args);
  EXPECT_EQ(call.status, MOE_CUDA_OK);
  EXPECT_EQ(std::string(take()).find(
                "cuLaunchKernelEx grid 7 1 1 block 256 1 1 shared 512"),
            0u);
}

TEST_F(CUDALayer, LimitsPersistentBlocks) {
  moe_cuda_call call;
  ASSERT_NO_FATAL_FAILURE(beginCall(call));
  int argument = 42;
  void *args[] = {&argument};
  const std::pair<int64_t, const char *> launches[] = {
      {1000, "grid 264 1 1"}, {264, "grid 264 1 1"}, {5, "grid 5 1 1"}};
  for (auto [blocks, expected] : launches) {
    take();
    const int64_t sizes[] = {blocks, 1, 1, 384, 1, 1, 0, 0, 0, 2};
    moe_cuda_call_kernel(&call, 0, sizes, 0, args);
    EXPECT_NE(std::string(take()).find(expected), std::string::npos);
  }
}

TEST_F(CUDALayer, LaunchesBlocksThatWaitForEachOther) {
  moe_cuda_call call;
  ASSERT_NO_FATAL_FAILURE(beginCall(call));
  int argument = 42;
  uint64_t ticket = 0;
  void *args[] = {&argument, &ticket};
  // The stand-in has 132 multiprocessors, each of which runs 2 blocks.
  const std::pair<int64_t, const char *> launches[] = {{1000, "grid 264 1 1"},
                                                       {5, "grid 5 1 1"}};
  uint64_t last = 0;
  for (auto [blocks, expected] : launches) {
    take();
    const int64_t sizes[] = {blocks, 1, 1, 128, 1, 1, 0, 0, 0, 0};
    moe_cuda_call_cooperative(&call, 0, sizes, 4096, args, &ticket);
    std::string calls = take();
    EXPECT_EQ(
        calls.find("cuOccupancyMaxActiveBlocksPerMultiprocessor 128 4096\n"
                   "cuLaunchKernelEx"),
        0u);
    EXPECT_NE(calls.find(expected), std::string::npos) << calls;
    EXPECT_NE(calls.find(" cooperative 1"), std::string::npos) << calls;
    EXPECT_NE(ticket, last);
    last = ticket;
  }
  const int64_t sizes[] = {5, 1, 1, 128, 1, 1, 0, 0, 0, 0};
  moe_cuda_call_cooperative(&call, 0, sizes, 227 << 10, args, &ticket);
  EXPECT_EQ(call.status, MOE_CUDA_BAD_ARGUMENT);
  EXPECT_NE(std::string(moe_cuda_error()).find("does not fit"),
            std::string::npos);
}

TEST_F(CUDALayer, EncodesTensorMaps) {
  moe_cuda_call call;
  ASSERT_NO_FATAL_FAILURE(beginCall(call));
  take();
  moe_cuda_tensor_map map;
  moe_cuda_tensor tensor = {};
  tensor.type = 3;
  tensor.rank = 2;
  moe_cuda_call_encode(&call, &map, &tensor);
  EXPECT_EQ(call.status, MOE_CUDA_OK);
  EXPECT_EQ(std::string(take()).find("cuTensorMapEncodeTiled"), 0u);
  fail("cuTensorMapEncodeTiled", 700);
  moe_cuda_call_encode(&call, &map, &tensor);
  EXPECT_EQ(call.status, 700);
  take();
  moe_cuda_call_encode(&call, &map, &tensor);
  EXPECT_STREQ(take(), "");
}

TEST_F(CUDALayer, KeepsTheFirstError) {
  moe_cuda_call call;
  ASSERT_NO_FATAL_FAILURE(beginCall(call));
  const int64_t tooMany[] = {int64_t(1) << 31, 1, 1, 256, 1, 1, 0, 0, 0, 0};
  moe_cuda_call_kernel(&call, 0, tooMany, 0, nullptr);
  EXPECT_EQ(call.status, MOE_CUDA_BAD_ARGUMENT);
  EXPECT_NE(std::string(moe_cuda_error()).find("2147483648 blocks"),
            std::string::npos);
  take();
  const int64_t sizes[] = {1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
  moe_cuda_call_kernel(&call, 0, sizes, 0, nullptr);
  EXPECT_EQ(call.status, MOE_CUDA_BAD_ARGUMENT);
  EXPECT_STREQ(take(), "");
}

TEST_F(CUDALayer, TriesAgainWhereLoadingFailed) {
  std::vector<moe_cuda_image> images = {
      makeImage("sm_90", 90, 0, nullptr, "ptx")};
  moe_cuda_program program = makeProgram(images);
  moe_cuda_call call;
  fail("cuModuleLoadDataEx", 700);
  EXPECT_EQ(moe_cuda_begin(&call, &program, nullptr), 700);
  EXPECT_EQ(call.status, 700);
  fail("", 0);
  EXPECT_EQ(moe_cuda_begin(&call, &program, nullptr), MOE_CUDA_OK);
}

TEST_F(CUDALayer, ChoosesTheBestImage) {
  std::vector<moe_cuda_image> images = {
      makeImage("sm_80", 80, 0, "cubin80", "ptx80"),
      makeImage("sm_90", 90, 0, "cubin90", "ptx90"),
      makeImage("sm_90a", 90, 1, "cubin90a", "ptx90a"),
      makeImage("sm_120", 120, 0, "cubin120", "ptx120")};
  moe_cuda_program program = makeProgram(images);
  moe_cuda_call call;
  ASSERT_EQ(moe_cuda_begin(&call, &program, nullptr), MOE_CUDA_OK);
  EXPECT_EQ(call.image, 2);
  EXPECT_EQ(std::string(take()).find("cuModuleLoadDataEx cubin90a"), 0u);
}

TEST_F(CUDALayer, CompilesPTXForNewerDevices) {
  std::vector<moe_cuda_image> images = {
      makeImage("sm_80", 80, 0, "cubin80", "ptx80")};
  moe_cuda_program program = makeProgram(images);
  moe_cuda_call call;
  ASSERT_EQ(moe_cuda_begin(&call, &program, nullptr), MOE_CUDA_OK);
  EXPECT_EQ(std::string(take()).find("cuModuleLoadDataEx ptx80"), 0u);
}

TEST_F(CUDALayer, SaysWhatItWasCompiledFor) {
  std::vector<moe_cuda_image> images = {
      makeImage("sm_100", 100, 0, "cubin", "ptx"),
      makeImage("sm_120", 120, 0, "cubin", "ptx")};
  moe_cuda_program program = makeProgram(images);
  moe_cuda_call call;
  EXPECT_EQ(moe_cuda_begin(&call, &program, nullptr), MOE_CUDA_NO_IMAGE);
  EXPECT_NE(std::string(moe_cuda_error())
                .find("layer 'layer' was compiled for sm_100, sm_120, which "
                      "does not run on this device: it is sm_90"),
            std::string::npos)
      << moe_cuda_error();
  // What needs more shared memory than there is does not run either.
  kernels[0].shared_memory = 300 << 10;
  images = {makeImage("sm_80", 80, 0, "cubin", "ptx")};
  program = makeProgram(images);
  EXPECT_EQ(moe_cuda_begin(&call, &program, nullptr), MOE_CUDA_NO_IMAGE);
}

TEST_F(CUDALayer, LoadsOnceFromManyThreads) {
  std::vector<moe_cuda_image> images = {
      makeImage("sm_90", 90, 0, nullptr, "ptx")};
  moe_cuda_program program = makeProgram(images);
  std::vector<std::thread> threads;
  std::vector<int32_t> statuses(8, -1);
  for (int32_t &status : statuses)
    threads.emplace_back([&] {
      moe_cuda_call call;
      status = moe_cuda_begin(&call, &program, nullptr);
    });
  for (std::thread &thread : threads)
    thread.join();
  for (int32_t status : statuses)
    EXPECT_EQ(status, MOE_CUDA_OK);
  std::string calls = take();
  EXPECT_EQ(calls.find("cuModuleLoadDataEx"),
            calls.rfind("cuModuleLoadDataEx"));
}

TEST_F(CUDALayer, MovesMemory) {
  void *memory = &memory;
  EXPECT_EQ(moe_cuda_allocate(&memory, 0), MOE_CUDA_OK);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(moe_cuda_allocate(&memory, 100), MOE_CUDA_OK);
  int32_t value = 0;
  EXPECT_EQ(moe_cuda_upload(memory, &value, 4, nullptr), MOE_CUDA_OK);
  EXPECT_EQ(moe_cuda_download(&value, memory, 4, nullptr), MOE_CUDA_OK);
  EXPECT_EQ(moe_cuda_synchronize(nullptr), MOE_CUDA_OK);
  EXPECT_EQ(moe_cuda_free(memory), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "cuMemAlloc 100\ncuMemcpyHtoDAsync 4096 4\n"
                       "cuMemcpyDtoHAsync 4096 4\ncuStreamSynchronize\n"
                       "cuMemFree 4096\n");
  fail("cuMemAlloc", 700);
  EXPECT_EQ(moe_cuda_allocate(&memory, 100), 700);
  EXPECT_EQ(std::string(moe_cuda_error()).find("cuMemAlloc of 100 bytes: "),
            0u);
}

} // namespace
