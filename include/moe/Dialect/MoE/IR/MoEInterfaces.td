//===- MoEInterfaces.td - Interfaces of attributes -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_INTERFACES_TD
#define MOE_INTERFACES_TD

include "mlir/IR/Interfaces.td"

def MoE_LoweringConfigInterface : AttrInterface<"LoweringConfigInterface"> {
  let cppNamespace = "::mlir::moe";
  let description = [{
    Every decision on how one op runs on one kind of machine. A strategy pass
    writes it, a user can pin it, and the passes after it only read it.
  }];
  let methods = [
    InterfaceMethod<"Whether this says how `op` runs: its kind, not its sizes.",
                    "bool", "configures", (ins "::mlir::Operation *":$op)>
  ];
  let extraSharedClassDeclaration = [{
    /// The attribute's name on an op.
    static constexpr ::llvm::StringLiteral kName = "moe.lowering_config";
  }];
}

#endif // MOE_INTERFACES_TD
