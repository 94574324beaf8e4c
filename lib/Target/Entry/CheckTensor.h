//===- CheckTensor.h - The check of one tensor, as LLVM dialect -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_CHECKTENSOR_H
#define MOE_LIB_TARGET_CHECKTENSOR_H

#include "llvm/ADT/StringRef.h"

namespace mlir::moe {

inline constexpr llvm::StringLiteral kCheckTensorName = "moe.check_tensor";

/// What every artifact checks of a tensor before it reads its data. The text
/// says, in the LLVM dialect:
///
///   int32_t check(const moe_tensor *tensor, int32_t rank, int32_t type,
///                 const int64_t *sizes, int32_t blame) {
///     if (!tensor) return MOE_NULL_POINTER + blame;
///     if (tensor->rank != rank) return MOE_BAD_RANK + blame;
///     if (tensor->type != type) return MOE_BAD_TYPE + blame;
///     if (rank > 0 && !tensor->shape) return MOE_NULL_POINTER + blame;
///     bool empty = false;
///     for (int32_t i = 0; i < rank; ++i) {
///       int64_t size = tensor->shape[i];
///       // A negative size stands for any.
///       if (size < 0 || (sizes[i] >= 0 && size != sizes[i]))
///         return MOE_BAD_SHAPE + blame;
///       empty |= size == 0;
///     }
///     if (empty) return MOE_OK;
///     if (!tensor->data) return MOE_NULL_POINTER + blame;
///     if (!tensor->strides) return MOE_OK;
///     int64_t stride = 1;
///     for (int32_t i = rank - 1; i >= 0; --i) {
///       int64_t size = tensor->shape[i];
///       if (size != 1 && tensor->strides[i] != stride)
///         return MOE_BAD_STRIDES + blame;
///       stride *= size;
///     }
///     return MOE_OK;
///   }
inline constexpr llvm::StringLiteral kCheckTensorText = R"mlir(
!tensor = !llvm.struct<(ptr, ptr, ptr, i32, i32)>

llvm.func internal @moe.check_tensor(
    %tensor: !llvm.ptr, %rank: i32, %type: i32, %sizes: !llvm.ptr, %blame: i32) -> i32 {
  %null = llvm.mlir.zero : !llvm.ptr
  %zero = llvm.mlir.constant(0 : i32) : i32
  %one = llvm.mlir.constant(1 : i32) : i32
  %zero64 = llvm.mlir.constant(0 : i64) : i64
  %one64 = llvm.mlir.constant(1 : i64) : i64
  %ok = llvm.mlir.constant(0 : i32) : i32
  %null_pointer = llvm.mlir.constant(1 : i32) : i32
  %bad_rank = llvm.mlir.constant(2 : i32) : i32
  %bad_type = llvm.mlir.constant(3 : i32) : i32
  %bad_shape = llvm.mlir.constant(4 : i32) : i32
  %bad_strides = llvm.mlir.constant(5 : i32) : i32
  %false = llvm.mlir.constant(false) : i1

  %no_tensor = llvm.icmp "eq" %tensor, %null : !llvm.ptr
  llvm.cond_br %no_tensor, ^fail(%null_pointer : i32), ^check_rank

^check_rank:
  %rank_ptr = llvm.getelementptr inbounds %tensor[0, 3] : (!llvm.ptr) -> !llvm.ptr, !tensor
  %its_rank = llvm.load %rank_ptr : !llvm.ptr -> i32
  %other_rank = llvm.icmp "ne" %its_rank, %rank : i32
  llvm.cond_br %other_rank, ^fail(%bad_rank : i32), ^check_type

^check_type:
  %type_ptr = llvm.getelementptr inbounds %tensor[0, 4] : (!llvm.ptr) -> !llvm.ptr, !tensor
  %its_type = llvm.load %type_ptr : !llvm.ptr -> i32
  %other_type = llvm.icmp "ne" %its_type, %type : i32
  llvm.cond_br %other_type, ^fail(%bad_type : i32), ^check_shape_pointer

^check_shape_pointer:
  %shape_ptr = llvm.getelementptr inbounds %tensor[0, 1] : (!llvm.ptr) -> !llvm.ptr, !tensor
  %shape = llvm.load %shape_ptr : !llvm.ptr -> !llvm.ptr
  %shape_is_null = llvm.icmp "eq" %shape, %null : !llvm.ptr
  %has_sizes = llvm.icmp "sgt" %rank, %zero : i32
  %no_shape = llvm.and %shape_is_null, %has_sizes : i1
  llvm.cond_br %no_shape, ^fail(%null_pointer : i32), ^sizes(%zero, %false : i32, i1)

^sizes(%i: i32, %empty: i1):
  %is_size = llvm.icmp "slt" %i, %rank : i32
  llvm.cond_br %is_size, ^check_size, ^check_empty

^check_size:
  %size_ptr = llvm.getelementptr inbounds %shape[%i] : (!llvm.ptr, i32) -> !llvm.ptr, i64
  %size = llvm.load %size_ptr : !llvm.ptr -> i64
  %expected_ptr = llvm.getelementptr inbounds %sizes[%i] : (!llvm.ptr, i32) -> !llvm.ptr, i64
  %expected = llvm.load %expected_ptr : !llvm.ptr -> i64
  %negative = llvm.icmp "slt" %size, %zero64 : i64
  %is_fixed = llvm.icmp "sge" %expected, %zero64 : i64
  %differs = llvm.icmp "ne" %size, %expected : i64
  %is_other = llvm.and %is_fixed, %differs : i1
  %is_bad = llvm.or %negative, %is_other : i1
  %is_zero = llvm.icmp "eq" %size, %zero64 : i64
  %next_empty = llvm.or %empty, %is_zero : i1
  %next_i = llvm.add %i, %one : i32
  llvm.cond_br %is_bad, ^fail(%bad_shape : i32), ^sizes(%next_i, %next_empty : i32, i1)

^check_empty:
  llvm.cond_br %empty, ^return(%ok : i32), ^check_data

^check_data:
  %data_ptr = llvm.getelementptr inbounds %tensor[0, 0] : (!llvm.ptr) -> !llvm.ptr, !tensor
  %data = llvm.load %data_ptr : !llvm.ptr -> !llvm.ptr
  %no_data = llvm.icmp "eq" %data, %null : !llvm.ptr
  llvm.cond_br %no_data, ^fail(%null_pointer : i32), ^check_strides_pointer

^check_strides_pointer:
  %strides_ptr = llvm.getelementptr inbounds %tensor[0, 2] : (!llvm.ptr) -> !llvm.ptr, !tensor
  %strides = llvm.load %strides_ptr : !llvm.ptr -> !llvm.ptr
  %no_strides = llvm.icmp "eq" %strides, %null : !llvm.ptr
  llvm.cond_br %no_strides, ^return(%ok : i32), ^strides(%rank, %one64 : i32, i64)

^strides(%end: i32, %stride: i64):
  %has_stride = llvm.icmp "sgt" %end, %zero : i32
  llvm.cond_br %has_stride, ^check_stride, ^return(%ok : i32)

^check_stride:
  %j = llvm.sub %end, %one : i32
  %its_size_ptr = llvm.getelementptr inbounds %shape[%j] : (!llvm.ptr, i32) -> !llvm.ptr, i64
  %its_size = llvm.load %its_size_ptr : !llvm.ptr -> i64
  %its_stride_ptr = llvm.getelementptr inbounds %strides[%j] : (!llvm.ptr, i32) -> !llvm.ptr, i64
  %its_stride = llvm.load %its_stride_ptr : !llvm.ptr -> i64
  %steps = llvm.icmp "ne" %its_size, %one64 : i64
  %other_stride = llvm.icmp "ne" %its_stride, %stride : i64
  %bad_stride = llvm.and %steps, %other_stride : i1
  %next_stride = llvm.mul %stride, %its_size : i64
  llvm.cond_br %bad_stride, ^fail(%bad_strides : i32), ^strides(%j, %next_stride : i32, i64)

^fail(%code: i32):
  %status = llvm.add %code, %blame : i32
  llvm.br ^return(%status : i32)

^return(%result: i32):
  llvm.return %result : i32
}
)mlir";

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_CHECKTENSOR_H
