"""How lit runs the tests of the MoE compiler.

Environment:
  MOE_CHECK_ROUNDTRIP=1  every moe-opt also checks that the IR survives text and bytecode.
  MOE_PTXAS=PATH         NVIDIA's assembler, instead of the one that CMake found or PATH has.
  MOE_NVDISASM=PATH      The same for its disassembler. Tests that need either are left out without.
  MOE_LIT_PARTIAL=1      a tool that is not built yet is a warning instead of the end.
  MOE_LIT_QUICK=1        without the test that builds the compiler once more, within another one.
"""

import os
import shutil
import subprocess

import lit.formats
from lit.llvm import llvm_config
from lit.llvm.subst import ToolSubst

config.name = "MoE"
config.test_format = lit.formats.ShTest(not llvm_config.use_lit_shell)
config.suffixes = [".mlir", ".test"]
# unit: executables of their own. Models: data.
config.excludes = ["Inputs", "Models", "unit"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.moe_obj_root, "test")

# What a test may name instead of a path of one machine.
config.substitutions += [
    ("%moe_src_root", config.moe_src_root),
    ("%moe_obj_root", config.moe_obj_root),
    ("%moe_lib_dir", config.moe_lib_dir),
    ("%moe_tools_dir", config.moe_tools_dir),
    ("%moe_plugin", os.path.join(config.moe_lib_dir, "MoEPlugin" + config.shlib_ext)),
    ("%mlir_lib", config.llvm_lib_dir),
    ("%mlir_dir", config.mlir_dir),
    ("%cmake", config.cmake),
    # What a CMake project of a test is configured with to be compiled as ours is.
    ("%host_project", " ".join(
        ["-G", "Ninja", f"-DMLIR_DIR={config.mlir_dir}", f"-DCMAKE_C_COMPILER={config.host_cc}",
         f"-DCMAKE_CXX_COMPILER={config.host_cxx}",
         f"-DCMAKE_CXX_COMPILER_LAUNCHER={config.cxx_launcher}"])),
    ("%cc", config.host_cc),
    ("%cxx", config.host_cxx),
    ("%python", config.python),
]

#
# Tools.
#
missing_tool = "warn" if os.environ.get("MOE_LIT_PARTIAL") else "fatal"
roundtrip = ["--verify-roundtrip"] if os.environ.get("MOE_CHECK_ROUNDTRIP") else []
tools = [
    ToolSubst(name, extra_args=roundtrip if name == "moe-opt" else [], unresolved=missing_tool)
    for name in config.moe_tools
]
theirs = ("mlir-opt", "mlir-runner", "mlir-tblgen", "split-file", "llvm-nm", "llvm-readobj")
tools += [ToolSubst(name, unresolved="fatal") for name in theirs]
llvm_config.use_default_substitutions()
llvm_config.add_tool_substitutions(tools, [config.moe_tools_dir, config.llvm_tools_dir])
llvm_config.with_environment("PATH", config.llvm_tools_dir, append_path=True)
llvm_config.with_system_environment(["HOME", "TMPDIR", "TMP", "TEMP", "CCACHE_DIR"])

#
# Features, for REQUIRES: and UNSUPPORTED: lines. All of them are found out, none guessed.
#


def cpu_flags() -> set[str]:
    """The instruction sets that this machine has, under the names the kernel gives them."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
            for line in info:
                if line.startswith("flags"):
                    return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    return set()


def python_has(module: str) -> bool:
    """Whether the Python of the tests can import `module`."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
    return subprocess.run([config.python, "-c", code], check=False).returncode == 0


features = config.available_features
if config.enable_assertions:
    features.add("asserts")
if config.link_mlir_dylib:
    features.add("mlir-dylib")
if not os.environ.get("MOE_LIT_QUICK"):
    features.add("second-build")
if config.sanitizers:
    features.add("sanitizers")
    features.update({"asan"} if "address" in config.sanitizers else set())
for feature, flag in {
    "host-avx2": "avx2",
    "host-avx512": "avx512f",
    "host-avx512-bf16": "avx512_bf16",
    "host-amx": "amx_tile",
}.items():
    if flag in cpu_flags():
        features.add(feature)
# Models are compared in the build that is not sanitized: the results are the same.
modules = ["numpy"] if config.sanitizers else ["numpy", "torch", "transformers"]
features.update(f"python-{m}" for m in modules if python_has(m))
# NVIDIA's assembler and disassembler: scripts/setup fetches them, CMake finds them.
for tool in ("ptxas", "nvdisasm"):
    path = (os.environ.get(f"MOE_{tool.upper()}") or getattr(config, tool, "") or shutil.which(tool))
    if path and os.path.exists(path):
        features.add(tool)
        config.substitutions.append((f"%{tool}", path))
    elif not config.sanitizers:
        lit_config.note(f"no {tool}: GPU kernels are tested without it (scripts/setup fetches it)")
# Machines that this one is not: Debian's qemu-user.
if shutil.which("qemu-x86_64"):
    features.add("qemu-x86_64")
# Code for AArch64 runs where Debian's qemu-user and gcc-aarch64-linux-gnu are installed.
cc_aarch64 = shutil.which("aarch64-linux-gnu-gcc")
if cc_aarch64 and shutil.which("qemu-aarch64"):
    features.add("qemu-aarch64")
    config.substitutions.append(("%aarch64_cc", cc_aarch64))
# Kernels run on the CPU.
if os.path.exists(os.path.join(config.moe_lib_dir, "libmoe_emulation" + config.shlib_ext)):
    features.add("moe-emulation")
    driver = os.path.join(config.moe_lib_dir, "moe_emulating_driver" + config.shlib_ext)
    if os.path.exists(driver):  # whole layers for GPUs, too
        features.add("moe-emulating-driver")
        config.substitutions.append(("%emulating_driver", driver))
# REQUIRES: moe-run. A sanitizer build has some of the tools only.
features.update(name for name in config.moe_tools
                if os.path.exists(os.path.join(config.moe_tools_dir, name)))
if os.path.exists(os.path.join(config.moe_lib_dir, "MoEPlugin" + config.shlib_ext)):
    features.add("moe-plugin")
