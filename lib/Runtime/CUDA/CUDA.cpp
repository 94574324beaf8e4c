//===- CUDA.cpp - Launching compiled kernels on an NVIDIA GPU -------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Runtime/CUDA.h"

#include "Driver.h"
#include "moe/Runtime/moe.h"

#include <cstdio>

using namespace moe::cuda;

static Module toDriver(moe_cuda_module *module) {
  return reinterpret_cast<Module>(module);
}
static Function toDriver(moe_cuda_kernel *kernel) {
  return reinterpret_cast<Function>(kernel);
}

const Driver *moe::cuda::enter(int32_t &status) {
  const Driver *driver = openDriver(status);
  if (!driver)
    return nullptr;
  Context context = nullptr;
  if (Result result = driver->cuCtxGetCurrent(&context)) {
    status = failDriver(*driver, result, "cuCtxGetCurrent");
    return nullptr;
  }
  if (context)
    return driver;
  // The primary context is the one that a host's CUDA run time would use.
  Device device = 0;
  const char *what = "cuDeviceGet of device 0";
  Result result = driver->cuDeviceGet(&device, 0);
  if (!result) {
    what = "cuDevicePrimaryCtxRetain";
    result = driver->cuDevicePrimaryCtxRetain(&context, device);
  }
  if (!result) {
    what = "cuCtxSetCurrent";
    result = driver->cuCtxSetCurrent(context);
  }
  if (!result)
    return driver;
  status = failDriver(*driver, result, what);
  return nullptr;
}

int32_t moe_cuda_init(void) {
  int32_t status;
  openDriver(status);
  return status;
}

int32_t moe_cuda_get_device(moe_cuda_device *device) {
  if (!device)
    return fail(MOE_CUDA_BAD_ARGUMENT, "moe_cuda_get_device: a null pointer");
  int32_t status;
  const Driver *driver = enter(status);
  if (!driver)
    return status;
  Device current = 0;
  if (Result result = driver->cuCtxGetDevice(&current))
    return failDriver(*driver, result, "cuCtxGetDevice");
  const struct {
    int32_t *value;
    DeviceAttribute attribute;
  } wanted[] = {{&device->major, kComputeCapabilityMajor},
                {&device->minor, kComputeCapabilityMinor},
                {&device->multiprocessors, kMultiprocessorCount},
                {&device->shared_memory, kMaxSharedMemoryPerBlockOptin}};
  for (const auto &[value, attribute] : wanted)
    if (Result result = driver->cuDeviceGetAttribute(value, attribute, current))
      return failDriver(*driver, result, "cuDeviceGetAttribute");
  return MOE_CUDA_OK;
}

int32_t moe_cuda_load(moe_cuda_module **module, const void *image) {
  if (!module || !image)
    return fail(MOE_CUDA_BAD_ARGUMENT, "moe_cuda_load: a null pointer");
  int32_t status;
  const Driver *driver = enter(status);
  if (!driver)
    return status;
  char log[1024] = "";
  JitOption options[] = {kErrorLogBuffer, kErrorLogBufferSizeBytes};
  void *values[] = {log, reinterpret_cast<void *>(sizeof(log))};
  Module loaded = nullptr;
  if (Result result =
          driver->cuModuleLoadDataEx(&loaded, image, 2, options, values)) {
    failDriver(*driver, result, "cuModuleLoadDataEx");
    if (!log[0])
      return result;
    return fail(result, "%s: %s", moe_cuda_error(), log);
  }
  *module = reinterpret_cast<moe_cuda_module *>(loaded);
  return MOE_CUDA_OK;
}

int32_t moe_cuda_unload(moe_cuda_module *module) {
  if (!module)
    return MOE_CUDA_OK;
  int32_t status;
  const Driver *driver = enter(status);
  if (!driver)
    return status;
  if (Result result = driver->cuModuleUnload(toDriver(module)))
    return failDriver(*driver, result, "cuModuleUnload");
  return MOE_CUDA_OK;
}

int32_t moe_cuda_find(moe_cuda_kernel **kernel, moe_cuda_module *module,
                      const char *name, uint32_t sharedMemory,
                      int32_t largeClusters) {
  if (!kernel || !module || !name)
    return fail(MOE_CUDA_BAD_ARGUMENT, "moe_cuda_find: a null pointer");
  int32_t status;
  const Driver *driver = enter(status);
  if (!driver)
    return status;
  Function found = nullptr;
  auto failWith = [&](Result result, const char *what) {
    char text[512];
    snprintf(text, sizeof(text), "kernel '%s': %s", name, what);
    return failDriver(*driver, result, text);
  };
  if (Result result =
          driver->cuModuleGetFunction(&found, toDriver(module), name))
    return failWith(result, "cuModuleGetFunction");
  // Up to 48 KiB every kernel may have.
  if (sharedMemory > 48 << 10)
    if (Result result = driver->cuFuncSetAttribute(
            found, kMaxDynamicSharedSizeBytes, sharedMemory)) {
      char what[128];
      snprintf(what, sizeof(what),
               "%u bytes of shared memory: cuFuncSetAttribute", sharedMemory);
      return failWith(result, what);
    }
  if (largeClusters)
    if (Result result = driver->cuFuncSetAttribute(
            found, kNonPortableClusterSizeAllowed, 1))
      return failWith(result, "large clusters: cuFuncSetAttribute");
  *kernel = reinterpret_cast<moe_cuda_kernel *>(found);
  return MOE_CUDA_OK;
}

int32_t moe_cuda_occupancy(int32_t *blocks, moe_cuda_kernel *kernel,
                           uint32_t threads, uint32_t sharedMemory) {
  if (!blocks || !kernel)
    return fail(MOE_CUDA_BAD_ARGUMENT, "moe_cuda_occupancy: a null pointer");
  int32_t status;
  const Driver *driver = enter(status);
  if (!driver)
    return status;
  int found = 0;
  if (Result result = driver->cuOccupancyMaxActiveBlocksPerMultiprocessor(
          &found, toDriver(kernel), static_cast<int>(threads), sharedMemory))
    return failDriver(*driver, result,
                      "cuOccupancyMaxActiveBlocksPerMultiprocessor");
  *blocks = found;
  return MOE_CUDA_OK;
}

int32_t moe_cuda_launch(moe_cuda_kernel *kernel,
                        const moe_cuda_launch_config *config, void **args) {
  if (!kernel || !config)
    return fail(MOE_CUDA_BAD_ARGUMENT, "moe_cuda_launch: a null pointer");
  for (int i = 0; i < 3; ++i)
    if (!config->grid[i] || !config->block[i])
      return fail(MOE_CUDA_BAD_ARGUMENT,
                  "moe_cuda_launch: a grid of %u x %u x %u blocks of %u x %u x "
                  "%u threads; no dimension may be 0",
                  config->grid[0], config->grid[1], config->grid[2],
                  config->block[0], config->block[1], config->block[2]);
  int32_t status;
  const Driver *driver = enter(status);
  if (!driver)
    return status;
  LaunchAttribute attributes[3] = {};
  LaunchConfig launch = {};
  launch.attributes = attributes;
  for (int i = 0; i < 3; ++i) {
    launch.gridDim[i] = config->grid[i];
    launch.blockDim[i] = config->block[i];
  }
  launch.sharedMemBytes = config->shared_memory;
  launch.stream = static_cast<Stream>(config->stream);
  if (config->cluster[0] || config->cluster[1] || config->cluster[2]) {
    LaunchAttribute &cluster = attributes[launch.numAttributes++];
    cluster.id = kClusterDimension;
    for (int i = 0; i < 3; ++i)
      cluster.value.clusterDim[i] = config->cluster[i] ? config->cluster[i] : 1;
  }
  if (config->cooperative) {
    LaunchAttribute &attribute = attributes[launch.numAttributes++];
    attribute.id = kCooperative;
    attribute.value.cooperative = 1;
  }
  if (config->programmatic) {
    LaunchAttribute &attribute = attributes[launch.numAttributes++];
    attribute.id = kProgrammaticStreamSerialization;
    attribute.value.programmaticStreamSerializationAllowed = 1;
  }
  if (Result result = driver->cuLaunchKernelEx(&launch, toDriver(kernel), args,
                                               /*extra=*/nullptr))
    return failDriver(*driver, result, "cuLaunchKernelEx");
  return MOE_CUDA_OK;
}

int32_t moe_cuda_allocate(void **memory, size_t bytes) {
  if (!memory)
    return fail(MOE_CUDA_BAD_ARGUMENT, "moe_cuda_allocate: a null pointer");
  *memory = nullptr;
  int32_t status;
  const Driver *driver = enter(status);
  if (!driver || bytes == 0)
    return status;
  DevicePointer pointer = 0;
  if (Result result = driver->cuMemAlloc_v2(&pointer, bytes)) {
    char what[64];
    snprintf(what, sizeof(what), "cuMemAlloc of %zu bytes", bytes);
    return failDriver(*driver, result, what);
  }
  *memory = reinterpret_cast<void *>(pointer);
  return MOE_CUDA_OK;
}

int32_t moe_cuda_free(void *memory) {
  int32_t status = MOE_CUDA_OK;
  const Driver *driver = memory ? enter(status) : nullptr;
  if (!driver)
    return status;
  if (Result result =
          driver->cuMemFree_v2(reinterpret_cast<DevicePointer>(memory)))
    return failDriver(*driver, result, "cuMemFree");
  return MOE_CUDA_OK;
}

int32_t moe_cuda_upload(void *target, const void *source, size_t bytes,
                        void *stream) {
  int32_t status = MOE_CUDA_OK;
  const Driver *driver = bytes ? enter(status) : nullptr;
  if (!driver)
    return status;
  if (Result result = driver->cuMemcpyHtoDAsync_v2(
          reinterpret_cast<DevicePointer>(target), source, bytes,
          static_cast<Stream>(stream)))
    return failDriver(*driver, result, "cuMemcpyHtoDAsync");
  return MOE_CUDA_OK;
}

int32_t moe_cuda_download(void *target, const void *source, size_t bytes,
                          void *stream) {
  int32_t status = MOE_CUDA_OK;
  const Driver *driver = bytes ? enter(status) : nullptr;
  if (!driver)
    return status;
  if (Result result = driver->cuMemcpyDtoHAsync_v2(
          target, reinterpret_cast<DevicePointer>(source), bytes,
          static_cast<Stream>(stream)))
    return failDriver(*driver, result, "cuMemcpyDtoHAsync");
  return MOE_CUDA_OK;
}

int32_t moe_cuda_synchronize(void *stream) {
  int32_t status;
  const Driver *driver = enter(status);
  if (!driver)
    return status;
  if (Result result = driver->cuStreamSynchronize(static_cast<Stream>(stream)))
    return failDriver(*driver, result, "cuStreamSynchronize");
  return MOE_CUDA_OK;
}

static bool toDriver(int32_t type, TensorMapDataType &result) {
  switch (type) {
  case MOE_F32:
    result = kFloat32;
    return true;
  case MOE_F16:
    result = kFloat16;
    return true;
  case MOE_BF16:
    result = kBfloat16;
    return true;
  case MOE_I32:
    result = kInt32;
    return true;
  case MOE_I8:
    result = kUint8; // copies do not look at signs
    return true;
  default:
    return false;
  }
}

int32_t moe_cuda_encode(moe_cuda_tensor_map *map,
                        const moe_cuda_tensor *tensor) {
  if (!map || !tensor)
    return fail(MOE_CUDA_BAD_ARGUMENT, "moe_cuda_encode: a null pointer");
  TensorMapDataType type;
  if (!toDriver(tensor->type, type))
    return fail(MOE_CUDA_BAD_ARGUMENT,
                "moe_cuda_encode: element type %d; tensor maps have f32, f16, "
                "bf16, i32 and i8",
                tensor->type);
  if (tensor->rank < 1 || tensor->rank > 5)
    return fail(MOE_CUDA_BAD_ARGUMENT,
                "moe_cuda_encode: rank %u; tensor maps have 1 to 5",
                tensor->rank);
  int32_t status;
  const Driver *driver = enter(status);
  if (!driver)
    return status;
  const uint32_t elementStrides[] = {1, 1, 1, 1, 1};
  const int noInterleave = 0, promoteTo256Bytes = 3, fillZeros = 0;
  if (Result result = driver->cuTensorMapEncodeTiled(
          map, type, tensor->rank, tensor->data, tensor->dims, tensor->strides,
          tensor->box, elementStrides, noInterleave, tensor->swizzle,
          promoteTo256Bytes, fillZeros))
    return failDriver(
        *driver, result,
        "cuTensorMapEncodeTiled (data and strides must be multiples of 16 "
        "bytes, boxes at most 256 elements and the swizzle's width)");
  return MOE_CUDA_OK;
}
