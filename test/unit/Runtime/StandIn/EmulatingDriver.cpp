//===- EmulatingDriver.cpp - A CUDA driver whose GPU is the emulation -----===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Lets a compiled layer run where no GPU is: modules are loaded as ever, but a
// launch runs the kernel of the same name of a library that moe-emulate-nvvm
// made of the same layer. Memory of the device is the host's; kernels may touch
// what cuMemAlloc gave, and nothing else.
//
//   MOE_EMULATED_KERNELS  the library, with moe_emu_kernel_NAME of each kernel;
//                         {arch} in it is that of the code that was loaded, so
//                         that what runs is what the layer chose
//   MOE_EMULATED_CHIP     the compute capability times 10 (default: 80)
//   MOE_EMULATED_SEED     draws the order of threads (default: 1)
//   MOE_EMULATED_LOG      a file that gets a line for each module and launch
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "moe/Emulation/Emulation.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>
#include <vector>

using namespace moe::cuda;

enum : Result {
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNoBinaryForGPU = 209,
  kInvalidPTX = 218,
  kNotFound = 500,
  kIllegalAddress = 700,
};

static std::mutex mutex;
static std::map<char *, size_t> allocations;
static std::string failure;

static const char *getSetting(const char *name, const char *other) {
  const char *value = getenv(name);
  return value && *value ? value : other;
}

static int getChip() { return atoi(getSetting("MOE_EMULATED_CHIP", "80")); }

static Result refuse(Result result, const std::string &why) {
  failure = why;
  return result;
}

/// Adds a line to the log, if there is to be one.
template <typename... Args>
static void note(const char *format, Args... args) {
  const char *path = getSetting("MOE_EMULATED_LOG", nullptr);
  FILE *log = path ? fopen(path, "a") : nullptr;
  if (!log)
    return;
  fprintf(log, format, args...);
  fclose(log);
}

/// A module: the names that its PTX has, or all of a cubin.
struct moe::cuda::ModuleObject {
  std::string ptx;
  int arch;
};

/// The chip that a cubin is for: in the flags of its ELF header.
static int getArchOfCubin(const void *image) {
  constexpr size_t kFlags = 48;
  return static_cast<const unsigned char *>(image)[kFlags + 1];
}

/// The library to launch from: the setting, with the loaded code's chip in it.
static std::string getLibrary(int arch) {
  std::string path = getSetting("MOE_EMULATED_KERNELS", "");
  const std::string place = "{arch}";
  if (size_t at = path.find(place); at != std::string::npos)
    path.replace(at, place.size(), std::to_string(arch));
  return path;
}

extern "C" {

Result cuInit(unsigned) { return 0; }

Result cuGetErrorName(Result error, const char **name) {
  *name = error == kIllegalAddress   ? "CUDA_ERROR_ILLEGAL_ADDRESS"
          : error == kOutOfMemory    ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == kNoBinaryForGPU ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
                                     : "CUDA_ERROR_OF_THE_EMULATION";
  return 0;
}

Result cuGetErrorString(Result, const char **text) {
  *text = failure.c_str();
  return 0;
}

Result cuCtxGetCurrent(Context *context) {
  *context = reinterpret_cast<Context>(8);
  return 0;
}
Result cuCtxSetCurrent(Context) { return 0; }
Result cuCtxGetId(Context, unsigned long long *id) {
  *id = 1;
  return 0;
}
Result cuCtxGetDevice(Device *device) {
  *device = 0;
  return 0;
}
Result cuDeviceGet(Device *device, int) {
  *device = 0;
  return 0;
}
Result cuDevicePrimaryCtxRetain(Context *context, Device) {
  return cuCtxGetCurrent(context);
}

Result cuDeviceGetAttribute(int *value, DeviceAttribute attribute, Device) {
  int chip = getChip();
  switch (attribute) {
  case kMultiprocessorCount:
    *value = 4;
    return 0;
  case kComputeCapabilityMajor:
    *value = chip / 10;
    return 0;
  case kComputeCapabilityMinor:
    *value = chip % 10;
    return 0;
  case kMaxSharedMemoryPerBlockOptin:
    *value = (chip == 80 ? 163 : chip >= 90 && chip < 120 ? 227 : 99) << 10;
    return 0;
  }
  return refuse(kInvalidValue, "an attribute that nobody asks for");
}

/// As the driver, takes PTX for chips up to its own, for "a" only its own, and
/// cubins of its major version that are not newer.
Result cuModuleLoadDataEx(Module *module, const void *image, unsigned,
                          JitOption *, void **) {
  const char *text = static_cast<const char *>(image);
  bool isELF = memcmp(image,
                      "\x7f"
                      "ELF",
                      4) == 0;
  int arch = 0;
  if (isELF) {
    arch = getArchOfCubin(image);
    note("loads a cubin for sm_%d\n", arch);
    if (arch / 10 != getChip() / 10 || arch > getChip())
      return refuse(kNoBinaryForGPU, "a cubin for another device");
  } else {
    const char *target = strstr(text, ".target sm_");
    if (!target)
      return refuse(kInvalidPTX, "neither a cubin nor PTX");
    char *end = nullptr;
    arch = static_cast<int>(
        strtol(target + strlen(".target sm_"), &end, /*base=*/10));
    note("loads PTX for sm_%d%s\n", arch, *end == 'a' ? "a" : "");
    if (arch > getChip() || (*end == 'a' && arch != getChip()))
      return refuse(kNoBinaryForGPU, "PTX for another device");
  }
  *module = new ModuleObject{isELF ? std::string() : std::string(text), arch};
  return 0;
}

Result cuModuleUnload(Module module) {
  delete module;
  return 0;
}

Result cuModuleGetFunction(Function *function, Module module,
                           const char *name) {
  if (!module->ptx.empty() && module->ptx.find(".entry " + std::string(name) +
                                               "(") == std::string::npos)
    return refuse(kNotFound, std::string("the PTX has no entry ") + name);
  std::string path = getLibrary(module->arch);
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return refuse(kNotFound, dlerror());
  std::string symbol = std::string("moe_emu_kernel_") + name;
  void *kernel = dlsym(library, symbol.c_str());
  if (!kernel)
    return refuse(kNotFound, path + " has no kernel " + name);
  *function = static_cast<Function>(kernel);
  return 0;
}

Result cuFuncSetAttribute(Function, FunctionAttribute, int) { return 0; }

Result cuMemAlloc_v2(DevicePointer *pointer, size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex);
  constexpr size_t alignment = 256;
  size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  auto *memory = static_cast<char *>(aligned_alloc(alignment, rounded));
  if (!memory)
    return refuse(kOutOfMemory, "no memory");
  memset(memory, 0xff, rounded); // NaN, and ids that are no ids
  allocations[memory] = bytes;
  *pointer = reinterpret_cast<DevicePointer>(memory);
  return 0;
}

Result cuMemFree_v2(DevicePointer pointer) {
  std::lock_guard<std::mutex> lock(mutex);
  auto *memory = reinterpret_cast<char *>(pointer);
  if (!allocations.erase(memory))
    return refuse(kInvalidValue, "memory that was not allocated is freed");
  free(memory);
  return 0;
}

/// Whether the device may touch these bytes.
static bool isInside(const char *first, size_t bytes) {
  auto next = allocations.upper_bound(const_cast<char *>(first));
  if (next == allocations.begin())
    return false;
  const auto &[begin, size] = *--next;
  return first + bytes <= begin + size;
}

Result cuMemcpyHtoDAsync_v2(DevicePointer target, const void *source,
                            size_t bytes, Stream) {
  std::lock_guard<std::mutex> lock(mutex);
  auto *memory = reinterpret_cast<char *>(target);
  if (!isInside(memory, bytes))
    return refuse(kInvalidValue, "a copy to memory that is not the device's");
  memcpy(memory, source, bytes);
  return 0;
}

Result cuMemcpyDtoHAsync_v2(void *target, DevicePointer source, size_t bytes,
                            Stream) {
  std::lock_guard<std::mutex> lock(mutex);
  auto *memory = reinterpret_cast<const char *>(source);
  if (!isInside(memory, bytes))
    return refuse(kInvalidValue, "a copy of memory that is not the device's");
  memcpy(target, memory, bytes);
  return 0;
}

Result cuStreamSynchronize(Stream) { return 0; }

/// A multiprocessor of this GPU has room for two blocks.
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Function, int,
                                                   size_t) {
  *blocks = 2;
  return 0;
}

Result cuLaunchKernelEx(const LaunchConfig *config, Function function,
                        void **args, void **) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto *kernel = reinterpret_cast<const MoEEmuKernel *>(function);
  bool cooperative = false;
  for (unsigned i = 0; i < config->numAttributes; ++i)
    cooperative |= config->attributes[i].id == kCooperative;
  note("%s: %u blocks of %u threads, %u bytes, stream %p%s\n", kernel->name,
       config->gridDim[0], config->blockDim[0], config->sharedMemBytes,
       static_cast<void *>(config->stream), cooperative ? ", cooperative" : "");
  std::vector<MoEEmuBuffer> buffers;
  for (const auto &[memory, bytes] : allocations)
    buffers.push_back({memory, bytes, 1, nullptr});
  MoEEmuLaunch launch = {};
  for (int i = 0; i < 3; ++i) {
    launch.grid[i] = config->gridDim[i];
    launch.block[i] = config->blockDim[i];
  }
  for (unsigned i = 0; i < config->numAttributes; ++i)
    if (config->attributes[i].id == kClusterDimension)
      memcpy(launch.cluster, config->attributes[i].value.clusterDim,
             sizeof(launch.cluster));
  launch.dynamic_shared = config->sharedMemBytes;
  launch.cooperative = cooperative;
  launch.seed = strtoull(getSetting("MOE_EMULATED_SEED", "1"), nullptr, 10);
  launch.buffers = buffers.data();
  launch.num_buffers = static_cast<uint32_t>(buffers.size());
  if (moe_emu_launch(kernel, &launch, args))
    return refuse(kIllegalAddress, moe_emu_error());
  return 0;
}

Result cuTensorMapEncodeTiled(void *map, TensorMapDataType type, uint32_t rank,
                              void *data, const uint64_t *dims,
                              const uint64_t *strides, const uint32_t *box,
                              const uint32_t *elementStrides, int interleave,
                              int swizzle, int, int) {
  if (moe_emu_encode_tensor_map(map, type, rank, data, dims, strides, box,
                                elementStrides, interleave, swizzle))
    return refuse(kInvalidValue, "a tensor map that cannot be");
  return 0;
}

} // extern "C"
