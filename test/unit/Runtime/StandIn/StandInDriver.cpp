//===- StandInDriver.cpp - A CUDA driver that writes down what it is asked ===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"

#include <cstdio>
#include <cstring>
#include <string>

using namespace moe::cuda;

static std::string calls;
static Result nextError = 0;
static std::string failing;
static bool hasContext = false;

static void note(const std::string &call) { calls += call + "\n"; }

/// The error that the test ordered for this function.
static Result resultOf(const char *function) {
  return failing == function ? nextError : 0;
}

extern "C" {

/// What was called since the last time, a line each.
const char *stand_in_take_calls() {
  static std::string taken;
  taken = calls;
  calls.clear();
  return taken.c_str();
}

/// From now on `function` returns `error`; "" for none.
void stand_in_fail(const char *function, Result error) {
  failing = function;
  nextError = error;
}

void stand_in_set_context(bool current) { hasContext = current; }

Result cuInit(unsigned) {
  note("cuInit");
  return resultOf("cuInit");
}

Result cuGetErrorName(Result error, const char **name) {
  *name = error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : nullptr;
  return error == 700 ? 0 : 1;
}

Result cuGetErrorString(Result error, const char **text) {
  *text = error == 700 ? "an illegal memory access was encountered" : nullptr;
  return error == 700 ? 0 : 1;
}

Result cuCtxGetCurrent(Context *context) {
  *context = hasContext ? reinterpret_cast<Context>(8) : nullptr;
  return resultOf("cuCtxGetCurrent");
}

Result cuCtxSetCurrent(Context) {
  note("cuCtxSetCurrent");
  hasContext = true;
  return resultOf("cuCtxSetCurrent");
}

Result cuCtxGetId(Context, unsigned long long *id) {
  *id = 1;
  return resultOf("cuCtxGetId");
}

Result cuCtxGetDevice(Device *device) {
  *device = 3;
  return resultOf("cuCtxGetDevice");
}

Result cuDeviceGet(Device *device, int ordinal) {
  *device = ordinal;
  return resultOf("cuDeviceGet");
}

Result cuDevicePrimaryCtxRetain(Context *context, Device device) {
  note("cuDevicePrimaryCtxRetain " + std::to_string(device));
  *context = reinterpret_cast<Context>(8);
  return resultOf("cuDevicePrimaryCtxRetain");
}

Result cuDeviceGetAttribute(int *value, DeviceAttribute attribute,
                            Device device) {
  *value = attribute == kComputeCapabilityMajor   ? 9
           : attribute == kComputeCapabilityMinor ? 0
           : attribute == kMultiprocessorCount    ? 132
                                                  : 227 << 10;
  return device == 3 ? resultOf("cuDeviceGetAttribute") : 101;
}

Result cuModuleLoadDataEx(Module *module, const void *image, unsigned count,
                          JitOption *options, void **values) {
  note(std::string("cuModuleLoadDataEx ") + static_cast<const char *>(image));
  if (Result error = resultOf("cuModuleLoadDataEx")) {
    for (unsigned i = 0; i < count; ++i)
      if (options[i] == kErrorLogBuffer)
        strcpy(static_cast<char *>(values[i]), "ptxas: line 7: no");
    return error;
  }
  *module = reinterpret_cast<Module>(16);
  return 0;
}

Result cuModuleUnload(Module) {
  note("cuModuleUnload");
  return resultOf("cuModuleUnload");
}

Result cuModuleGetFunction(Function *function, Module, const char *name) {
  note(std::string("cuModuleGetFunction ") + name);
  *function = reinterpret_cast<Function>(24);
  return resultOf("cuModuleGetFunction");
}

Result cuFuncSetAttribute(Function, FunctionAttribute attribute, int value) {
  note("cuFuncSetAttribute " + std::to_string(attribute) + " " +
       std::to_string(value));
  return resultOf("cuFuncSetAttribute");
}

Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Function,
                                                   int threads, size_t shared) {
  note("cuOccupancyMaxActiveBlocksPerMultiprocessor " +
       std::to_string(threads) + " " + std::to_string(shared));
  *blocks = shared > (200 << 10) ? 0 : 2;
  return resultOf("cuOccupancyMaxActiveBlocksPerMultiprocessor");
}

Result cuLaunchKernelEx(const LaunchConfig *config, Function, void **args,
                        void **extra) {
  char text[256];
  snprintf(text, sizeof(text),
           "cuLaunchKernelEx grid %u %u %u block %u %u %u shared %u stream %p "
           "first %d extra %d",
           config->gridDim[0], config->gridDim[1], config->gridDim[2],
           config->blockDim[0], config->blockDim[1], config->blockDim[2],
           config->sharedMemBytes, static_cast<void *>(config->stream),
           args ? *static_cast<int *>(args[0]) : 0, extra != nullptr);
  std::string call = text;
  for (unsigned i = 0; i < config->numAttributes; ++i) {
    const LaunchAttribute &attribute = config->attributes[i];
    if (attribute.id == kClusterDimension)
      for (unsigned dim : attribute.value.clusterDim)
        call += " cluster " + std::to_string(dim);
    else if (attribute.id == kCooperative)
      call += " cooperative " + std::to_string(attribute.value.cooperative);
    else if (attribute.id == kProgrammaticStreamSerialization)
      call += " programmatic " +
              std::to_string(
                  attribute.value.programmaticStreamSerializationAllowed);
  }
  note(call);
  return resultOf("cuLaunchKernelEx");
}

Result cuMemAlloc_v2(DevicePointer *pointer, size_t bytes) {
  note("cuMemAlloc " + std::to_string(bytes));
  *pointer = 4096;
  return resultOf("cuMemAlloc");
}

Result cuMemFree_v2(DevicePointer pointer) {
  note("cuMemFree " + std::to_string(pointer));
  return resultOf("cuMemFree");
}

Result cuMemcpyHtoDAsync_v2(DevicePointer target, const void *, size_t bytes,
                            Stream) {
  note("cuMemcpyHtoDAsync " + std::to_string(target) + " " +
       std::to_string(bytes));
  return resultOf("cuMemcpyHtoDAsync");
}

Result cuMemcpyDtoHAsync_v2(void *, DevicePointer source, size_t bytes,
                            Stream) {
  note("cuMemcpyDtoHAsync " + std::to_string(source) + " " +
       std::to_string(bytes));
  return resultOf("cuMemcpyDtoHAsync");
}

Result cuStreamSynchronize(Stream) {
  note("cuStreamSynchronize");
  return resultOf("cuStreamSynchronize");
}

Result cuTensorMapEncodeTiled(void *map, TensorMapDataType type, uint32_t rank,
                              void *, const uint64_t *dims,
                              const uint64_t *strides, const uint32_t *box,
                              const uint32_t *elementStrides, int interleave,
                              int swizzle, int l2Promotion,
                              int outOfBoundsFill) {
  char text[256];
  snprintf(text, sizeof(text),
           "cuTensorMapEncodeTiled type %d rank %u dims %llu %llu stride %llu "
           "box %u %u steps %u interleave %d swizzle %d l2 %d fill %d",
           type, rank, static_cast<unsigned long long>(dims[0]),
           static_cast<unsigned long long>(dims[1]),
           static_cast<unsigned long long>(strides[0]), box[0], box[1],
           elementStrides[0], interleave, swizzle, l2Promotion,
           outOfBoundsFill);
  note(text);
  memset(map, 0x5a, 128);
  return resultOf("cuTensorMapEncodeTiled");
}

} // extern "C"
