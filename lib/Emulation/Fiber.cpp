//===- Fiber.cpp - Stacks that one OS thread switches between -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

static constexpr size_t kStackBytes = 128 << 10;

using namespace moe::emulation;

StackPool::~StackPool() {
  for (Stack stack : free)
    munmap(stack.bottom - getpagesize(), stack.bytes + getpagesize());
}

Stack StackPool::take() {
  if (!free.empty()) {
    Stack stack = free.back();
    free.pop_back();
    return stack;
  }
  size_t guard = getpagesize();
  void *memory = mmap(nullptr, kStackBytes + guard, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE)) {
    perror("emulation: no memory for the stack of a thread");
    exit(1);
  }
  return {static_cast<char *>(memory) + guard, kStackBytes};
}

// The fiber that is being started. `enter` has no argument to find it by.
static Fiber *starting;

#if defined(__x86_64__)

// Saves what the calling convention keeps and changes stacks. swapcontext would
// also ask the kernel for the signal mask, which costs ten times as much.
extern "C" void moe_emu_switch(void **save, void *load);
asm(R"(
.text
.p2align 4
.globl moe_emu_switch
.hidden moe_emu_switch
.type moe_emu_switch, @function
moe_emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size moe_emu_switch, .-moe_emu_switch
)");

static void prepare(Stack stack, void (*enter)(), void *&context) {
  auto *top = reinterpret_cast<uintptr_t *>(stack.bottom + stack.bytes);
  // Six registers and the address to return to; 0 above it ends a backtrace.
  // The stack is 16-byte aligned before a call, so 8 off where a function
  // starts.
  *--top = 0;
  *--top = reinterpret_cast<uintptr_t>(enter);
  top -= 6;
  memset(top, 0, 6 * sizeof(*top));
  context = top;
}

static void changeTo(void *&save, void *load) { moe_emu_switch(&save, load); }

#else

static void prepare(Stack stack, void (*enter)(), void *&context) {
  auto *made = new ucontext_t; // kept for as long as the fiber is used
  getcontext(made);
  made->uc_stack.ss_sp = stack.bottom;
  made->uc_stack.ss_size = stack.bytes;
  made->uc_link = nullptr;
  makecontext(made, enter, 0);
  context = made;
}

static void changeTo(void *&save, void *load) {
  if (!save)
    save = new ucontext_t;
  swapcontext(static_cast<ucontext_t *>(save), static_cast<ucontext_t *>(load));
}

#endif

void Fiber::start(Stack newStack, Function newFunction, void *newArgument) {
  stack = newStack;
  function = newFunction;
  argument = newArgument;
  prepare(stack, enter, own);
}

void Fiber::enter() {
  Fiber *fiber = starting;
  fiber->function(fiber->argument);
  fiber->suspend();
  abort(); // nobody resumes it
}

void Fiber::resume() {
  starting = this;
  changeTo(resumer, own);
}

void Fiber::suspend() { changeTo(own, resumer); }
