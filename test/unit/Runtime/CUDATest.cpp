//===- CUDATest.cpp - The CUDA run time without a GPU ---------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Runtime/CUDA.h"

#include "moe/Runtime/moe.h"
#include "gtest/gtest.h"
#include <cstdlib>
#include <dlfcn.h>
#include <string>

namespace {

// The driver stays open once it is: these run first (gtest keeps the order of a
// file), and each names its library.
TEST(CUDAWithoutDriver, SaysWhichLibraryAndWhatToDo) {
  setenv("MOE_CUDA_DRIVER", "libno-such-driver.so.1", 1);
  EXPECT_EQ(moe_cuda_init(), MOE_CUDA_NO_DRIVER);
  std::string error = moe_cuda_error();
  EXPECT_NE(error.find("'libno-such-driver.so.1' cannot be opened"),
            std::string::npos)
      << error;
  EXPECT_NE(error.find("No such file"), std::string::npos) << error;
  EXPECT_NE(error.find("install the NVIDIA driver, or run on the CPU"),
            std::string::npos)
      << error;
  moe_cuda_module *module = nullptr;
  EXPECT_EQ(moe_cuda_load(&module, ""), MOE_CUDA_NO_DRIVER);
  EXPECT_EQ(module, nullptr);
}

TEST(CUDAWithoutDriver, NamesAFunctionThatIsMissing) {
  setenv("MOE_CUDA_DRIVER", "libm.so.6", 1); // a library, but no driver
  EXPECT_EQ(moe_cuda_init(), MOE_CUDA_OLD_DRIVER);
  EXPECT_NE(std::string(moe_cuda_error()).find("libm.so.6) has no cuInit"),
            std::string::npos)
      << moe_cuda_error();
}

/// The run time on top of StandInDriver.cpp.
class CUDA : public ::testing::Test {
protected:
  void SetUp() override {
    setenv("MOE_CUDA_DRIVER", MOE_STAND_IN_DRIVER, 1);
    library = dlopen(MOE_STAND_IN_DRIVER, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    take = reinterpret_cast<const char *(*)()>(
        dlsym(library, "stand_in_take_calls"));
    fail = reinterpret_cast<void (*)(const char *, int)>(
        dlsym(library, "stand_in_fail"));
    setContext = reinterpret_cast<void (*)(bool)>(
        dlsym(library, "stand_in_set_context"));
    ASSERT_EQ(moe_cuda_init(), MOE_CUDA_OK) << moe_cuda_error();
    setContext(true);
    fail("", 0);
    take();
  }

  moe_cuda_module *module = reinterpret_cast<moe_cuda_module *>(16);
  moe_cuda_kernel *kernel = reinterpret_cast<moe_cuda_kernel *>(24);
  void *library = nullptr;
  const char *(*take)() = nullptr;
  void (*fail)(const char *, int) = nullptr;
  void (*setContext)(bool) = nullptr;
};

TEST_F(CUDA, TakesTheContextOfTheThread) {
  moe_cuda_device device;
  EXPECT_EQ(moe_cuda_get_device(&device), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "");
  EXPECT_EQ(device.major, 9);
  EXPECT_EQ(device.minor, 0);
  EXPECT_EQ(device.multiprocessors, 132);
  EXPECT_EQ(device.shared_memory, 227 << 10);
}

TEST_F(CUDA, MakesAContextWhereThereIsNone) {
  setContext(false);
  moe_cuda_device device;
  EXPECT_EQ(moe_cuda_get_device(&device), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "cuDevicePrimaryCtxRetain 0\ncuCtxSetCurrent\n");
}

TEST_F(CUDA, LoadsAndFinds) {
  moe_cuda_module *loaded = nullptr;
  EXPECT_EQ(moe_cuda_load(&loaded, "image"), MOE_CUDA_OK);
  EXPECT_EQ(loaded, module);
  moe_cuda_kernel *found = nullptr;
  EXPECT_EQ(moe_cuda_find(&found, loaded, "k", 48 << 10, 0), MOE_CUDA_OK);
  EXPECT_EQ(found, kernel);
  EXPECT_STREQ(take(), "cuModuleLoadDataEx image\ncuModuleGetFunction k\n");
  EXPECT_EQ(moe_cuda_find(&found, loaded, "k", 200000, 1), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "cuModuleGetFunction k\ncuFuncSetAttribute 8 200000\n"
                       "cuFuncSetAttribute 14 1\n");
  EXPECT_EQ(moe_cuda_unload(loaded), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "cuModuleUnload\n");
  EXPECT_EQ(moe_cuda_unload(nullptr), MOE_CUDA_OK);
}

TEST_F(CUDA, Launches) {
  moe_cuda_launch_config config = {};
  config.grid[0] = 132;
  config.grid[1] = config.grid[2] = 1;
  config.block[0] = 384;
  config.block[1] = config.block[2] = 1;
  config.shared_memory = 99;
  config.stream = reinterpret_cast<void *>(0x20);
  int first = 42;
  void *args[] = {&first};
  EXPECT_EQ(moe_cuda_launch(kernel, &config, args), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "cuLaunchKernelEx grid 132 1 1 block 384 1 1 shared 99 "
                       "stream 0x20 first 42 extra 0\n");
  config.cluster[0] = 2;
  config.programmatic = 1;
  EXPECT_EQ(moe_cuda_launch(kernel, &config, args), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "cuLaunchKernelEx grid 132 1 1 block 384 1 1 shared 99 "
                       "stream 0x20 first 42 extra 0 cluster 2 cluster 1 "
                       "cluster 1 programmatic 1\n");
  config.grid[1] = 0;
  EXPECT_EQ(moe_cuda_launch(kernel, &config, args), MOE_CUDA_BAD_ARGUMENT);
  EXPECT_NE(std::string(moe_cuda_error()).find("132 x 0 x 1"),
            std::string::npos);
  EXPECT_STREQ(take(), "");
}

TEST_F(CUDA, EncodesTensorMaps) {
  moe_cuda_tensor_map map;
  static_assert(sizeof(map) == 128 && alignof(moe_cuda_tensor_map) == 64,
                "as the driver's");
  moe_cuda_tensor tensor = {};
  tensor.type = MOE_BF16;
  tensor.rank = 2;
  tensor.dims[0] = 2048;
  tensor.dims[1] = 512;
  tensor.strides[0] = 4096;
  tensor.box[0] = 64;
  tensor.box[1] = 128;
  tensor.swizzle = MOE_CUDA_SWIZZLE_128B;
  EXPECT_EQ(moe_cuda_encode(&map, &tensor), MOE_CUDA_OK);
  EXPECT_STREQ(take(), "cuTensorMapEncodeTiled type 9 rank 2 dims 2048 512 "
                       "stride 4096 box 64 128 steps 1 interleave 0 swizzle 3 "
                       "l2 3 fill 0\n");
  EXPECT_EQ(map.opaque[15], 0x5a5a5a5a5a5a5a5au);
  tensor.type = MOE_I64;
  EXPECT_EQ(moe_cuda_encode(&map, &tensor), MOE_CUDA_BAD_ARGUMENT);
  tensor.type = MOE_F32;
  tensor.rank = 6;
  EXPECT_EQ(moe_cuda_encode(&map, &tensor), MOE_CUDA_BAD_ARGUMENT);
}

TEST_F(CUDA, GivesTheDriversErrors) {
  moe_cuda_launch_config config = {};
  for (int i = 0; i < 3; ++i)
    config.grid[i] = config.block[i] = 1;
  fail("cuLaunchKernelEx", 700);
  EXPECT_EQ(moe_cuda_launch(kernel, &config, nullptr), 700);
  EXPECT_STREQ(moe_cuda_error(),
               "cuLaunchKernelEx: CUDA_ERROR_ILLEGAL_ADDRESS (an illegal "
               "memory access was encountered)");
  fail("cuModuleLoadDataEx", 218);
  moe_cuda_module *loaded = nullptr;
  EXPECT_EQ(moe_cuda_load(&loaded, "ptx"), 218);
  EXPECT_EQ(loaded, nullptr);
  EXPECT_STREQ(moe_cuda_error(),
               "cuModuleLoadDataEx: unknown error (the driver has no text for "
               "it): ptxas: line 7: no");
  fail("cuFuncSetAttribute", 1);
  moe_cuda_kernel *found = nullptr;
  EXPECT_EQ(moe_cuda_find(&found, module, "big", 300000, 0), 1);
  EXPECT_EQ(found, nullptr);
  EXPECT_NE(std::string(moe_cuda_error())
                .find("kernel 'big': 300000 bytes of shared memory"),
            std::string::npos);
}

TEST_F(CUDA, RefusesNullPointers) {
  EXPECT_EQ(moe_cuda_get_device(nullptr), MOE_CUDA_BAD_ARGUMENT);
  EXPECT_EQ(moe_cuda_load(nullptr, "x"), MOE_CUDA_BAD_ARGUMENT);
  EXPECT_EQ(moe_cuda_find(nullptr, module, "x", 0, 0), MOE_CUDA_BAD_ARGUMENT);
  EXPECT_EQ(moe_cuda_launch(nullptr, nullptr, nullptr), MOE_CUDA_BAD_ARGUMENT);
  EXPECT_EQ(moe_cuda_encode(nullptr, nullptr), MOE_CUDA_BAD_ARGUMENT);
}

} // namespace
