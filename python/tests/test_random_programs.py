"""2,000 random programs, fused and decomposed, 400 as vector code; a wrong one would be found.

MOE_TEST_SEED and MOE_TEST_ITERATIONS choose other programs and their number, MOE_TEST_COLUMNS other
pipelines. What fails is kept in build/random-programs, as small as it can be made.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import random_programs
from programs import Case, Column, ROOT, has_pipeline, module_text
from random_programs import VERIFIED, default_columns, run_programs

SEED = int(os.environ.get("MOE_TEST_SEED", 20261122))
COUNT = int(os.environ.get("MOE_TEST_ITERATIONS", 2000))
DECOMPOSED = Column.parse("decomposed=--moe-general-lowering")


def test_programs():
    failed, counts = run_programs(SEED, COUNT, default_columns(), ROOT / "build/random-programs")
    print(*(f"{what}: {number}" for what, number in sorted(counts.items())), sep="\n")
    assert not failed, "\n".join(f"{path}: {failure.message}" for failure, path in failed)
    assert counts["unbounded"] <= COUNT / 50 + 1, "too many programs that say nothing"
    if has_pipeline("moe-fuse") and "MOE_TEST_COLUMNS" not in os.environ and COUNT >= 100:
        assert counts["fused: moe.grouped_matmul"] > COUNT / 4, "hardly anything was fused"


def vector_column() -> Column:
    """AVX2 where this machine has it, else vectors without instructions of any machine."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.exists() else ""
    isa = "avx2" if " avx2 " in flags else "generic"
    return Column.parse(f"vectors=--moe-cpu-lowering=isa={isa}")


@pytest.mark.skipif(not has_pipeline("moe-cpu-lowering"), reason="moe-opt has no CPU lowering")
def test_vector_code():
    seed, count = SEED + COUNT, COUNT // 5
    failed, _ = run_programs(seed, count, [vector_column()], ROOT / "build/random-programs")
    assert not failed, "\n".join(f"{path}: {failure.message}" for failure, path in failed)


def broken_text(old: str, new: str):
    """module_text with a mistake in it."""
    return lambda cases: module_text(cases).replace(old, new)


@pytest.mark.parametrize("old, new, kind", [
    ("arith.addf", "arith.subf", "decomposed: wrong with T"),
    (" base(%", " test.unknown(%", "decomposed: moe-opt --moe-general-lowering"),
])
def test_what_is_wrong_is_found_and_made_smaller(old, new, kind, monkeypatch, tmp_path):
    monkeypatch.setattr(random_programs, "module_text", broken_text(old, new))
    failed, _ = run_programs(1, 12, [DECOMPOSED], tmp_path)
    wrong = {case.seed for case in map(Case, range(1, 13)) if old in module_text([case])}
    assert failed and {failure.case.seed for failure, _ in failed} <= wrong
    for failure, path in failed:
        assert failure.message.startswith(kind)
        assert old in module_text([failure.case])
        assert f"--seed {failure.case.seed}" in path.read_text(encoding="utf-8").splitlines()[0]
    assert any(failure.case.without for failure, _ in failed)


def test_a_program_that_stops_is_told_from_the_others(monkeypatch, tmp_path):
    """Slots that are all the same collide: runtime verification ends the process."""
    cases = [Case(seed, ("tokens",)) for seed in (1, 2, 3)]

    def text(cases):
        parts = []
        for line in module_text(cases).splitlines():
            parts.append(line.replace("slots(%slots :", "slots(%collide :"))
            if "%i_init = tensor.empty" in line:
                type_ = line.split(" : ")[1]
                parts.append(f"  %i_zero = arith.constant 0 : i32\n  %collide = linalg.fill "
                             f"ins(%i_zero : i32) outs(%i_init : {type_}) -> {type_}")
        return "\n".join(parts)
    monkeypatch.setattr(random_programs, "module_text", text)
    failures, _ = random_programs.run_batch([Column("verified", ((VERIFIED,),))], cases)
    assert [failure.case for failure in failures] == cases
    for failure in failures:
        assert failure.message.startswith("run: ended with -6")
        assert "slots collide" in failure.message or "a slot is outside" in failure.message


def test_the_sanitizer_sees_what_is_out_of_bounds(monkeypatch):
    """Fewer rows than choices: the dispatch writes behind its buffers, into malloc's redzones."""
    cases = [Case(seed, ("tokens", "capacity", "score", "skew")) for seed in range(1, 7)]
    monkeypatch.setattr(random_programs, "module_text",
                        broken_text("%m = arith.muli %t, %k", "%m = arith.divui %t, %k"))
    failures, _ = random_programs.run_batch([DECOMPOSED], cases, sanitize=True)
    assert failures
    for failure in failures:
        assert "AddressSanitizer: heap-buffer-overflow" in failure.message
