"""vLLM's kernels without vLLM: only the extension library of its CPU wheel is loaded."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch


@functools.cache
def load_ops():
    """The operators of the library that vLLM would take on this machine.

    `import vllm` would want the packages of its engine; and two of its libraries in one process
    register the same names.
    """
    library = "_C.abi3.so" if torch.cpu._is_avx512_bf16_supported() else "_C_AVX512.abi3.so"
    torch.ops.load_library(Path(importlib.util.find_spec("vllm").origin).with_name(library))
    return torch.ops._C
