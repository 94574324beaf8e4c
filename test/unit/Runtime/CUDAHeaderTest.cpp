//===- CUDAHeaderTest.cpp - Our declarations of the driver against CUDA's -===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"

#include "moe/Runtime/CUDA.h"
#include "gtest/gtest.h"
#include <vector>

#ifdef MOE_HAS_CUDA_HEADER

#include <cuda.h>

using namespace moe::cuda;

namespace {

TEST(CUDAHeader, Layouts) {
  EXPECT_EQ(sizeof(Device), sizeof(CUdevice));
  EXPECT_EQ(sizeof(Result), sizeof(CUresult));
  EXPECT_EQ(sizeof(LaunchAttribute), sizeof(CUlaunchAttribute));
  EXPECT_EQ(offsetof(LaunchAttribute, value),
            offsetof(CUlaunchAttribute, value));
  EXPECT_EQ(sizeof(LaunchConfig), sizeof(CUlaunchConfig));
  EXPECT_EQ(offsetof(LaunchConfig, gridDim),
            offsetof(CUlaunchConfig, gridDimX));
  EXPECT_EQ(offsetof(LaunchConfig, blockDim),
            offsetof(CUlaunchConfig, blockDimX));
  EXPECT_EQ(offsetof(LaunchConfig, sharedMemBytes),
            offsetof(CUlaunchConfig, sharedMemBytes));
  EXPECT_EQ(offsetof(LaunchConfig, stream), offsetof(CUlaunchConfig, hStream));
  EXPECT_EQ(offsetof(LaunchConfig, attributes),
            offsetof(CUlaunchConfig, attrs));
  EXPECT_EQ(offsetof(LaunchConfig, numAttributes),
            offsetof(CUlaunchConfig, numAttrs));
  EXPECT_EQ(sizeof(moe_cuda_tensor_map), sizeof(CUtensorMap));
  // 64 is what kernels and the driver ask; some versions of the header say 128.
  EXPECT_EQ(alignof(moe_cuda_tensor_map), 64u);
  EXPECT_GE(alignof(CUtensorMap), 64u);
}

TEST(CUDAHeader, Numbers) {
  EXPECT_EQ(int(kMultiprocessorCount),
            CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  EXPECT_EQ(int(kComputeCapabilityMajor),
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  EXPECT_EQ(int(kComputeCapabilityMinor),
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  EXPECT_EQ(int(kMaxSharedMemoryPerBlockOptin),
            CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  EXPECT_EQ(int(kMaxDynamicSharedSizeBytes),
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
  EXPECT_EQ(int(kNonPortableClusterSizeAllowed),
            CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED);
  EXPECT_EQ(int(kCooperative), CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
  EXPECT_EQ(int(kClusterDimension), CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
  EXPECT_EQ(int(kProgrammaticStreamSerialization),
            CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
  EXPECT_EQ(int(kUint8), CU_TENSOR_MAP_DATA_TYPE_UINT8);
  EXPECT_EQ(int(kInt32), CU_TENSOR_MAP_DATA_TYPE_INT32);
  EXPECT_EQ(int(kFloat16), CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
  EXPECT_EQ(int(kFloat32), CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
  EXPECT_EQ(int(kBfloat16), CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
  EXPECT_EQ(int(MOE_CUDA_SWIZZLE_NONE), CU_TENSOR_MAP_SWIZZLE_NONE);
  EXPECT_EQ(int(MOE_CUDA_SWIZZLE_32B), CU_TENSOR_MAP_SWIZZLE_32B);
  EXPECT_EQ(int(MOE_CUDA_SWIZZLE_64B), CU_TENSOR_MAP_SWIZZLE_64B);
  EXPECT_EQ(int(MOE_CUDA_SWIZZLE_128B), CU_TENSOR_MAP_SWIZZLE_128B);
  EXPECT_EQ(int(kErrorLogBuffer), CU_JIT_ERROR_LOG_BUFFER);
  EXPECT_EQ(int(kErrorLogBufferSizeBytes), CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
}

/// The sizes of a function's arguments, in order.
template <typename R, typename... Args>
std::vector<size_t> sizesOf(R (*)(Args...)) {
  return {sizeof(R), sizeof(Args)...};
}

#define EXPECT_SAME_SIGNATURE(name)                                            \
  EXPECT_EQ(sizesOf(decltype(Driver::name)(nullptr)),                          \
            sizesOf(decltype (&::name)(nullptr)))                              \
      << #name

TEST(CUDAHeader, Signatures) {
  EXPECT_SAME_SIGNATURE(cuInit);
  EXPECT_SAME_SIGNATURE(cuGetErrorName);
  EXPECT_SAME_SIGNATURE(cuGetErrorString);
  EXPECT_SAME_SIGNATURE(cuCtxGetCurrent);
  EXPECT_SAME_SIGNATURE(cuCtxSetCurrent);
  EXPECT_SAME_SIGNATURE(cuCtxGetDevice);
  EXPECT_SAME_SIGNATURE(cuDeviceGet);
  EXPECT_SAME_SIGNATURE(cuDevicePrimaryCtxRetain);
  EXPECT_SAME_SIGNATURE(cuDeviceGetAttribute);
  EXPECT_SAME_SIGNATURE(cuModuleLoadDataEx);
  EXPECT_SAME_SIGNATURE(cuModuleUnload);
  EXPECT_SAME_SIGNATURE(cuModuleGetFunction);
  EXPECT_SAME_SIGNATURE(cuFuncSetAttribute);
  EXPECT_SAME_SIGNATURE(cuOccupancyMaxActiveBlocksPerMultiprocessor);
  EXPECT_SAME_SIGNATURE(cuLaunchKernelEx);
  EXPECT_SAME_SIGNATURE(cuTensorMapEncodeTiled);
  EXPECT_SAME_SIGNATURE(cuCtxGetId);
  EXPECT_SAME_SIGNATURE(cuMemAlloc_v2);
  EXPECT_SAME_SIGNATURE(cuMemFree_v2);
  EXPECT_SAME_SIGNATURE(cuMemcpyHtoDAsync_v2);
  EXPECT_SAME_SIGNATURE(cuMemcpyDtoHAsync_v2);
  EXPECT_SAME_SIGNATURE(cuStreamSynchronize);
}

} // namespace

#else

TEST(CUDAHeader, IsNotHere) {
  GTEST_SKIP()
      << "no cuda.h on this machine: the declarations in Driver.h were "
         "not compared with it";
}

#endif
