// Stands for a program that links a static MLIR: it defines what libMLIR.so defines.
namespace mlir {
struct MLIRContext {
  MLIRContext();
};
MLIRContext::MLIRContext() {}
} // namespace mlir
