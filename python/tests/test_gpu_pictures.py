"""scripts/plot-gpu-pipelines draws every picture of docs/GPU.md."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/plot-gpu-pipelines"


def test_pictures(tmp_path):
    """What it draws is committed, and shown on the page."""
    done = subprocess.run([sys.executable, SCRIPT, "-o", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    drawn = {path.name for path in tmp_path.iterdir()}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in drawn)
    shown = set(re.findall(r"\]\(images/(gpu-[\w-]+\.png)\)", (ROOT / "docs/GPU.md").read_text()))
    committed = {path.name for path in (ROOT / "docs/images").glob("gpu-*.png")}
    assert drawn and drawn <= shown <= committed


def test_errors(tmp_path):
    """Unknown kernels, and folders that are not there."""
    for options, message in ((["tcgen05"], "'tcgen05' is none of mma-sync"),
                             (["-o", tmp_path / "none"], "error: ")):
        done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True)
        assert done.returncode and message in done.stderr
