//===- Layer.cpp - Calls of a layer compiled for GPUs ---------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Runtime/CUDALayer.h"

#include "Driver.h"

#include <cstdio>
#include <cstdlib>

using namespace moe::cuda;

namespace {
/// A program in a context. Contexts are told apart by numbers, which the driver
/// does not use twice; what is loaded goes with its context.
struct Loaded {
  unsigned long long context;
  int32_t image, multiprocessors;
  Loaded *next;
  moe_cuda_kernel **kernels;
};
} // namespace

static pthread_mutex_t loadMutex = PTHREAD_MUTEX_INITIALIZER;

//===----------------------------------------------------------------------===//
// Which image
//===----------------------------------------------------------------------===//

/// How good an image is for a device; 0: it does not run there. A cubin is for
/// devices of its major version that are not older, PTX for all later ones.
static int rate(const moe_cuda_image &image, const moe_cuda_device &device) {
  int32_t arch = 10 * device.major + device.minor;
  for (uint32_t i = 0; i < image.num_kernels; ++i)
    if (image.kernels[i].shared_memory >
        static_cast<uint32_t>(device.shared_memory))
      return 0;
  if (image.only ? arch != image.arch : arch < image.arch)
    return 0;
  bool isSameMajor = image.arch / 10 == device.major;
  if (!image.ptx && !(image.cubin && isSameMajor))
    return 0;
  // The newest, and of two for one device its own.
  return 2 * image.arch + (image.only ? 1 : 0);
}

static int32_t choose(const moe_cuda_program &program,
                      const moe_cuda_device &device, int32_t &chosen) {
  int best = 0;
  for (uint32_t i = 0; i < program.num_images; ++i) {
    int rating = rate(program.images[i], device);
    if (rating <= best)
      continue;
    best = rating;
    chosen = static_cast<int32_t>(i);
  }
  if (best)
    return MOE_CUDA_OK;
  char chips[256] = "";
  size_t length = 0;
  for (uint32_t i = 0; i < program.num_images && length < sizeof(chips); ++i)
    length += snprintf(chips + length, sizeof(chips) - length, "%s%s",
                       i ? ", " : "", program.images[i].chip);
  return fail(MOE_CUDA_NO_IMAGE,
              "layer '%s' was compiled for %s, which does not run on this "
              "device: it is sm_%d%d with %d bytes of shared memory a block; "
              "compile it with --chip=sm_%d%d",
              program.layer, chips, device.major, device.minor,
              device.shared_memory, device.major, device.minor);
}

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

static int32_t findKernels(const moe_cuda_image &image, moe_cuda_module *module,
                           Loaded &loaded) {
  for (uint32_t i = 0; i < image.num_kernels; ++i) {
    const moe_cuda_layer_kernel &kernel = image.kernels[i];
    if (int32_t status =
            moe_cuda_find(&loaded.kernels[i], module, kernel.name,
                          kernel.shared_memory, kernel.large_clusters))
      return status;
  }
  return MOE_CUDA_OK;
}

static int32_t load(const moe_cuda_program &program, Loaded *&result) {
  moe_cuda_device device;
  int32_t chosen = 0;
  if (int32_t status = moe_cuda_get_device(&device))
    return status;
  if (int32_t status = choose(program, device, chosen))
    return status;
  const moe_cuda_image &image = program.images[chosen];
  auto *loaded = static_cast<Loaded *>(calloc(1, sizeof(Loaded)));
  auto **kernels = static_cast<moe_cuda_kernel **>(
      calloc(image.num_kernels + 1, sizeof(moe_cuda_kernel *)));
  if (!loaded || !kernels) {
    free(loaded);
    free(kernels);
    return fail(MOE_CUDA_BAD_ARGUMENT, "layer '%s': no memory to load it",
                program.layer);
  }
  loaded->image = chosen;
  loaded->multiprocessors = device.multiprocessors;
  loaded->kernels = kernels;
  bool hasCubin = image.cubin && image.arch / 10 == device.major;
  moe_cuda_module *module = nullptr;
  int32_t status = moe_cuda_load(&module, hasCubin ? image.cubin : image.ptx);
  if (!status)
    status = findKernels(image, module, *loaded);
  if (status) {
    // The text of the first failure stays, unless this fails as well.
    if (module)
      moe_cuda_unload(module);
    free(kernels);
    free(loaded);
    return status;
  }
  result = loaded;
  return MOE_CUDA_OK;
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

int32_t moe_cuda_begin(moe_cuda_call *call, moe_cuda_program *program,
                       void *stream) {
  *call = moe_cuda_call{stream, nullptr, 0, 0, MOE_CUDA_OK, 0};
  const Driver *driver = enter(call->status);
  if (!driver)
    return call->status;
  Context context = nullptr;
  unsigned long long id = 0;
  Result result = driver->cuCtxGetCurrent(&context);
  if (!result)
    result = driver->cuCtxGetId(context, &id);
  if (result)
    return call->status = failDriver(*driver, result, "cuCtxGetId");

  Lock lock(loadMutex);
  auto *loaded = static_cast<Loaded *>(program->loaded);
  while (loaded && loaded->context != id)
    loaded = loaded->next;
  if (!loaded) {
    call->status = load(*program, loaded);
    if (call->status)
      return call->status;
    loaded->context = id;
    loaded->next = static_cast<Loaded *>(program->loaded);
    program->loaded = loaded;
  }
  call->image = loaded->image;
  call->multiprocessors = loaded->multiprocessors;
  call->kernels = loaded->kernels;
  call->num_kernels = program->images[loaded->image].num_kernels;
  return MOE_CUDA_OK;
}

/// Fills in all that sizes tell. False, with the call failed, if they cannot
/// be.
static bool configure(moe_cuda_call &call, const int64_t *sizes,
                      uint32_t sharedMemory, moe_cuda_launch_config &config) {
  uint32_t *parts[] = {config.grid, config.block, config.cluster};
  for (int i = 0; i < 9; ++i) {
    if (sizes[i] < 0 || sizes[i] > INT32_MAX) {
      call.status =
          fail(MOE_CUDA_BAD_ARGUMENT,
               "a launch of %lld blocks; there may be 2^31 - 1 at most: split "
               "the tokens into several calls",
               static_cast<long long>(sizes[i]));
      return false;
    }
    parts[i / 3][i % 3] = static_cast<uint32_t>(sizes[i]);
  }
  // Blocks that are persistent would only wait for each other.
  if (int64_t most = sizes[9] * call.multiprocessors; most > 0)
    if (config.grid[0] > most)
      config.grid[0] = static_cast<uint32_t>(most);
  config.shared_memory = sharedMemory;
  config.stream = call.stream;
  return true;
}

void moe_cuda_call_kernel(moe_cuda_call *call, uint32_t kernel,
                          const int64_t *sizes, uint32_t sharedMemory,
                          void **args) {
  moe_cuda_launch_config config = {};
  if (call->status || !configure(*call, sizes, sharedMemory, config))
    return;
  auto **kernels = static_cast<moe_cuda_kernel **>(call->kernels);
  call->status = moe_cuda_launch(kernels[kernel], &config, args);
}

/// A number that no call got before, unlike what memory may hold.
static uint64_t drawTicket() {
  // Weyl's sequence, mixed by steps that have inverses: no two are equal.
  static uint64_t state = 0;
  uint64_t x =
      __atomic_add_fetch(&state, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
  x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
  x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
  return x ^ x >> 32;
}

void moe_cuda_call_cooperative(moe_cuda_call *call, uint32_t kernel,
                               const int64_t *sizes, uint32_t sharedMemory,
                               void **args, uint64_t *ticket) {
  moe_cuda_launch_config config = {};
  if (call->status || !configure(*call, sizes, sharedMemory, config))
    return;
  moe_cuda_kernel *launched =
      static_cast<moe_cuda_kernel **>(call->kernels)[kernel];
  int32_t blocks = 0;
  uint32_t threads = config.block[0] * config.block[1] * config.block[2];
  call->status = moe_cuda_occupancy(&blocks, launched, threads, sharedMemory);
  if (call->status)
    return;
  if (blocks < 1) {
    call->status =
        fail(MOE_CUDA_BAD_ARGUMENT,
             "a block of %u threads with %u bytes of shared memory does not "
             "fit on a multiprocessor of this device",
             threads, sharedMemory);
    return;
  }
  uint32_t most = static_cast<uint32_t>(blocks * call->multiprocessors);
  if (config.grid[0] > most)
    config.grid[0] = most;
  config.cooperative = 1;
  *ticket = drawTicket();
  call->status = moe_cuda_launch(launched, &config, args);
}

void moe_cuda_call_encode(moe_cuda_call *call, moe_cuda_tensor_map *map,
                          const moe_cuda_tensor *tensor) {
  if (!call->status)
    call->status = moe_cuda_encode(map, tensor);
}
