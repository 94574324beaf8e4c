//===- Fiber.h - Stacks that one OS thread switches between -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATION_FIBER_H
#define MOE_LIB_EMULATION_FIBER_H

#include <cstddef>
#include <vector>

namespace moe::emulation {

/// A stack with a guard page below it.
struct Stack {
  char *bottom = nullptr;
  size_t bytes = 0;
};

/// Stacks are expensive to map and cheap to use again.
class StackPool {
public:
  ~StackPool();
  Stack take();
  void giveBack(Stack stack) { free.push_back(stack); }

private:
  std::vector<Stack> free;
};

/// One thread of control. `resume` runs it until it calls `suspend` or its
/// function ends; both are called on the one OS thread that made it.
class Fiber {
public:
  using Function = void (*)(void *argument);

  void start(Stack stack, Function function, void *argument);
  void resume();
  /// Back to whoever resumed this fiber.
  void suspend();

  const Stack &getStack() const { return stack; }

private:
  static void enter();

  Stack stack;
  Function function = nullptr;
  void *argument = nullptr;
  void *own = nullptr;     // saved stack pointer, or ucontext_t
  void *resumer = nullptr; // the same of whoever resumed it
};

} // namespace moe::emulation

#endif // MOE_LIB_EMULATION_FIBER_H
