//===- MoEBase.td - What all ops of the moe dialect share -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_BASE_TD
#define MOE_BASE_TD

include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/OpBase.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "moe/Dialect/MoE/IR/MoEAttrs.td"
include "moe/Dialect/MoE/IR/MoEDialect.td"
include "moe/Dialect/MoE/IR/MoEEnums.td"

/// Ranked tensor or memref of one of `types` with one of the `ranks`.
class MoE_Shaped<list<Type> types, list<int> ranks>
    : AnyTypeOf<[TensorRankOf<types, ranks>, MemRefRankOf<types, ranks>]>;

/// Any ranked tensor or memref.
def MoE_AnyShaped : AnyTypeOf<[AnyRankedTensor, AnyStridedMemRef]>;

def MoE_AnySmallFloat : AnyTypeOf<[F32, F16, BF16]>;

/// The contract of every op: destination style, the results are the tensors of
/// `inits` in order, no effects but on memref operands, shapes follow from
/// operands, the constraints are numbered `<op>_c<n>` in the description and in
/// the verifier.
class MoE_DestinationOp<string mnemonic, list<Trait> traits = []>
    : Op<MoE_Dialect, mnemonic, !listconcat(traits, [
        AttrSizedOperandSegments, DestinationStyleOpInterface,
        DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>,
        DeclareOpInterfaceMethods<ReifyRankedShapedTypeOpInterface, ["reifyResultShapes"]>])> {
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let hasVerifier = 1;
  let hasCanonicalizer = 1;

  code destinationStyleDecl = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() { return getInitsMutable(); }
  }];
  let extraClassDeclaration = destinationStyleDecl;
}

/// Ops that also exist on memrefs: their effects follow from the operands' types.
class MoE_BufferizableOp<string mnemonic, list<Trait> traits = []>
    : MoE_DestinationOp<mnemonic, !listconcat(traits, [
        DeclareOpInterfaceMethods<MemoryEffectsOpInterface>,
        DeclareOpInterfaceMethods<ConditionallySpeculatable>])>;

#endif // MOE_BASE_TD
