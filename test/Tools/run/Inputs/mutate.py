"""Run moe-run on mutated files: mutate.py MOE_RUN LAYER FOLDER COUNT.

Changes COUNT times one of the files that make_model.py made (the header, the data, the length, the
index of the shards) and runs the layer on it, with a seed that a failure prints. Each run must end
with status 0, or with 1 and a message that names a file; never with a signal, and never late. A run
that fails must leave nothing behind.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TIMEOUT_SECONDS = 60
RUN, LAYER, MODEL, COUNT = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
FILES = ["x.npy", "x.safetensors", "model/model.safetensors", "sharded/a.safetensors",
         "sharded/model.safetensors.index.json", "arrays/wg.npy", "arrays/gate.weight.npy"]
TEXTS = [b"-1", b"99999999999999999999", b"1e9", b"null", b"{}", b"[", b'"', b"\\u0000", b"\xff", b"F64",
         b"BOOL", b"F8_E5M2", b"True", b"<c16", b"|O", b"../x.safetensors", b"18446744073709551615"]


def mutate(data: bytearray, rng: random.Random) -> None:
    """One to four changes, most of them in the header."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(min(len(data), rng.choice([12, 200, 2000, len(data)])) or 1)
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[place] = rng.randrange(256)
        elif kind == 1 and data:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[place:place + rng.choice([1, 2, 8, 100, len(data)])]
        elif kind == 3:
            data[place:place] = rng.choice(TEXTS)
        elif kind == 4:
            text = rng.choice(TEXTS)
            data[place:place + len(text)] = text
        else:
            data[place:place] = data[place:place + rng.choice([1, 8, 64])]


def arguments(file: str, folder: Path) -> list[str]:
    """The flags of a run that reads the copy of `file` in `folder`."""
    if file.startswith("x."):
        return [f"--weights={MODEL / 'model'}", f"--input={folder / file}"]
    return [f"--weights={folder / file.split('/')[0]}", f"--input={MODEL / 'x.npy'}"]


def run(seed: int) -> str:
    """Mutate one file and run; what happened, "ok", "refused" or what is wrong."""
    rng = random.Random(seed)
    file = rng.choice(FILES)
    with tempfile.TemporaryDirectory(dir=MODEL) as temporary:
        folder = Path(temporary)
        source = Path(file).parts[0]
        if "/" in file:
            shutil.copytree(MODEL / source, folder / source)
        data = bytearray((MODEL / file).read_bytes())
        mutate(data, rng)
        (folder / file).write_bytes(data)
        out = folder / "out"
        out.mkdir()
        command = [RUN, LAYER, "-O0", f"--output={out / 'y.safetensors'}", *arguments(file, folder)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"seed {seed}, {file}: hangs"
        errors, left = done.stderr.decode(errors="replace"), sorted(p.name for p in out.iterdir())
    if done.returncode == 0 and left == ["y.safetensors"]:
        return "ok"
    if done.returncode == 1 and errors.startswith("moe-run: error: argument '") and not left:
        return "refused"
    return f"seed {seed}, {file}: status {done.returncode}, left {left}, said: {errors[:500]}"


with ThreadPoolExecutor(2) as pool:
    outcomes = Counter(pool.map(run, range(COUNT)))
wrong = [outcome for outcome in outcomes if outcome not in ("ok", "refused")]
for outcome in wrong:
    print(outcome)
print(f"{COUNT} files: {outcomes['ok']} run, {outcomes['refused']} refused, {len(wrong)} wrong")
sys.exit(bool(wrong))
