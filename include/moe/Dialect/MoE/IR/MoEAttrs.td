//===- MoEAttrs.td - Attributes of the moe dialect -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_ATTRS_TD
#define MOE_ATTRS_TD

include "mlir/IR/AttrTypeBase.td"
include "moe/Dialect/MoE/IR/MoEEnums.td"

class MoE_Attr<string name, string attrMnemonic> : AttrDef<MoE_Dialect, name> {
  let mnemonic = attrMnemonic;
}

def MoE_GroupsAttr : MoE_Attr<"Groups", "groups"> {
  let summary = "group-limited selection";
  let description = [{
    The E experts are `count` groups of E / count neighbours. Only the `keep`
    groups with the highest group score may be selected from; ties go to the
    lower group. The score of a group is the `max` of its selection keys or the
    sum of its two largest (`top2_sum`); a NaN sum counts as −inf. Experts
    outside the kept groups get the key −inf (`neg_inf`) or 0 (`zero`, which
    lets them win over kept experts with a negative key, as some models do).

    Example: `groups<count = 8, keep = 4, score = top2_sum>` (DeepSeek-V3).
  }];
  let parameters = (ins
    "int64_t":$count,
    "int64_t":$keep,
    DefaultValuedParameter<"::mlir::moe::GroupScore", "::mlir::moe::GroupScore::Max">:$score,
    DefaultValuedParameter<"::mlir::moe::GroupMask", "::mlir::moe::GroupMask::NegInf">:$mask
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def MoE_RenormalizeAttr : MoE_Attr<"Renormalize", "renormalize"> {
  let summary = "division of the k weights by their sum";
  let description = [{
    The k weights of a token are divided by their sum s: by s + eps (`add`) or
    by max(s, eps) (`clamp`). A zero denominator gives weights of 0.

    Example: `renormalize<eps = 1.0e-20 : f32>`; `renormalize<>` has eps = 0.
  }];
  let parameters = (ins
    OptionalParameter<"::mlir::FloatAttr">:$eps,
    DefaultValuedParameter<"::mlir::moe::EpsMode", "::mlir::moe::EpsMode::Add">:$mode
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let extraClassDeclaration = [{
    /// Epsilon as f32; 0 when the attribute has none.
    ::llvm::APFloat getEpsilon() const;
  }];
  let genVerifyDecl = 1;
}

#endif // MOE_ATTRS_TD
