"""Writes a file of packed weights with one thing changed.

    change_packed.py FROM TO layout|version|byte|checksums|count|none|name|type
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4] / "python/tests"))

from packing import rewrite  # noqa: E402


def edit(header: dict, body: bytearray) -> None:
    metadata, change = header["__metadata__"], sys.argv[3]
    name = next(key for key in header if key.endswith(".packed"))
    if change == "layout":
        metadata["moe.layout"] = "moe-panel-48"
    elif change == "version":
        metadata["moe.layout_version"] = "2"
    elif change == "byte":  # In the third expert.
        begin, end = header[name]["data_offsets"]
        body[begin + (end - begin) // header[name]["shape"][0] * 2 + 5] ^= 1
    elif change == "checksums":
        del metadata[f"moe.crc32.{name}"]
    elif change == "count":
        metadata[f"moe.crc32.{name}"] = metadata[f"moe.crc32.{name}"].rsplit(" ", 1)[0]
    elif change == "none":
        del header["__metadata__"]
    elif change == "name":
        header[f"other.{name}"] = header.pop(name)
    elif change == "type":
        header[name]["dtype"] = "I32"
    else:
        sys.exit(f"unknown change {change!r}")


rewrite(Path(sys.argv[1]), Path(sys.argv[2]), edit)
