//===- LayerFile.cpp - Reads a layer from a file ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/LayerFile.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/AsmParser/AsmParserState.h"
#include "mlir/Bytecode/BytecodeReader.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Support/FileUtilities.h"
#include "moe/Target/EntrySignature.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace mlir::moe;

/// The name of an argument without '%'; empty for a number, which says nothing.
static StringRef getTextName(const AsmParserState::SMDefinition &definition) {
  if (!definition.loc.isValid())
    return {};
  StringRef text(definition.loc.Start.getPointer(),
                 definition.loc.End.getPointer() -
                     definition.loc.Start.getPointer());
  if (!text.consume_front("%") || text.empty())
    return {};
  return llvm::isDigit(text.front()) ? StringRef() : text;
}

/// Writes the names of the text into `moe.name` where it is missing, unless
/// another argument or result has been given that name.
static void nameArguments(func::FuncOp func, const AsmParserState &state) {
  const AsmParserState::BlockDefinition *block =
      state.getBlockDef(&func.getBody().front());
  if (!block)
    return;
  llvm::StringSet<> given;
  auto collect = [&](DictionaryAttr attrs) {
    if (attrs)
      if (auto name = attrs.getAs<StringAttr>(kNameAttr))
        given.insert(name.getValue());
  };
  for (unsigned i = 0, e = func.getNumArguments(); i < e; ++i)
    collect(func.getArgAttrDict(i));
  for (unsigned i = 0, e = func.getNumResults(); i < e; ++i)
    collect(func.getResultAttrDict(i));

  for (auto [i, definition] : llvm::enumerate(block->arguments)) {
    StringRef name = getTextName(definition);
    if (i < func.getNumArguments() && !name.empty() &&
        !func.getArgAttr(i, kNameAttr) && !given.contains(name))
      func.setArgAttr(i, kNameAttr, StringAttr::get(func.getContext(), name));
  }
}

OwningOpRef<ModuleOp> mlir::moe::parseLayerFile(StringRef path,
                                                llvm::SourceMgr &sourceMgr,
                                                MLIRContext *context) {
  assert(sourceMgr.getNumBuffers() == 0 && "the parser reads the first file");
  std::string message;
  std::unique_ptr<llvm::MemoryBuffer> file = openInputFile(path, &message);
  Location loc = FileLineColLoc::get(context, path, 0, 0);
  if (!file) {
    emitError(loc) << message;
    return {};
  }
  bool isText = !isBytecode(*file);
  sourceMgr.AddNewSourceBuffer(std::move(file), SMLoc());

  Block block;
  AsmParserState state;
  ParserConfig config(context);
  LogicalResult parsed =
      isText ? parseAsmSourceFile(sourceMgr, &block, config, &state)
             : parseSourceFile(sourceMgr, &block, config);
  if (failed(parsed))
    return {};
  auto module =
      mlir::detail::constructContainerOpForParserIfNecessary<ModuleOp>(
          &block, context, loc);
  if (module && isText)
    for (auto func : module->getOps<func::FuncOp>())
      if (func.isPublic() && !func.isExternal())
        nameArguments(func, state);
  return module;
}
