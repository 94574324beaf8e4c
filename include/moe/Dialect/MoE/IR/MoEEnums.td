//===- MoEEnums.td - Enumerations of the moe dialect -*- tablegen -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The numbers go into bytecode: append, never renumber.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_ENUMS_TD
#define MOE_ENUMS_TD

include "mlir/IR/EnumAttr.td"
include "moe/Dialect/MoE/IR/MoEDialect.td"

class MoE_I32Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::mlir::moe";
  let genSpecializedAttr = 0;
}

class MoE_EnumAttr<EnumAttrInfo info, string mnemonic>
    : EnumAttr<MoE_Dialect, info, mnemonic>;

def MoE_Score : MoE_I32Enum<"Score", "how logits become scores", [
  I32EnumAttrCase<"Softmax", 0, "softmax">,
  I32EnumAttrCase<"Sigmoid", 1, "sigmoid">,
  I32EnumAttrCase<"SqrtSoftplus", 2, "sqrt_softplus">,
  I32EnumAttrCase<"None", 3, "none">
]>;
def MoE_ScoreAttr : MoE_EnumAttr<MoE_Score, "score">;

def MoE_SelectOn : MoE_I32Enum<"SelectOn", "what the selection key is made of", [
  I32EnumAttrCase<"Scores", 0, "scores">,
  I32EnumAttrCase<"Logits", 1, "logits">
]>;
def MoE_SelectOnAttr : MoE_EnumAttr<MoE_SelectOn, "select_on">;

def MoE_SoftmaxScope : MoE_I32Enum<"SoftmaxScope", "what a softmax runs over", [
  I32EnumAttrCase<"All", 0, "all">,
  I32EnumAttrCase<"Selected", 1, "selected">
]>;
def MoE_SoftmaxScopeAttr : MoE_EnumAttr<MoE_SoftmaxScope, "softmax_scope">;

def MoE_GroupScore : MoE_I32Enum<"GroupScore", "how a group of experts is scored", [
  I32EnumAttrCase<"Max", 0, "max">,
  I32EnumAttrCase<"Top2Sum", 1, "top2_sum">
]>;

def MoE_GroupMask : MoE_I32Enum<"GroupMask", "the key of experts outside the kept groups", [
  I32EnumAttrCase<"NegInf", 0, "neg_inf">,
  I32EnumAttrCase<"Zero", 1, "zero">
]>;

def MoE_EpsMode : MoE_I32Enum<"EpsMode", "how epsilon enters the denominator", [
  I32EnumAttrCase<"Add", 0, "add">,
  I32EnumAttrCase<"Clamp", 1, "clamp">
]>;

def MoE_CapacityOrder : MoE_I32Enum<"CapacityOrder", "which choices a full expert keeps", [
  I32EnumAttrCase<"TokenMajor", 0, "token_major">,
  I32EnumAttrCase<"ChoiceMajor", 1, "choice_major">
]>;
def MoE_CapacityOrderAttr : MoE_EnumAttr<MoE_CapacityOrder, "capacity_order">;

def MoE_CPUKernel : MoE_I32Enum<"CPUKernel", "what multiplies on a CPU", [
  I32EnumAttrCase<"Fma", 0, "fma">,
  I32EnumAttrCase<"Bf16Dot", 1, "bf16_dot">,
  I32EnumAttrCase<"Amx", 2, "amx">
]>;

#endif // MOE_ENUMS_TD
