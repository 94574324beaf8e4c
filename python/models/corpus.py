"""The text that the byte model learns: what every Debian machine and every Python has on disk.

Licences (`/usr/share/common-licenses`), the copyright files and the newest part of the changelogs
of Debian's essential packages, and the docstrings of Python's standard library. The Apache
licence is left out: it is in the held-out text (`test/Models/bytes/heldout.txt`), and so is every
tenth document; paragraphs that are in a held-out text are struck from the training text.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

HELDOUT = Path(__file__).resolve().parents[2] / "test/Models/bytes/heldout.txt"
ESSENTIAL = """apt base-files base-passwd bash bsdutils coreutils dash debianutils diffutils dpkg
 findutils grep gzip hostname init-system-helpers libc-bin login ncurses-base perl-base sed
 sysvinit-utils tar util-linux""".split()
CHANGELOG_BYTES = 24_000
MANUAL_BYTES = 1_200_000


def _licences() -> Iterator[tuple[str, str]]:
    for path in sorted(Path("/usr/share/common-licenses").glob("*")):
        if not path.is_symlink() and path.name != "Apache-2.0":
            yield str(path), path.read_text("utf-8", "replace")


def _package_documents() -> Iterator[tuple[str, str]]:
    for package in ESSENTIAL:
        folder = Path("/usr/share/doc") / package
        if (folder / "copyright").exists():
            yield str(folder / "copyright"), (folder / "copyright").read_text("utf-8", "replace")
        for path in sorted(folder.glob("changelog*.gz")):
            with gzip.open(path) as file:
                yield str(path), file.read(CHANGELOG_BYTES).decode("utf-8", "replace")


def _manuals() -> Iterator[tuple[str, str]]:
    total = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(path.read_text("utf-8", "replace"))
        nodes = [n for n in ast.walk(tree)
                 if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))]
        text = "\n\n".join(filter(None, map(ast.get_docstring, nodes)))
        total += len(text)
        if total > MANUAL_BYTES:
            return
        if len(text) > 500:
            yield path.name, text


def _paragraphs(text: str) -> list[tuple[str, str]]:
    """(key, text) of each paragraph; the key ignores case, space and comment marks."""
    parts = re.split(r"\n[ .*#\t]*\n", text)
    return [(re.sub(r"[^a-z0-9]+", "", part.lower()), part) for part in parts]


def load() -> tuple[bytes, bytes, bytes]:
    """(training text, held-out tenth of this machine's documents, committed held-out text)."""
    documents = [*_licences(), *_package_documents(), *_manuals()]
    held = [d for i, d in enumerate(documents) if i % 10 == 7]
    train = [d for i, d in enumerate(documents) if i % 10 != 7]
    committed = HELDOUT.read_text()
    seen = {key for _, text in [*held, ("", committed)] for key, _ in _paragraphs(text)}
    kept: list[str] = []
    for _, text in train:
        for key, part in _paragraphs(text):
            if key not in seen:
                seen.add(key)  # a paragraph that many packages share is learnt once
                kept.append(part)
    return ("\n\n".join(kept).encode(), "\n\n".join(text for _, text in held).encode(),
            committed.encode())


def digest(text: bytes) -> str:
    """A short name of a text, to see whether two machines trained on the same."""
    return hashlib.sha256(text).hexdigest()[:12]
