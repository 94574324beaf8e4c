//===- Parts.cpp - What of a module is compiled apart -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Parts.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Instructions.h"
#include "llvm/Transforms/Utils/ModuleUtils.h"

using namespace mlir::moe;

/// A body of fewer instructions is not worth a part, and may be inlined into
/// the loop that calls it where there is no runtime.
static constexpr unsigned kMinInstructions = 500;

//===----------------------------------------------------------------------===//
// Who uses what
//===----------------------------------------------------------------------===//

using Globals = llvm::SmallSetVector<llvm::GlobalObject *, 8>;

/// Adds the functions and variables that `value` holds.
static void collect(llvm::Value *value, Globals &used) {
  if (auto *global = llvm::dyn_cast<llvm::GlobalObject>(value))
    used.insert(global);
  else if (auto *constant = llvm::dyn_cast<llvm::Constant>(value))
    for (llvm::Use &operand : constant->operands())
      collect(operand, used);
}

/// The functions and variables that a definition names.
static Globals getUsed(llvm::GlobalObject &global) {
  Globals used;
  if (auto *variable = llvm::dyn_cast<llvm::GlobalVariable>(&global)) {
    if (variable->hasInitializer())
      collect(variable->getInitializer(), used);
    return used;
  }
  for (llvm::Instruction &instruction :
       llvm::instructions(llvm::cast<llvm::Function>(global)))
    for (llvm::Use &operand : instruction.operands())
      if (llvm::isa<llvm::Constant>(operand))
        collect(operand, used);
  return used;
}

/// Whether a function can be compiled apart, and is worth it. What has its
/// address does not know more about it than its type.
static bool isUnit(const llvm::Function &function) {
  return function.hasLocalLinkage() && !function.isDeclaration() &&
         function.hasAddressTaken(
             /*PutOffender=*/nullptr, /*IgnoreCallbackUses=*/false,
             /*IgnoreAssumeLikeCalls=*/true, /*IngoreLLVMUsed=*/true) &&
         function.getInstructionCount() >= kMinInstructions;
}

//===----------------------------------------------------------------------===//
// Cutting
//===----------------------------------------------------------------------===//

namespace {

/// Which part has what.
class Cut {
public:
  /// One that `isWhole` stays so.
  Cut(llvm::Module &module, bool isWhole);

  llvm::SmallVector<ModulePart> takeParts() { return std::move(parts); }

private:
  /// Finds what `part` uses, from its functions on and through local ones.
  void follow(unsigned part, llvm::ArrayRef<llvm::GlobalObject *> roots);
  /// Finds the part of a function.
  void define(llvm::Function &function);
  void shareIfUsedElsewhere(llvm::GlobalObject &global, unsigned owner);

  llvm::SmallVector<ModulePart> parts;
  /// The part of each unit.
  llvm::DenseMap<llvm::GlobalObject *, unsigned> unitParts;
  /// The parts that use a function or variable, in order.
  llvm::DenseMap<llvm::GlobalObject *, llvm::SmallVector<unsigned, 2>> users;
};

} // namespace

/// Lets all parts use a value that was local.
static void share(llvm::GlobalObject &global) {
  if (!global.hasLocalLinkage())
    return;
  if (!global.hasName())
    global.setName("moe.shared");
  global.setLinkage(llvm::GlobalValue::ExternalLinkage);
  global.setVisibility(llvm::GlobalValue::HiddenVisibility);
}

Cut::Cut(llvm::Module &module, bool isWhole) {
  llvm::SmallVector<llvm::GlobalObject *> units, roots;
  for (llvm::Function &function : module)
    if (!isWhole && isUnit(function))
      units.push_back(&function);
    else if (!function.isDeclaration() && !function.hasLocalLinkage())
      roots.push_back(&function);
  for (llvm::GlobalVariable &variable : module.globals())
    roots.push_back(&variable);

  parts.resize(1 + units.size());
  for (auto [i, unit] : llvm::enumerate(units))
    unitParts[unit] = 1 + i;
  follow(0, roots);
  for (auto [i, unit] : llvm::enumerate(units))
    follow(1 + i, unit);
  for (llvm::Function &function : module)
    if (!function.isDeclaration())
      define(function);
  for (llvm::GlobalVariable &variable : module.globals())
    shareIfUsedElsewhere(variable, /*owner=*/0);
  // What code generation calls is used wherever it is needed.
  llvm::SmallVector<llvm::GlobalValue *> kept;
  llvm::collectUsedGlobalVariables(module, kept, /*CompilerUsed=*/true);
  for (llvm::GlobalValue *value : kept)
    if (parts.size() > 1)
      share(*llvm::cast<llvm::GlobalObject>(value));
}

void Cut::follow(unsigned part, llvm::ArrayRef<llvm::GlobalObject *> roots) {
  Globals reached;
  reached.insert_range(roots);
  for (size_t i = 0; i < reached.size(); ++i) {
    llvm::GlobalObject *global = reached[i];
    users[global].push_back(part);
    auto unit = unitParts.find(global);
    bool isOthers = unit != unitParts.end() && unit->second != part;
    if (!isOthers && !global->isDeclaration())
      reached.insert_range(getUsed(*global));
  }
}

void Cut::define(llvm::Function &function) {
  llvm::ArrayRef<unsigned> usedBy = users[&function];
  unsigned owner = 0;
  if (auto unit = unitParts.find(&function); unit != unitParts.end())
    owner = unit->second;
  else if (function.hasLocalLinkage() && usedBy.size() == 1)
    owner = usedBy.front();
  parts[owner].defined.insert(function.getName());
  parts[owner].numInstructions += function.getInstructionCount();

  bool mayBeInlined = function.hasLocalLinkage() &&
                      function.getInstructionCount() < kMinInstructions;
  for (unsigned user : usedBy)
    if (user != owner && mayBeInlined)
      parts[user].seen.insert(function.getName());
  shareIfUsedElsewhere(function, owner);
}

void Cut::shareIfUsedElsewhere(llvm::GlobalObject &global, unsigned owner) {
  if (llvm::any_of(users[&global],
                   [&](unsigned user) { return user != owner; }))
    share(global);
}

llvm::SmallVector<ModulePart> mlir::moe::cutIntoParts(llvm::Module &module) {
  // Nothing of ours has what only a whole module can have; but if one had, it
  // would be compiled as a whole.
  bool isWhole = !module.getModuleInlineAsm().empty() ||
                 !module.alias_empty() || !module.ifunc_empty();
  return Cut(module, isWhole).takeParts();
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

/// Leaves the variables to the first part. What constants hold is known
/// nonetheless.
static void leaveVariables(llvm::Module &module) {
  for (auto &variable : llvm::make_early_inc_range(module.globals())) {
    if (variable.isDeclaration())
      continue;
    if (variable.hasAppendingLinkage()) { // Such as llvm.compiler.used.
      variable.eraseFromParent();
      continue;
    }
    if (variable.isConstant() && variable.hasHiddenVisibility()) {
      variable.setLinkage(llvm::GlobalValue::AvailableExternallyLinkage);
      continue;
    }
    variable.setInitializer(nullptr);
    variable.setLinkage(llvm::GlobalValue::ExternalLinkage);
  }
}

llvm::Expected<std::unique_ptr<llvm::Module>>
mlir::moe::readPart(llvm::MemoryBufferRef bitcode, const ModulePart &part,
                    bool isFirst, llvm::LLVMContext &context) {
  // Only the bodies that stay are read.
  auto module = llvm::getLazyBitcodeModule(bitcode, context);
  if (!module)
    return module.takeError();
  for (llvm::Function &function : **module) {
    if (function.isDeclaration() || part.defined.contains(function.getName()))
      continue;
    if (part.seen.contains(function.getName()))
      function.setLinkage(llvm::GlobalValue::AvailableExternallyLinkage);
    else
      function.deleteBody();
  }
  if (!isFirst)
    leaveVariables(**module);
  if (llvm::Error error = (*module)->materializeAll())
    return std::move(error);
  return module;
}
