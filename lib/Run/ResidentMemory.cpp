//===- ResidentMemory.cpp - What a process keeps in memory ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/ResidentMemory.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

using namespace llvm;

/// The number before "kB" in a line of /proc that starts with `name`.
static std::optional<uint64_t> parseKiloBytes(StringRef line, StringRef name) {
  uint64_t number;
  if (!line.consume_front(name) || !line.consume_back("kB") ||
      line.trim().getAsInteger(10, number))
    return std::nullopt;
  return number;
}

uint64_t mlir::moe::getPeakResidentBytes() {
#ifdef __linux__
  // getrusage would count what the parent had when it made this process.
  if (auto status = MemoryBuffer::getFileAsStream("/proc/self/status"))
    for (StringRef line : split((*status)->getBuffer(), '\n'))
      if (std::optional<uint64_t> number = parseKiloBytes(line, "VmHWM:"))
        return *number * 1024;
#endif
  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0)
    return 0;
#ifdef __APPLE__
  return usage.ru_maxrss;
#else
  return uint64_t(usage.ru_maxrss) * 1024;
#endif
}

uint64_t mlir::moe::getPhysicalMemoryBytes() {
  long pages = sysconf(_SC_PHYS_PAGES), pageBytes = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && pageBytes > 0 ? uint64_t(pages) * pageBytes : 0;
}

#ifdef __linux__
namespace {
/// A mapping that /proc/self/smaps describes.
struct Mapping {
  uint64_t begin = 0, end = 0;
  bool isReadOnlyFile = false;
};
} // namespace

/// Reads "7f12...-7f13... r-xp 00000000 fe:00 1234   /usr/lib/libLLVM.so"; none
/// for the lines below it, which have no address.
static std::optional<Mapping> parseMapping(StringRef line) {
  SmallVector<StringRef, 6> fields;
  line.split(fields, ' ', /*MaxSplit=*/5, /*KeepEmpty=*/false);
  Mapping mapping;
  auto [begin, end] =
      fields.empty() ? std::pair<StringRef, StringRef>() : fields[0].split('-');
  if (begin.getAsInteger(16, mapping.begin) ||
      end.getAsInteger(16, mapping.end) || fields.size() < 5)
    return std::nullopt;
  mapping.isReadOnlyFile = !fields[1].contains('w') && fields.size() == 6 &&
                           fields[5].trim().starts_with("/");
  return mapping;
}

/// Drops the pages of files that nobody has written to: code and constants.
/// What the loader has relocated is anonymous memory, and stays.
static void dropUnchangedFiles(StringRef smaps) {
  Mapping current;
  for (StringRef line : split(smaps, '\n')) {
    if (std::optional<Mapping> mapping = parseMapping(line))
      current = *mapping;
    if (current.isReadOnlyFile && parseKiloBytes(line, "Anonymous:") == 0)
      madvise(reinterpret_cast<void *>(current.begin),
              current.end - current.begin, MADV_DONTNEED);
  }
}
#endif

void mlir::moe::releaseCompilerMemory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
#ifdef __linux__
  if (auto smaps = MemoryBuffer::getFileAsStream("/proc/self/smaps"))
    dropUnchangedFiles((*smaps)->getBuffer());
#endif
}
