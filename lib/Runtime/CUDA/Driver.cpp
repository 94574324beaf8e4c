//===- Driver.cpp - Opening the CUDA driver -------------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"

#include "moe/Runtime/CUDA.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <pthread.h>

using namespace moe::cuda;

// This file and its neighbours are linked into shared objects of moe-compile,
// which need nothing but the C library: so nothing of C++'s is used.

static constexpr size_t kErrorBytes = 2048;
static pthread_once_t errorOnce = PTHREAD_ONCE_INIT;
static pthread_key_t errorKey;
static bool hasErrorKey = false;

static void makeErrorKey() {
  hasErrorKey = pthread_key_create(&errorKey, free) == 0;
}

/// This thread's text, null if it has none (yet).
static char *findError() {
  pthread_once(&errorOnce, makeErrorKey);
  return hasErrorKey ? static_cast<char *>(pthread_getspecific(errorKey))
                     : nullptr;
}

const char *moe_cuda_error(void) {
  const char *text = findError();
  return text ? text : "";
}

int32_t moe::cuda::fail(int32_t status, const char *format, ...) {
  char *text = findError();
  if (!text && hasErrorKey) {
    text = static_cast<char *>(malloc(kErrorBytes));
    pthread_setspecific(errorKey, text);
  }
  if (!text)
    return status;
  // Aside: an argument may be the last text.
  char fresh[kErrorBytes];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(fresh, sizeof(fresh), format, arguments);
  va_end(arguments);
  memcpy(text, fresh, sizeof(fresh));
  return status;
}

int32_t moe::cuda::failDriver(const Driver &driver, Result result,
                              const char *what) {
  const char *name = nullptr, *text = nullptr;
  driver.cuGetErrorName(result, &name);
  driver.cuGetErrorString(result, &text);
  return fail(result, "%s: %s (%s)", what, name ? name : "unknown error",
              text ? text : "the driver has no text for it");
}

/// For tests, which have a driver of their own.
static const char *libraryName() {
  const char *other = getenv("MOE_CUDA_DRIVER");
  return other && *other ? other : "libcuda.so.1";
}

template <typename Fn>
static bool find(void *library, const char *name, Fn &function) {
  function = reinterpret_cast<Fn>(dlsym(library, name));
  if (function)
    return true;
  fail(MOE_CUDA_OLD_DRIVER,
       "the CUDA driver (%s) has no %s: it is older than CUDA 12; update the "
       "NVIDIA driver",
       libraryName(), name);
  return false;
}

static bool findAll(void *library, Driver &driver) {
#define FIND(name)                                                             \
  if (!find(library, #name, driver.name))                                      \
    return false;
  FIND(cuInit)
  FIND(cuGetErrorName)
  FIND(cuGetErrorString)
  FIND(cuCtxGetCurrent)
  FIND(cuCtxSetCurrent)
  FIND(cuCtxGetId)
  FIND(cuCtxGetDevice)
  FIND(cuDeviceGet)
  FIND(cuDevicePrimaryCtxRetain)
  FIND(cuDeviceGetAttribute)
  FIND(cuModuleLoadDataEx)
  FIND(cuModuleUnload)
  FIND(cuModuleGetFunction)
  FIND(cuFuncSetAttribute)
  FIND(cuOccupancyMaxActiveBlocksPerMultiprocessor)
  FIND(cuLaunchKernelEx)
  FIND(cuTensorMapEncodeTiled)
  FIND(cuMemAlloc_v2)
  FIND(cuMemFree_v2)
  FIND(cuMemcpyHtoDAsync_v2)
  FIND(cuMemcpyDtoHAsync_v2)
  FIND(cuStreamSynchronize)
#undef FIND
  return true;
}

static pthread_mutex_t driverMutex = PTHREAD_MUTEX_INITIALIZER;
static Driver driver;
static bool open = false;

const Driver *moe::cuda::openDriver(int32_t &status) {
  Lock lock(driverMutex);
  status = MOE_CUDA_OK;
  if (open)
    return &driver;
  void *library = dlopen(libraryName(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *reason = dlerror();
    status =
        fail(MOE_CUDA_NO_DRIVER,
             "the CUDA driver '%s' cannot be opened: %s; install the NVIDIA "
             "driver, or run on the CPU",
             libraryName(), reason ? reason : "no reason given");
    return nullptr;
  }
  if (!findAll(library, driver)) {
    dlclose(library);
    status = MOE_CUDA_OLD_DRIVER;
    return nullptr;
  }
  if (Result result = driver.cuInit(0)) {
    status = failDriver(driver, result, "cuInit");
    dlclose(library);
    return nullptr;
  }
  open = true; // and stays so: kernels may be running until the process ends
  return &driver;
}
