"""Run layers with flags and without: results must have the same bits.

    same_bits.py MOE_RUN FOLDER FLAGS FILE.mlir...

FLAGS is one text; of each file the width of x is read from the text.
"""

import re
import subprocess
import sys
from pathlib import Path

run, folder, flags, *files = sys.argv[1:]
Path(folder).mkdir(parents=True, exist_ok=True)
for file in files:
    width = re.search(r"!x = tensor<\?x(\d+)x", Path(file).read_text(encoding="utf-8")).group(1)
    for lowering in ("cpu", "general"):
        outputs = []
        for which, more in (("plain", []), ("other", flags.split())):
            output = Path(folder) / f"{Path(file).stem}-{lowering}-{which}.safetensors"
            subprocess.run([run, file, "-O1", f"--lowering={lowering}", "--random-weights",
                            f"--shape=x=24x{width}", f"--output={output}", *more], check=True,
                           stdout=subprocess.DEVNULL)
            outputs.append(output.read_bytes())
        assert len(outputs[0]) > 24 * int(width) * 2
        assert outputs[0] == outputs[1], f"{file}, {lowering}: other results with {flags}"
        print(f"{Path(file).stem}, {lowering}: the same bits")
