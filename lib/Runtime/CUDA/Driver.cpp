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
#include <dlfcn.h>
#include <mutex>
#include <string>

using namespace moe::cuda;

static std::string &lastError() {
  thread_local std::string text;
  return text;
}

const char *moe_cuda_error(void) { return lastError().c_str(); }

int32_t moe::cuda::fail(int32_t status, const char *format, ...) {
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  lastError() = text;
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
  FIND(cuCtxGetDevice)
  FIND(cuDeviceGet)
  FIND(cuDevicePrimaryCtxRetain)
  FIND(cuDeviceGetAttribute)
  FIND(cuModuleLoadDataEx)
  FIND(cuModuleUnload)
  FIND(cuModuleGetFunction)
  FIND(cuFuncSetAttribute)
  FIND(cuLaunchKernelEx)
  FIND(cuTensorMapEncodeTiled)
#undef FIND
  return true;
}

const Driver *moe::cuda::openDriver(int32_t &status) {
  static std::mutex mutex;
  static Driver driver;
  static bool open = false;
  std::lock_guard<std::mutex> lock(mutex);
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
