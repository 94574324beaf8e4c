//===- Format.h - Text as printf makes it ---------------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATION_FORMAT_H
#define MOE_LIB_EMULATION_FORMAT_H

#include <cstdarg>
#include <string>

namespace moe::emulation {

/// At most 1023 bytes.
std::string format(const char *text, va_list arguments);
__attribute__((format(printf, 1, 2))) std::string format(const char *text, ...);

} // namespace moe::emulation

#endif // MOE_LIB_EMULATION_FORMAT_H
