//===- CHeader.cpp - The C header of an artifact ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/CHeader.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::moe;

/// moe.h, whole.
static constexpr llvm::StringLiteral runtimeHeader =
#include "RuntimeHeader.inc"
    ;

/// moe_stats.h, whole.
static constexpr llvm::StringLiteral statsHeader =
#include "StatsHeader.inc"
    ;

/// `text` within a comment: on one line, and not opening or ending one.
static std::string forComment(StringRef text) {
  std::string safe;
  for (char c : text) {
    bool isPart = !safe.empty() && ((safe.back() == '*' && c == '/') ||
                                    (safe.back() == '/' && c == '*'));
    if (isPart)
      safe += ' ';
    safe += llvm::isPrint(c) ? c : '?';
  }
  return safe;
}

static StringRef getCTypeName(ElementType type) {
  switch (*getCType(type)) {
  case MOE_F64:
    return "MOE_F64";
  case MOE_F32:
    return "MOE_F32";
  case MOE_F16:
    return "MOE_F16";
  case MOE_BF16:
    return "MOE_BF16";
  case MOE_I64:
    return "MOE_I64";
  case MOE_I32:
    return "MOE_I32";
  case MOE_I16:
    return "MOE_I16";
  case MOE_I8:
    return "MOE_I8";
  case MOE_BOOL:
    return "MOE_BOOL";
  }
  llvm_unreachable("not a moe_type");
}

namespace {

/// Documents and declares the functions of one entry: the layer, or what packs
/// its weights.
class EntryWriter {
public:
  EntryWriter(const EntrySignature &signature, const CHeaderInfo &info,
              llvm::raw_ostream &os)
      : signature(signature), info(info), os(os) {}

  void writeLayer();
  void writePacking(StringRef layer);

private:
  void writeTensors();
  void writeTensor(size_t position, size_t nameWidth, size_t shapeWidth);
  void writeSizes();
  void writeWorkspace();
  void writeContract();
  void writeMachine();
  void writeDevice();
  void writeStatistics();
  void writeDeclarations();
  void writeExpertDeclarations(StringRef layer);

  const EntrySignature &signature;
  const CHeaderInfo &info;
  llvm::raw_ostream &os;
};

} // namespace

static void writeOrigin(const CHeaderInfo &info, llvm::raw_ostream &os) {
  os << "/*\n * The C interface of a compiled MoE layer.\n *\n"
     << " * Written by moe-compile from " << forComment(info.source) << ", for "
     << (info.chip.empty() ? "" : "the GPU " + forComment(info.chip) + " and ")
     << forComment(info.target) << ".\n"
     << (info.isas.empty() ? ""
                           : " * It chooses from code for " +
                                 llvm::join(info.isas, ", ") + ".\n")
     << " * The file stands alone: a C99 or C++ program needs nothing else to "
        "call the\n"
     << " * layer, and at run time nothing but the C library and its libm"
     << (info.chip.empty() ? ""
                           : ", and\n * NVIDIA's driver, which the first "
                             "call opens")
     << ".\n */\n";
}

static std::string getShapeText(const EntryTensor &tensor) {
  return "[" + llvm::join(tensor.sizeNames, ", ") + "]";
}

void EntryWriter::writeTensor(size_t position, size_t nameWidth,
                              size_t shapeWidth) {
  const EntryTensor &tensor = signature.getTensor(position);
  std::string line = " *   ";
  llvm::raw_string_ostream text(line);
  text << llvm::right_justify(std::to_string(position), 2) << "  "
       << llvm::left_justify(tensor.cName, nameWidth) << "  "
       << llvm::left_justify(getCTypeName(tensor.elementType), 8) << "  "
       << llvm::left_justify(forComment(getShapeText(tensor)), shapeWidth);
  if (tensor.name != tensor.cName)
    text << "  called " << forComment(tensor.name);
  if (!tensor.param.empty())
    text << "  " << forComment(tensor.param);
  os << StringRef(line).rtrim() << '\n';
}

void EntryWriter::writeTensors() {
  size_t nameWidth = 0, shapeWidth = 0;
  for (size_t i = 0, e = signature.getNumTensors(); i < e; ++i) {
    nameWidth = std::max(nameWidth, signature.getTensor(i).cName.size());
    shapeWidth =
        std::max(shapeWidth, getShapeText(signature.getTensor(i)).size());
  }
  os << " * Arguments: position, name, type, shape, tensor of the checkpoint.\n"
        " *\n";
  for (size_t i = 0; i < signature.arguments.size(); ++i)
    writeTensor(i, nameWidth, shapeWidth);
  os << " *\n * Results:\n *\n";
  for (size_t i = signature.arguments.size(); i < signature.getNumTensors();
       ++i)
    writeTensor(i, nameWidth, shapeWidth);
}

/// What the letters in shapes stand for. A size that several tensors share is
/// defined by the first.
void EntryWriter::writeSizes() {
  llvm::StringSet<> defined;
  for (const EntryTensor &argument : signature.arguments) {
    for (auto [i, size] : llvm::enumerate(argument.shape)) {
      if (!ShapedType::isDynamic(size))
        continue;
      if (defined.empty())
        os << " *\n * Sizes that the caller chooses:\n *\n";
      if (defined.insert(argument.sizeNames[i]).second)
        os << " *   " << argument.sizeNames[i] << " = " << argument.cName
           << "->shape[" << i << "]\n";
    }
  }
  bool dependsOnData = llvm::any_of(signature.results, [](const auto &result) {
    return llvm::is_contained(result.sizeNames, "?");
  });
  if (dependsOnData)
    os << " *\n * A size of ? depends on the data of the arguments. The caller "
          "has to know it:\n * it is not checked.\n";
}

/// Dynamic sizes, each once, in the order of the arguments.
static llvm::SetVector<StringRef>
getSizeNames(const EntrySignature &signature) {
  llvm::SetVector<StringRef> names;
  for (const EntryTensor &argument : signature.arguments)
    for (auto [size, name] : llvm::zip(argument.shape, argument.sizeNames))
      if (ShapedType::isDynamic(size))
        names.insert(name);
  return names;
}

void EntryWriter::writeWorkspace() {
  if (signature.workspace.isConstant && signature.workspace.text == "0") {
    os << " * workspace: none is needed; NULL and 0 do.\n";
  } else {
    std::string call = signature.cName + "_workspace(" +
                       llvm::join(getSizeNames(signature), ", ") + ")";
    os << " * workspace: memory that the call may write, aligned to 64 bytes; "
          "what "
          "is in it\n"
          " * before does not matter, and nothing in it is kept. One call at a "
          "time "
          "uses it.\n *\n *   "
       << call << " = " << forComment(signature.workspace.text) << "\n *\n";
  }
  os << (signature.allocates
             ? " * Besides, a call allocates memory with malloc, and frees it "
               "before "
               "it returns;\n * without memory it ends the process (abort).\n"
             : " * A call allocates no memory.\n");
}

void EntryWriter::writeContract() {
  os << R"( *
 * Every tensor is dense and row-major: strides of NULL, or the products of the
 * sizes to the right (sizes of 1 and tensors without elements may have any).
 * Data is aligned to the size of its element. No result overlaps another
 * result or an argument; arguments are only read.
 *
)";
  writeDevice();
  writeWorkspace();
  os << R"( *
 * Returns MOE_OK, or what is wrong before anything is written (see
 * MOE_STATUS_CODE and MOE_STATUS_TENSOR):
 *
 *   MOE_NULL_POINTER      a tensor, its shape, or data that it should have
 *   MOE_BAD_RANK, MOE_BAD_TYPE, MOE_BAD_SHAPE, MOE_BAD_STRIDES
 *                         a tensor is not as above; a shape also when it
 *                         contradicts the shapes of other arguments
 *   MOE_TOO_MANY_CHOICES  tokens times experts a token reaches 2^31
 *   MOE_WORKSPACE_TOO_SMALL
 *                         the workspace is, or is NULL, or not aligned
)";
  writeMachine();
  os << R"( *
 * Re-entrant: no state outlives a call, so any number of threads may call it
 * at once, with results and a workspace of their own.
 */
)";
}

/// What a call says of the machine it is on.
void EntryWriter::writeMachine() {
  if (info.isas.empty())
    return;
  os << " *   MOE_UNSUPPORTED_CPU   this machine has none of the instruction "
        "sets, or not the\n"
        " *                         one that MOE_ISA names\n"
        " *   MOE_UNKNOWN_ISA       MOE_ISA names none of them\n"
        " *\n"
        " * The first call chooses the best instruction set that this machine "
        "has, for all calls\n"
        " * of the process. The environment variable MOE_ISA, if it is set and "
        "not empty, names\n"
        " * it instead: "
     << llvm::join(info.isas, ", ") << ".\n";
}

/// What is different on a GPU.
void EntryWriter::writeDevice() {
  if (info.chip.empty())
    return;
  os << R"( * Data and workspace are memory of the GPU that the CUDA context of the calling
 * thread is for (the primary context of device 0 if it has none), aligned to 16
 * bytes; moe_tensor and shapes are the host's. A call puts kernels into `stream`
 * (a CUstream, which is cudaStream_t; NULL is the default stream) and returns:
 * it waits for nothing and reads no data. The first call in a context loads the
 * code; all others can be captured into a CUDA graph.
 *
 *   MOE_BAD_ALIGNMENT     data is not aligned to 16 bytes
 *   MOE_DEVICE_ERROR      there is no driver, the device is none that the layer
 *                         was compiled for, or the driver reports an error; )"
     << signature.cName << R"(_error()
 *                         says which, in the driver's words
 *
)";
}

/// What `stats` points to.
void EntryWriter::writeStatistics() {
  if (info.statistics.empty())
    return;
  unsigned numLayers = info.statistics.back().layer + 1;
  os << " *\n * stats: NULL, which costs nothing, or an array with a moe_stats "
        "for each of the\n * layers ("
     << numLayers << "). Members, and how many elements are written to them:\n"
     << " *\n";
  for (const EntryStatistic &statistic : info.statistics)
    os << " *   stats[" << statistic.layer << "]."
       << llvm::left_justify(getName(statistic.statistic), 12) << "  "
       << forComment(llvm::join(statistic.sizeNames, " * ")) << '\n';
  os << " *\n * A member that is NULL is not written, nor is one that is not "
        "listed. With\n * statistics a call gives the same results, bit for "
        "bit, and takes its memory from\n * malloc.\n";
}

void EntryWriter::writeDeclarations() {
  os << "int32_t " << signature.cName << "(";
  std::string indent(sizeof("int32_t (") - 1 + signature.cName.size(), ' ');
  for (size_t i = 0, e = signature.getNumTensors(); i < e; ++i)
    os << "const moe_tensor *" << signature.getTensor(i).cName << ",\n"
       << indent;
  StringRef stats = info.statistics.empty() ? "" : "moe_stats *stats, ";
  StringRef stream = info.chip.empty() ? ");\n\n" : ", void *stream);\n\n";
  os << stats << "void *workspace, size_t workspace_bytes" << stream
     << "/*\n * The same, with the " << signature.getNumTensors()
     << " tensors in an array, in the order of their positions.\n */\n"
     << "int32_t " << signature.cName
     << "_packed(const moe_tensor *const *tensors, " << stats
     << "void *workspace,\n"
     << std::string(indent.size() + 7, ' ') << "size_t workspace_bytes"
     << stream;
  if (!info.chip.empty())
    os << "/*\n * The text of this thread's last MOE_DEVICE_ERROR; valid until "
          "the next.\n */\nconst char *"
       << signature.cName << "_error(void);\n\n";
  os << "/*\n * The bytes of workspace that a call needs";
  llvm::SetVector<StringRef> names = getSizeNames(signature);
  os << (names.empty() ? ".\n */\n" : ", for sizes that it accepts.\n */\n");
  os << "size_t " << signature.cName << "_workspace(";
  llvm::interleave(
      names, os, [&](StringRef name) { os << "int64_t " << mangleForC(name); },
      ", ");
  os << (names.empty() ? "void);\n\n" : ");\n\n")
     << "/*\n * The same, from the arguments (data is not read); 0 where a "
        "call "
        "would refuse\n * them.\n */\n"
     << "size_t " << signature.cName
     << "_workspace_packed(const moe_tensor *const *tensors);\n";
}

//===----------------------------------------------------------------------===//
// Packed weights
//===----------------------------------------------------------------------===//

/// What `packing` is for, and how packed weights lie.
void EntryWriter::writePacking(StringRef layer) {
  os << "/*\n * " << signature.cName << ": packs weights, once, for " << layer
     << ", which reads the results in their place.\n *\n";
  writeTensors();
  writeSizes();
  os << R"( *
 * A weight w[e, n, k] of expert e, column n of a product and element k of its
 * sum lies in panels of 32 columns. It is at
 *
 *   [e, n / 32, k / 2, n % 32, k % 2]   in bf16
 *   [e, n / 32, k, n % 32]              in f32 and f16
 *
 * Columns that only fill the last panel are 0, and so is the second element of
 * the last pair where their number is odd. The slab of an expert is contiguous,
 * and the same bytes on every machine: they may be saved, and mapped.
)";
  writeContract();
  writeDeclarations();
  writeExpertDeclarations(layer);
}

void EntryWriter::writeExpertDeclarations(StringRef layer) {
  std::string function = signature.cName + "_expert";
  os << "\n/*\n * Replaces expert `expert`: packs its weights into its slabs "
        "of "
        "the results, which have\n"
     << " * those of all experts, and writes nothing else. The arguments are "
        "its own, so\n"
     << " * their first size is 1. Calls of " << layer
     << " may run meanwhile, if none of their tokens\n"
     << " * is for this expert. The workspace is that of " << signature.cName
     << " for one expert.\n"
     << " * Returns besides:\n *\n"
     << " *   MOE_BAD_EXPERT        a result has no slab for it\n */\n"
     << "int32_t " << function << "(int64_t expert,\n";
  std::string indent(sizeof("int32_t (") - 1 + function.size(), ' ');
  for (size_t i = 0, e = signature.getNumTensors(); i < e; ++i)
    os << indent << "const moe_tensor *" << signature.getTensor(i).cName
       << ",\n";
  os << indent << "void *workspace, size_t workspace_bytes);\n\n"
     << "/*\n * The same, with the tensors in an array.\n */\n"
     << "int32_t " << function
     << "_packed(int64_t expert, const moe_tensor *const *tensors,\n"
     << std::string(indent.size() + 7, ' ')
     << "void *workspace, size_t workspace_bytes);\n";
}

//===----------------------------------------------------------------------===//
// The header
//===----------------------------------------------------------------------===//

void EntryWriter::writeLayer() {
  os << "/*\n * " << signature.cName << ": the layer.\n *\n";
  writeTensors();
  writeSizes();
  writeStatistics();
  writeContract();
  writeDeclarations();
}

void mlir::moe::writeCHeader(const EntrySignature &signature,
                             const CHeaderInfo &info, llvm::raw_ostream &os) {
  std::string guard = "MOE_LAYER_" + StringRef(signature.cName).upper() + "_H";
  writeOrigin(info, os);
  os << "#ifndef " << guard << "\n#define " << guard << "\n\n"
     << runtimeHeader.substr(runtimeHeader.find("#ifndef MOE_RUNTIME_MOE_H"));
  if (!info.statistics.empty())
    os << '\n'
       << statsHeader.substr(
              statsHeader.find("#ifndef MOE_RUNTIME_MOE_STATS_H"));
  os << "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";
  EntryWriter(signature, info, os).writeLayer();
  if (info.packing) {
    CHeaderInfo packingInfo = info;
    packingInfo.statistics.clear();
    os << '\n';
    EntryWriter(*info.packing, packingInfo, os).writePacking(signature.cName);
  }
  os << "\n#ifdef __cplusplus\n}\n#endif\n\n#endif /* " << guard << " */\n";
}
