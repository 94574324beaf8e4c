//===- Driver.h - The part of the CUDA driver's interface that is used ----===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Declared here so that building needs no CUDA. test/unit/Runtime compares
// these types and numbers with cuda.h where there is one.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_RUNTIME_CUDA_DRIVER_H
#define MOE_LIB_RUNTIME_CUDA_DRIVER_H

#include <cstddef>
#include <cstdint>
#include <pthread.h>

namespace moe::cuda {

/// Holds a mutex while it lives.
class Lock {
public:
  explicit Lock(pthread_mutex_t &mutex) : mutex(mutex) {
    pthread_mutex_lock(&mutex);
  }
  ~Lock() { pthread_mutex_unlock(&mutex); }
  Lock(const Lock &) = delete;
  Lock &operator=(const Lock &) = delete;

private:
  pthread_mutex_t &mutex;
};

using Result = int;
using Device = int;
using Context = struct ContextObject *;
using Module = struct ModuleObject *;
using Function = struct FunctionObject *;
using Stream = struct StreamObject *;
using DevicePointer = unsigned long long;

enum DeviceAttribute : int {
  kMultiprocessorCount = 16,
  kComputeCapabilityMajor = 75,
  kComputeCapabilityMinor = 76,
  kMaxSharedMemoryPerBlockOptin = 97,
};

enum FunctionAttribute : int {
  kMaxDynamicSharedSizeBytes = 8,
  kNonPortableClusterSizeAllowed = 14,
};

enum LaunchAttributeID : int {
  kCooperative = 2,
  kClusterDimension = 4,
  kProgrammaticStreamSerialization = 6,
};

struct LaunchAttribute {
  LaunchAttributeID id;
  char padding[8 - sizeof(LaunchAttributeID)];
  union {
    char bytes[64];
    int cooperative;
    unsigned clusterDim[3];
    int programmaticStreamSerializationAllowed;
  } value;
};

struct LaunchConfig {
  unsigned gridDim[3];
  unsigned blockDim[3];
  unsigned sharedMemBytes;
  Stream stream;
  LaunchAttribute *attributes;
  unsigned numAttributes;
};

enum TensorMapDataType : int {
  kUint8 = 0,
  kInt32 = 3,
  kFloat16 = 6,
  kFloat32 = 7,
  kBfloat16 = 9,
};

/// Bytes for the message of PTX that does not compile: option numbers of
/// cuModuleLoadDataEx.
enum JitOption : int { kErrorLogBuffer = 5, kErrorLogBufferSizeBytes = 6 };

/// The driver's functions, by name.
struct Driver {
  Result (*cuInit)(unsigned flags);
  Result (*cuGetErrorName)(Result error, const char **name);
  Result (*cuGetErrorString)(Result error, const char **text);
  Result (*cuCtxGetCurrent)(Context *context);
  Result (*cuCtxSetCurrent)(Context context);
  Result (*cuCtxGetId)(Context context, unsigned long long *id);
  Result (*cuCtxGetDevice)(Device *device);
  Result (*cuDeviceGet)(Device *device, int ordinal);
  Result (*cuDevicePrimaryCtxRetain)(Context *context, Device device);
  Result (*cuDeviceGetAttribute)(int *value, DeviceAttribute attribute,
                                 Device device);
  Result (*cuModuleLoadDataEx)(Module *module, const void *image,
                               unsigned numOptions, JitOption *options,
                               void **values);
  Result (*cuModuleUnload)(Module module);
  Result (*cuModuleGetFunction)(Function *function, Module module,
                                const char *name);
  Result (*cuFuncSetAttribute)(Function function, FunctionAttribute attribute,
                               int value);
  Result (*cuOccupancyMaxActiveBlocksPerMultiprocessor)(int *numBlocks,
                                                        Function function,
                                                        int blockSize,
                                                        size_t dynamicShared);
  Result (*cuLaunchKernelEx)(const LaunchConfig *config, Function function,
                             void **args, void **extra);
  Result (*cuMemAlloc_v2)(DevicePointer *pointer, size_t bytes);
  Result (*cuMemFree_v2)(DevicePointer pointer);
  Result (*cuMemcpyHtoDAsync_v2)(DevicePointer target, const void *source,
                                 size_t bytes, Stream stream);
  Result (*cuMemcpyDtoHAsync_v2)(void *target, DevicePointer source,
                                 size_t bytes, Stream stream);
  Result (*cuStreamSynchronize)(Stream stream);
  Result (*cuTensorMapEncodeTiled)(void *map, TensorMapDataType type,
                                   uint32_t rank, void *data,
                                   const uint64_t *dims,
                                   const uint64_t *strides, const uint32_t *box,
                                   const uint32_t *elementStrides,
                                   int interleave, int swizzle, int l2Promotion,
                                   int outOfBoundsFill);
};

/// The driver, with a context current; null, with moe_cuda_error set and
/// `status` the reason, otherwise.
const Driver *enter(int32_t &status);

/// Opens the driver once. Null, with moe_cuda_error set and `status` the
/// reason, if that did not work; it is tried again by the next call.
const Driver *openDriver(int32_t &status);

/// Notes the text that moe_cuda_error returns, and returns `status`.
__attribute__((format(printf, 2, 3))) int32_t fail(int32_t status,
                                                   const char *format, ...);

/// The same for what a driver function returned: with its name and text.
int32_t failDriver(const Driver &driver, Result result, const char *what);

} // namespace moe::cuda

#endif // MOE_LIB_RUNTIME_CUDA_DRIVER_H
