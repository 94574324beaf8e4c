"""Writes a file of packed weights with one thing changed.

    change_packed.py FROM TO layout|version|byte|checksums|count|none|name|type
"""

import json
import struct
import sys
from pathlib import Path

data = Path(sys.argv[1]).read_bytes()
(length,) = struct.unpack("<Q", data[:8])
header, body = json.loads(data[8:8 + length]), bytearray(data[8 + length:])
metadata = header["__metadata__"]
name = next(key for key in header if key.endswith(".packed"))
change = sys.argv[3]
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
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
Path(sys.argv[2]).write_bytes(struct.pack("<Q", len(text)) + text + body)
