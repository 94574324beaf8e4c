//===- RoofKernels.cpp - Machine code that does nothing but work ----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RoofKernels.h"

#include "llvm/AsmParser/Parser.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir::moe;
using llvm::formatv;

RoofKernels::RoofKernels() = default;
RoofKernels::~RoofKernels() = default;

namespace {

/// Of the sink, for one chain: the widest vector.
constexpr unsigned kSinkBytes = 64;

/// What the target offers.
struct VectorUnit {
  unsigned bits = 128;
  /// Chains that run side by side: enough to hide the latency of a multiply-add
  /// (4 cycles, 2 a cycle), few enough that none is spilled.
  unsigned numChains = 12;
  bool hasBF16Dot = false;

  explicit VectorUnit(const llvm::TargetMachine &target) {
    if (!target.getTargetTriple().isX86())
      return;
    const llvm::MCSubtargetInfo &features = *target.getMCSubtargetInfo();
    if (features.checkFeatures("+avx512f")) {
      bits = 512;
      numChains = 24;
      hasBF16Dot = features.checkFeatures("+avx512bf16");
    } else if (features.checkFeatures("+avx2,+fma")) {
      bits = 256;
    }
  }
};

/// Writes a function that carries `numChains` values of `type` around a loop.
class LoopWriter {
public:
  LoopWriter(llvm::raw_ostream &os, std::string type, unsigned numChains)
      : os(os), type(std::move(type)), numChains(numChains) {}

  /// `step(i)` writes the computation of %next<i> from %chain<i>.
  void write(llvm::StringRef signature,
             llvm::function_ref<void(unsigned)> step);

private:
  llvm::raw_ostream &os;
  std::string type;
  unsigned numChains;
};

} // namespace

void LoopWriter::write(llvm::StringRef signature,
                       llvm::function_ref<void(unsigned)> step) {
  os << "define void " << signature << " {\nentry:\n";
  // Chains that start alike would be merged.
  for (unsigned i = 0; i < numChains; ++i)
    os << formatv("  %sink{0} = getelementptr i8, ptr %sink, i64 {1}\n"
                  "  %start{0} = load {2}, ptr %sink{0}, align 64\n",
                  i, i * kSinkBytes, type);
  os << "  br label %loop\nloop:\n"
     << "  %i = phi i64 [ 0, %entry ], [ %inext, %loop ]\n";
  for (unsigned i = 0; i < numChains; ++i)
    os << formatv("  %chain{0} = phi {1} [ %start{0}, %entry ], "
                  "[ %next{0}, %loop ]\n",
                  i, type);
  for (unsigned i = 0; i < numChains; ++i)
    step(i);
  os << "  %inext = add i64 %i, 1\n"
     << "  %more = icmp slt i64 %inext, %n\n"
     << "  br i1 %more, label %loop, label %exit\nexit:\n";
  // What does not reach memory would not be computed.
  for (unsigned i = 0; i < numChains; ++i)
    os << formatv("  store {1} %next{0}, ptr %sink{0}, align 64\n", i, type);
  os << "  ret void\n}\n";
}

/// chain = chain * factor + addend, without an end: values stay near 1.
static void writeFMA(llvm::raw_ostream &os, llvm::StringRef element,
                     llvm::StringRef suffix, const VectorUnit &unit,
                     unsigned elementBits) {
  unsigned lanes = unit.bits / elementBits;
  std::string type = formatv("<{0} x {1}>", lanes, element);
  std::string intrinsic = formatv("@llvm.fma.v{0}{1}", lanes, suffix);
  auto splat = [&](llvm::StringRef value) {
    return formatv("{0} splat ({1} {2})", type, element, value).str();
  };
  LoopWriter writer(os, type, unit.numChains);
  writer.write(formatv("@fma_{0}(i64 %n, ptr %sink)", suffix).str(),
               [&](unsigned i) {
                 os << formatv("  %next{0} = call {1} {2}({1} %chain{0}, {3}, "
                               "{4})\n",
                               i, type, intrinsic, splat("0.5"), splat("0.5"));
               });
  os << formatv("declare {0} {1}({0}, {0}, {0})\n", type, intrinsic);
}

/// chain += factor · factor, pairs of bf16 at a time.
static void writeBF16Dot(llvm::raw_ostream &os, const VectorUnit &unit) {
  LoopWriter writer(os, "<16 x float>", unit.numChains);
  std::string factor = "<32 x bfloat> splat (bfloat 0.5)";
  writer.write("@dot_bf16(i64 %n, ptr %sink)", [&](unsigned i) {
    os << formatv("  %next{0} = call <16 x float> "
                  "@llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %chain{0}, "
                  "{1}, {1})\n",
                  i, factor);
  });
  os << "declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512("
        "<16 x float>, <32 x bfloat>, <32 x bfloat>)\n";
}

/// Adds up all vectors of a buffer, in as many chains as a block has.
static void writeRead(llvm::raw_ostream &os, const VectorUnit &unit) {
  std::string type = formatv("<{0} x i64>", unit.bits / 64);
  unsigned vectorBytes = unit.bits / 8;
  LoopWriter writer(os, type, RoofKernels::kBlockBytes / vectorBytes);
  writer.write("@read(i64 %n, ptr %data, ptr %sink)", [&](unsigned i) {
    if (i == 0)
      os << formatv("  %at = mul i64 %i, {0}\n"
                    "  %block = getelementptr i8, ptr %data, i64 %at\n",
                    RoofKernels::kBlockBytes);
    os << formatv("  %p{0} = getelementptr i8, ptr %block, i64 {2}\n"
                  "  %v{0} = load {1}, ptr %p{0}, align 64\n"
                  "  %next{0} = add {1} %chain{0}, %v{0}\n",
                  i, type, i * vectorBytes);
  });
}

static std::string writeModule(const VectorUnit &unit) {
  std::string text;
  llvm::raw_string_ostream os(text);
  writeFMA(os, "double", "f64", unit, 64);
  writeFMA(os, "float", "f32", unit, 32);
  if (unit.hasBF16Dot)
    writeBF16Dot(os, unit);
  writeRead(os, unit);
  return text;
}

static llvm::Expected<llvm::SmallVector<char, 0>>
compileText(llvm::StringRef text, llvm::TargetMachine &target) {
  llvm::LLVMContext context;
  llvm::SMDiagnostic diagnostic;
  std::unique_ptr<llvm::Module> module =
      llvm::parseAssemblyString(text, diagnostic, context);
  if (!module)
    return llvm::createStringError("the kernels of the roof do not parse: " +
                                   diagnostic.getMessage());
  module->setTargetTriple(target.getTargetTriple());
  module->setDataLayout(target.createDataLayout());
  optimize(*module, target);
  return emitMachineCode(*module, target, llvm::CodeGenFileType::ObjectFile);
}

llvm::Expected<std::unique_ptr<RoofKernels>>
RoofKernels::compile(const CodeGenOptions &options) {
  auto target = createTargetMachine(options);
  if (!target)
    return target.takeError();
  VectorUnit unit(**target);
  auto object = compileText(writeModule(unit), **target);
  if (!object)
    return object.takeError();
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit)
    return jit.takeError();
  if (llvm::Error error =
          (*jit)->addObjectFile(std::make_unique<llvm::SmallVectorMemoryBuffer>(
              std::move(*object), /*RequiresNullTerminator=*/false)))
    return std::move(error);

  std::unique_ptr<RoofKernels> kernels(new RoofKernels);
  kernels->jit = std::move(*jit);
  kernels->vectorBits = unit.bits;
  auto lookUp = [&](llvm::StringRef name, auto &function) -> llvm::Error {
    auto address = kernels->jit->lookup(name);
    if (!address)
      return address.takeError();
    function = address->toPtr<std::remove_reference_t<decltype(function)>>();
    return llvm::Error::success();
  };
  double laneOperations = 2.0 * unit.numChains * unit.bits;
  kernels->f64.operations = laneOperations / 64;
  kernels->f32.operations = laneOperations / 32;
  if (llvm::Error error = lookUp("fma_f64", kernels->f64.function))
    return std::move(error);
  if (llvm::Error error = lookUp("fma_f32", kernels->f32.function))
    return std::move(error);
  if (unit.hasBF16Dot) {
    kernels->bf16.operations = laneOperations / 16;
    if (llvm::Error error = lookUp("dot_bf16", kernels->bf16.function))
      return std::move(error);
  }
  if (llvm::Error error = lookUp("read", kernels->read))
    return std::move(error);
  return kernels;
}
