//===- DeviceCall.cpp - Calls a layer on an NVIDIA GPU ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DeviceCall.h"

#include "moe/Runtime/CUDA.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;

/// What a function of the run time returned, as an error.
static Error toError(int32_t status) {
  if (status == MOE_CUDA_OK)
    return Error::success();
  return llvm::createStringError(StringRef(moe_cuda_error()));
}

llvm::Expected<std::string> mlir::moe::findDeviceChip() {
  moe_cuda_device device;
  if (Error error = toError(moe_cuda_get_device(&device)))
    return llvm::createStringError("--device=cuda: " +
                                   llvm::toString(std::move(error)));
  int32_t arch = 10 * device.major + device.minor;
  // Instructions that are on no other device.
  if (arch == 90)
    return "sm_90a";
  // The newest that it runs; of sm_100 to sm_119 that is sm_90, as PTX.
  constexpr std::pair<int32_t, StringRef> chips[] = {{120, "sm_120"},
                                                     {90, "sm_90"},
                                                     {89, "sm_89"},
                                                     {86, "sm_86"},
                                                     {80, "sm_80"}};
  for (auto [least, chip] : chips)
    if (arch >= least)
      return chip.str();
  return llvm::createStringError(
      "--device=cuda: the device is sm_" + Twine(arch) +
      ", and kernels are made for sm_80 and later; run on the CPU");
}

namespace {

/// Memory of the GPU.
class DeviceBuffer {
public:
  static llvm::Expected<DeviceBuffer> allocate(size_t bytes) {
    DeviceBuffer buffer;
    if (Error error = toError(moe_cuda_allocate(&buffer.memory, bytes)))
      return std::move(error);
    return buffer;
  }
  DeviceBuffer(DeviceBuffer &&other)
      : memory(std::exchange(other.memory, nullptr)) {}
  DeviceBuffer &operator=(DeviceBuffer &&) = delete;
  ~DeviceBuffer() { moe_cuda_free(memory); }

  void *get() const { return memory; }

private:
  DeviceBuffer() = default;
  void *memory = nullptr;
};

} // namespace

Error mlir::moe::callOnDevice(const Engine &engine,
                              ArrayRef<HostTensor> arguments,
                              MutableArrayRef<HostTensor> results) {
  std::vector<DeviceBuffer> buffers;
  std::vector<moe_tensor> tensors;
  auto add = [&](const HostTensor &tensor) -> Error {
    auto buffer = DeviceBuffer::allocate(tensor.getByteSize());
    if (!buffer)
      return buffer.takeError();
    buffers.push_back(std::move(*buffer));
    tensors.push_back(tensor.getCTensor());
    tensors.back().data = buffers.back().get();
    return Error::success();
  };
  for (const HostTensor &argument : arguments) {
    if (Error error = add(argument))
      return error;
    if (Error error = toError(
            moe_cuda_upload(buffers.back().get(), argument.getData(),
                            argument.getByteSize(), /*stream=*/nullptr)))
      return error;
  }
  for (const HostTensor &result : results)
    if (Error error = add(result))
      return error;
  SmallVector<const moe_tensor *> pointers;
  for (const moe_tensor &tensor : tensors)
    pointers.push_back(&tensor);

  size_t workspaceBytes = engine.getWorkspaceBytes(pointers);
  auto workspace = DeviceBuffer::allocate(workspaceBytes);
  if (!workspace)
    return workspace.takeError();
  if (Error error = engine.callOnDevice(pointers, workspace->get(),
                                        workspaceBytes, /*stream=*/nullptr))
    return error;
  for (auto [i, result] : llvm::enumerate(results)) {
    MutableArrayRef<uint8_t> bytes = result.getMutableBytes();
    if (Error error = toError(
            moe_cuda_download(bytes.data(), buffers[arguments.size() + i].get(),
                              bytes.size(), /*stream=*/nullptr)))
      return error;
  }
  return toError(moe_cuda_synchronize(/*stream=*/nullptr));
}
