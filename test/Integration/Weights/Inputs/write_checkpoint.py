"""Writes `gate`, `up` and `down` of 64 experts as safetensors; a matrix is a page of the file.

    write_checkpoint.py FILE [EXPERT]

With an expert, other numbers for that one alone.
"""

import json
import struct
import sys
from pathlib import Path

EXPERTS, H, PAGE = 64, 32, 4096


def matrix(name: int, expert: int, changed: bool) -> bytes:
    values = [((i * 37 + name * 11 + expert * 5 + 40 * changed) % 101 - 50) / 64
              for i in range(H * H)]
    return struct.pack(f"<{H * H}f", *values)


def main() -> None:
    changed = int(sys.argv[2]) if len(sys.argv) > 2 else -1
    header, data = {}, []
    for i, name in enumerate(("gate", "up", "down")):
        begin = i * EXPERTS * PAGE
        header[name] = {"dtype": "F32", "shape": [EXPERTS, H, H],
                        "data_offsets": [begin, begin + EXPERTS * PAGE]}
        data += [matrix(i, expert, expert == changed) for expert in range(EXPERTS)]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (PAGE - 8 - len(text))
    Path(sys.argv[1]).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


main()
