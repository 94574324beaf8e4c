"""Make the files that the tests of moe-run read: make_model.py FOLDER [--experts E].

  x.npy, x.safetensors   hidden states, 5×8 f32 (x.safetensors: as "x" and, twice as large, "z")
  x_bf16.safetensors     the same shape in BF16
  model/                 a checkpoint of one file: router and per-expert weights of E experts, f32
  sharded/               the same in two shards and an index
  arrays/                the same as .npy: the router by its parameter's name, the experts stacked
"""

import argparse
import json
import random
from pathlib import Path

import tensors as ts

H, I = 8, 6


def weights(experts: int) -> dict[str, ts.Tensor]:
    """The tensors of a checkpoint, those of expert e the same whatever the number of experts."""
    rng = random.Random(1)
    model = {"gate.weight": ts.normal(rng, "F32", experts, H)}
    for e in range(experts):
        rng = random.Random(f"expert {e}")
        model[f"experts.{e}.gate_proj.weight"] = ts.normal(rng, "F32", I, H, scale=0.4)
        model[f"experts.{e}.up_proj.weight"] = ts.normal(rng, "F32", I, H, scale=0.4)
        model[f"experts.{e}.down_proj.weight"] = ts.normal(rng, "F32", H, I, scale=0.4)
    return model


def write(path: Path, data: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--experts", type=int, default=4)
    arguments = parser.parse_args()
    folder, model = arguments.folder, weights(arguments.experts)

    x = ts.normal(random.Random(2), "F32", 5, H)
    z = ts.normal(random.Random(3), "F32", 5, H, scale=2)
    write(folder / "x.npy", ts.npy_bytes(x))
    write(folder / "x.safetensors", ts.safetensors_bytes({"z": z, "x": x}))
    x_bf16 = ts.normal(random.Random(2), "BF16", 5, H)
    write(folder / "x_bf16.safetensors", ts.safetensors_bytes({"x": x_bf16}))

    write(folder / "model" / "model.safetensors", ts.safetensors_bytes(model))
    names = list(model)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in shards.items():
        write(folder / "sharded" / file, ts.safetensors_bytes({n: model[n] for n in held}))
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    write(folder / "sharded" / "model.safetensors.index.json", json.dumps(index).encode())

    write(folder / "arrays" / "gate.weight.npy", ts.npy_bytes(model["gate.weight"]))
    for argument, name in {"wg": "gate_proj", "wu": "up_proj", "wd": "down_proj"}.items():
        parts = [model[f"experts.{e}.{name}.weight"] for e in range(arguments.experts)]
        stacked = ts.Tensor("F32", (len(parts), *parts[0].shape), b"".join(p.data for p in parts))
        write(folder / "arrays" / f"{argument}.npy", ts.npy_bytes(stacked))


if __name__ == "__main__":
    main()
