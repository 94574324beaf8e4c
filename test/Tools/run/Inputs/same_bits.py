"""Run layers in two ways: results must have the same bits.

    same_bits.py MOE_RUN FOLDER FLAGS OTHER_FLAGS FILE.mlir...

FLAGS is one text, in which {ids} becomes a file; the width of x is read from FILE.mlir.
"""

import re
import subprocess
import sys
from pathlib import Path

run, folder, *ways = sys.argv[1:]
ways, files = ways[:2], ways[2:]
Path(folder).mkdir(parents=True, exist_ok=True)
for file in files:
    width = re.search(r"!x = tensor<\?x(\d+)x", Path(file).read_text(encoding="utf-8")).group(1)
    for lowering in ("cpu", "general"):
        name = f"{Path(file).stem}-{lowering}"
        outputs = []
        for i, flags in enumerate(ways):
            output = Path(folder) / f"{name}-{i}.safetensors"
            more = flags.format(ids=Path(folder) / f"{name}-ids.npy").split()
            subprocess.run([run, file, "-O1", f"--lowering={lowering}", "--random-weights",
                            f"--shape=x=24x{width}", f"--output={output}", *more], check=True,
                           stdout=subprocess.DEVNULL)
            outputs.append(output.read_bytes())
        assert len(outputs[0]) > 24 * int(width) * 2
        assert outputs[0] == outputs[1], f"{name}: other results with {ways[1]}"
        print(f"{name}: the same bits")
