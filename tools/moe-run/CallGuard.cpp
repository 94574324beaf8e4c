//===- CallGuard.cpp - Clear ends of generated code -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CallGuard.h"

#include <cstdio>
#include <cstring>
#include <unistd.h>

using namespace mlir::moe;

namespace {
struct Ending {
  int signal;
  const char *message;
};
} // namespace

static constexpr const char *kOutside =
    "the layer reads or writes outside its tensors; --runtime-verification may "
    "tell where";
static constexpr const char *kCheckFailed =
    "a check of --runtime-verification failed (see above)";
/// What the C library aborts for: a heap that was written over, or a check.
static const char *abortMessage = kOutside;

static constexpr Ending kEndings[] = {
    {SIGABRT, nullptr}, // abortMessage
    {SIGILL, "the code uses an instruction that this machine does not have; "
             "leave --target-cpu to 'native', or name an older cpu"},
    {SIGFPE, "the layer divides an integer by zero"},
    {SIGBUS, "a mapped file became shorter while it was used"},
    {SIGSEGV, kOutside},
};

/// Calls nothing that a signal forbids, but for the flush of what an assertion
/// printed: abort() comes right after its puts().
static void endProcess(int signal) {
  if (signal == SIGABRT)
    std::fflush(stdout);
  auto write = [](const char *text) {
    return ::write(STDERR_FILENO, text, std::strlen(text));
  };
  for (const Ending &ending : kEndings) {
    if (ending.signal != signal)
      continue;
    const char *message = ending.message ? ending.message : abortMessage;
    if (write("moe-run: error: ") < 0 || write(message) < 0 || write("\n") < 0)
      break;
  }
  _exit(1);
}

CallGuard::CallGuard(bool hasChecks) {
  abortMessage = hasChecks ? kCheckFailed : kOutside;
  std::fflush(stdout);
  savedOutput = dup(STDOUT_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  struct sigaction action = {};
  action.sa_handler = endProcess;
  for (const Ending &ending : kEndings)
    sigaction(ending.signal, &action, &savedActions.emplace_back());
}

CallGuard::~CallGuard() {
  for (size_t i = 0; i < savedActions.size(); ++i)
    sigaction(kEndings[i].signal, &savedActions[i], nullptr);
  std::fflush(stdout);
  if (savedOutput < 0)
    return;
  dup2(savedOutput, STDOUT_FILENO);
  close(savedOutput);
}
