"""Write the checkpoint that a text of the zoo is imported from, without its values.

    python make_checkpoint.py LAYER.mlir OUT

OUT gets the config.json beside this script, a model.safetensors with the tensors that the text
binds (zeros that take no space), and layer.mlir: the text without the lines of the test.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import struct
import sys
from pathlib import Path

DTYPES = {"f32": ("F32", 4), "bf16": ("BF16", 2), "f16": ("F16", 2)}


def bound_tensors(text: str) -> dict[str, tuple[str, list[int]]]:
    """Name → (element type, shape) of the tensors that `text` binds."""
    types = dict(re.findall(r"^(!\w+) = tensor<(\S+)>", text, re.MULTILINE))
    tensors: dict[str, tuple[str, list[int]]] = {}
    for kind, name in re.findall(r'%\w+: (\S+) \{moe\.param = "([^"]+)"\}', text):
        *sizes, element = types.get(kind, kind.removeprefix("tensor<").rstrip(">")).split("x")
        shape = [int(size) for size in sizes]
        if "{expert}" not in name:
            tensors[name] = (element, shape)
            continue
        for expert in range(shape[0]):
            tensors[name.replace("{expert}", str(expert))] = (element, shape[1:])
    return tensors


def write_tensors(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """A safetensors file whose data is a hole."""
    header, end = {}, 0
    for name, (element, shape) in tensors.items():
        dtype, size = DTYPES[element]
        begin, end = end, end + size * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def main() -> None:
    """Write the folder."""
    source, out = map(Path, sys.argv[1:])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    lines = source.read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if not re.match(r"// (RUN|CHECK)", line))
    (out / "layer.mlir").write_text(text.lstrip("\n"))
    shutil.copy(Path(__file__).with_name(f"{source.stem}.json"), out / "config.json")
    write_tensors(out / "model.safetensors", bound_tensors(text))


if __name__ == "__main__":
    main()
