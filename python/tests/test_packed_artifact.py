"""Artifacts that pack their weights, and files of packed weights, from Python."""

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from moe import packed_file
from moe.artifact import Artifact, View, packed_shape, view
from moe.tensors import bf16_bits
from packing import pack_panels, rewrite
from programs import find_tool

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ROOT / "test/Integration/Weights/Inputs"
EXPERTS, TOKENS, H, I = 5, 7, 40, 35
NAMES = ("gate", "up", "down")
SIZES = {"gate": (I, H), "up": (I, H), "down": (H, I)}


def as_kind(values: np.ndarray, kind: str) -> np.ndarray:
    return bf16_bits(values) if kind == "bf16" else values


class Case:
    """A layer, its weights packed by the artifact, and a call."""

    def __init__(self, kind: str, layer: Artifact) -> None:
        random = np.random.default_rng(3)
        self.kind, self.layer, self.pair = kind, layer, 2 if kind == "bf16" else 1
        draw = lambda *shape: as_kind(  # noqa: E731
            random.integers(-63, 64, shape).astype(np.float32) / 64, kind)
        self.sources = {name: draw(EXPERTS, *SIZES[name]) for name in NAMES}
        self.packed = {name: np.full(packed_shape(EXPERTS, *SIZES[name], kind), 77,
                                     self.sources[name].dtype) for name in NAMES}
        self.x = draw(TOKENS, H)
        self.ids = np.array([[e % EXPERTS, (e + 1) % EXPERTS] for e in range(TOKENS)], np.int32)
        self.weights = random.random((TOKENS, 2), np.float32)
        layer.pack(*self.views(self.sources), *self.views(self.packed))

    def views(self, arrays: dict[str, np.ndarray]) -> list[View]:
        return [view(array, self.kind) for array in arrays.values()]

    def run(self, weights: list[View]) -> np.ndarray:
        y = np.zeros((TOKENS, H), self.x.dtype)
        self.layer(view(self.x, self.kind), view(self.ids), view(self.weights), *weights,
                   view(y, self.kind))
        return y


@pytest.fixture(scope="module", params=["f32", "bf16"])
def case(request: pytest.FixtureRequest, tmp_path_factory) -> Case:
    source = INPUTS / ("packed.mlir" if request.param == "f32" else "packed_bf16.mlir")
    shared = tmp_path_factory.mktemp("packed") / "layer.so"
    subprocess.run([find_tool("moe-compile"), source, "--pack-weights", "--target-cpu=native", "-o",
                    shared], check=True)
    return Case(request.param, Artifact(shared, "layer"))


def test_packs_all(case: Case) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(case.packed[name], pack_panels(case.sources[name], case.pair))


def test_replaces_an_expert(case: Case) -> None:
    before = case.run(case.views(case.packed))
    packed = {name: array.copy() for name, array in case.packed.items()}
    own = {name: np.ascontiguousarray(array[:1]) for name, array in case.sources.items()}
    case.layer.pack_expert(3, *case.views(own), *case.views(packed))
    for name in NAMES:
        expected = case.packed[name].copy()
        expected[3] = expected[0]
        np.testing.assert_array_equal(packed[name], expected)
    after = case.run(case.views(packed))
    changed = (after != before).any(axis=1)
    np.testing.assert_array_equal(changed, (case.ids == 3).any(axis=1))


def test_refuses(case: Case) -> None:
    own = {name: np.ascontiguousarray(array[:1]) for name, array in case.sources.items()}
    views = [*case.views(own), *case.views(case.packed)]
    for expert in (-1, EXPERTS):
        with pytest.raises(ValueError, match="tensor 3, .*: has no slab for this expert"):
            case.layer.pack_expert(expert, *views)
    with pytest.raises(ValueError, match="tensor 0, .*: another shape"):
        case.layer.pack_expert(0, *case.views(case.sources), *case.views(case.packed))
    with pytest.raises(ValueError, match="compiled without --pack-weights"):
        case.layer.pack.pack_expert(0, *views)
    rows = np.zeros((2, 3, 4, 16), np.float32)
    with pytest.raises(ValueError, match="w: packed weights of f32 are ExpanelsxKx32, .* 2x3x4x16"):
        packed_file.save("none.safetensors", {"w": view(rows)})
    with pytest.raises(ValueError, match="weights of i8 are not packed"):
        packed_shape(1, 2, 3, "i8")


def test_saves_and_maps(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "packed.safetensors"
    packed_file.save(file, dict(zip(NAMES, case.views(case.packed))))
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    mapped = packed_file.load(file)
    assert set(mapped) == set(NAMES)
    assert [mapped[name].address % 64 for name in NAMES] == [0, 0, 0]
    np.testing.assert_array_equal(case.run([mapped[name] for name in NAMES]),
                                  case.run(case.views(case.packed)))


def change(file: Path, edit) -> Path:
    changed = file.with_name("changed.safetensors")
    rewrite(file, changed, edit)
    return changed


def test_refuses_files(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "packed.safetensors"
    packed_file.save(file, dict(zip(NAMES, case.views(case.packed))))

    def flip(header: dict, body: bytearray) -> None:
        begin, end = header["up"]["data_offsets"]
        body[begin + (end - begin) // EXPERTS * 2] ^= 1

    def metadata(key: str, value: object):
        return lambda header, body: header["__metadata__"].update({key: value})

    def entry(name: str, **what: object):
        return lambda header, body: header[name].update(what)

    shape = list(case.packed["up"].shape)
    swapped = [*shape[:2], shape[3], shape[2], *shape[4:]]
    for edit, message in (
            (flip, "'up' is damaged: the CRC-32 of expert 2 is"),
            (metadata("moe.layout", "rows"), "packed as 'rows', version '1'; this program reads"),
            (metadata("moe.layout_version", "9"), "version '9'; this program reads"),
            (metadata("moe.crc32.down", "00000000"), "'down' has 1 checksums for 5 experts"),
            (metadata("moe.crc32.up", 5), "metadata 'moe.crc32.up' isn't text: 5"),
            (entry("up", shape=[EXPERTS, 2]), f"'up' of shape .{EXPERTS}, 2. needs"),
            (entry("up", shape=[float(n) for n in shape]), "'up' isn't described by"),
            (entry("up", shape=swapped), f"'up': packed weights of {case.kind} are ExpanelsxK"),
            (entry("up", shape=[*shape, 1]), "are ExpanelsxK.*, this tensor is .*x32.*x1$"),
            (entry("up", data_offsets=[0.0, 64.0]), "'up' isn't described by"),
            (entry("gate", dtype="I8"), "'gate' of shape .* needs"),
            (entry("gate", dtype="I32" if case.kind == "f32" else "I16"),
             "'gate': packed weights are F32, F16 or BF16, not I"),
            (entry("gate", dtype=[]), "'gate' is .*, which isn't supported"),
            (lambda header, body: body.clear(), "in 0 bytes of data")):
        with pytest.raises(ValueError, match=message):
            packed_file.load(change(file, edit))
    packed_file.load(change(file, flip), check=False)
    for data, message in ((b"", "too short"), (b"\xff" * 64, "header of"),
                          (struct.pack("<Q", 2) + b"[]", "isn't a JSON object"),
                          (struct.pack("<Q", 60_000) + b"[" * 60_000, "isn't JSON")):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            packed_file.load(file)


def test_reads_what_moe_run_saves(case: Case, tmp_path: Path) -> None:
    source = INPUTS / ("packed.mlir" if case.kind == "f32" else "packed_bf16.mlir")
    np.save(tmp_path / "ids.npy", case.ids)
    subprocess.run(
        [find_tool("moe-run"), source, "--pack-weights", f"--shape=x={TOKENS}x{H}",
         f"--input=ids={tmp_path / 'ids.npy'}", f"--shape=weights={TOKENS}x2", "--random-weights",
         *(f"--shape={name}={EXPERTS}x{SIZES[name][0]}x{SIZES[name][1]}" for name in NAMES),
         f"--save-packed={tmp_path / 'run.safetensors'}"], check=True, stdout=subprocess.DEVNULL)
    mapped = packed_file.load(tmp_path / "run.safetensors")
    assert {name: mapped[name].shape for name in mapped} == {
        f"{name}.packed": case.packed[name].shape for name in NAMES}
