"""Routers beyond those of transformers (`test/Zoo/Beyond`), run and compared with float64.

    python beyond.py MOE_RUN FILE.mlir FOLDER

FILE names the case: its reference in `CASES` is written from the paper, in numpy, and not from the
IR. moe-run runs the file on random tensors, checks it against its second way through the compiler
(--check), and does so again with what the verifier cannot see asserted (--runtime-verification).
Ids must be equal: inputs are drawn again while a decision hangs on less than MARGIN. Values must
agree within the bound that is derived at `bound`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from moe import reference, tensors  # noqa: E402

Array = np.ndarray
H, I, E, WORDS = 16, 24, 8, 100  # noqa: E741
SEED = 20261122
MARGIN = 1e-4  # f32 keys of this size are right to 1e-6
UNIT = 2.0**-24


class Routing(NamedTuple):
    """What a router decides, and how near it was to deciding something else."""

    ids: Array  # T×k
    weights: Array  # T×k, float64
    margin: float  # the least difference between a key that was chosen and one that was not


class Case(NamedTuple):
    """A router: its arguments besides x, up and down, and what it decides."""

    make: Callable[[np.random.Generator, int], dict[str, Array]]
    route: Callable[..., Routing]
    tokens: tuple[int, ...] = (0, 1, 37)
    experts: int = E


def margin(keys: Array, k: int) -> float:
    """Of the k largest keys of each row over the others, and among themselves: order counts too."""
    ordered = -np.sort(-keys, -1)
    gaps = ordered[:, :-1] - ordered[:, 1:]
    return float(gaps[:, :k].min(initial=np.inf))


def matrix(random: np.random.Generator, rows: int, columns: int = H) -> Array:
    return random.normal(size=(rows, columns)).astype(np.float32) / np.float32(4)


def softmax(rows: Array) -> Array:
    return np.array([reference.softmax(row) for row in rows]).reshape(rows.shape)


def with_router(random: np.random.Generator, _tokens: int) -> dict[str, Array]:
    return {"router": matrix(random, E)}


# --- The routers ----------------------------------------------------------------------------------

def expert_choice(x: Array, router: Array) -> Routing:
    """Each expert takes the c tokens whose probability of it is largest; c = ceil(2T / E)."""
    probabilities = softmax(x @ router.T)
    c = -(-2 * len(x) // E)
    ids, weights = np.full((len(x), E), -1, np.int32), np.zeros((len(x), E))
    for e in range(E):
        for t in np.argsort(-probabilities[:, e], kind="stable")[:c]:
            ids[t, e], weights[t, e] = e, probabilities[t, e]
    return Routing(ids, weights, margin(probabilities.T, c) if len(x) else np.inf)


def words_and_table(random: np.random.Generator, tokens: int) -> dict[str, Array]:
    """Some words go to -1, and some to E: nowhere."""
    return {"words": random.integers(0, WORDS, tokens).astype(np.int32),
            "table": random.integers(-1, E + 1, WORDS).astype(np.int32)}


def hash_routing(_x: Array, words: Array, table: Array) -> Routing:
    """One expert a token, whatever the token holds."""
    return Routing(table[words][:, None], np.ones((len(words), 1)), np.inf)


def soft_mixture(x: Array, router: Array) -> Routing:
    """All experts, in the order of their probability."""
    weights, ids = reference.gate(x @ router.T, E)
    return Routing(ids, weights, margin(softmax(x @ router.T), E))


def with_noise(seed: int) -> Callable[[np.random.Generator, int], dict[str, Array]]:
    def make(random: np.random.Generator, _tokens: int) -> dict[str, Array]:
        return {"seed": np.array(seed, np.int32), "router": matrix(random, E),
                "width": matrix(random, E)}
    return make


def lowbias32(value: Array) -> Array:
    """A hash of 32 bits by Chris Wellons, in numbers of 64 bits."""
    value = value ^ value >> 16
    value = value * 0x7feb352d & 0xffffffff
    value ^= value >> 15
    value = value * 0x846ca68b & 0xffffffff
    return value ^ value >> 16


def uniform(counters: Array) -> Array:
    return ((lowbias32(counters & 0xffffffff) >> 9) + 0.5) * 2.0**-23


def noisy_top_k(x: Array, seed: Array, router: Array, width: Array) -> Routing:
    """Logits plus normal numbers times softplus(x·width), then the two best and their softmax."""
    start = lowbias32(np.array([int(seed) & 0xffffffff], np.uint64))
    counters = start + 2 * np.arange(len(x) * E, dtype=np.uint64).reshape(-1, E)
    normal = np.sqrt(-2 * np.log(uniform(counters))) * np.cos(2 * np.pi * uniform(counters + 1))
    keys = x @ router.T + normal * np.logaddexp(0, x @ width.T)
    weights, ids = reference.gate(keys, 2, scope="selected")
    return Routing(ids, weights, margin(keys, 2))


def with_keys(random: np.random.Generator, _tokens: int) -> dict[str, Array]:
    return {"row_keys": matrix(random, 4), "column_keys": matrix(random, 4)}


def product_keys(x: Array, row_keys: Array, column_keys: Array) -> Routing:
    """The two best of all 16 sums: those of the two best rows and columns hold them."""
    rows, columns = x @ row_keys.T, x @ column_keys.T
    sums = (rows[:, :, None] + columns[:, None, :]).reshape(len(x), 16)
    weights, ids = reference.gate(sums, 2, scope="selected")
    return Routing(ids, weights, min(margin(sums, 2), margin(rows, 2), margin(columns, 2)))


def contrast(x: Array, router: Array) -> Routing:
    """The most probable expert, and against it the one that is most probable when logits change
    their sign."""
    logits = x @ router.T
    best_weights, best = reference.gate(logits, 1)
    worst_weights, worst = reference.gate(-logits, 1)
    return Routing(np.hstack([best, worst]), np.hstack([best_weights, -worst_weights]),
                   min(margin(logits, 1), margin(-logits, 1)))


CASES = {
    "expert-choice": [Case(with_router, expert_choice, (1, 3, 37))],
    "hash-routing": [Case(words_and_table, hash_routing)],
    "soft-mixture": [Case(with_router, soft_mixture)],
    "noisy-top-k": [Case(with_noise(7), noisy_top_k), Case(with_noise(-8), noisy_top_k, (37,))],
    "product-keys": [Case(with_keys, product_keys, experts=16)],
    "contrast": [Case(with_router, contrast)],
}


# --- Running and comparing ------------------------------------------------------------------------

def draw(case: Case, tokens: int, name: str) -> tuple[dict[str, Array], Routing]:
    """Inputs on which no decision is a close one, and what is decided."""
    for attempt in range(100):
        random = np.random.default_rng([SEED, attempt, tokens, *name.encode()])
        x = random.normal(size=(tokens, H)).astype(np.float32)
        routers = case.make(random, tokens)
        wide = {key: value.astype(np.float64) if value.dtype == np.float32 else value
                for key, value in routers.items()}
        routing = case.route(x.astype(np.float64), **wide)
        if routing.margin > MARGIN:
            weights = {"up": random.normal(size=(case.experts, I, H)).astype(np.float32),
                       "down": random.normal(size=(case.experts, H, I)).astype(np.float32)}
            return {"x": x, **routers, **weights}, routing
    raise RuntimeError(f"{name}: 100 draws, and each has a margin below {MARGIN}")


def experts(inputs: dict[str, Array], routing: Routing) -> tuple[Array, Array]:
    """y, T×H, and the same of absolute values: what a bound on the rounding is relative to."""
    x, up, down = (inputs[name].astype(np.float64) for name in ("x", "up", "down"))
    y = np.zeros(x.shape)
    size = np.zeros(x.shape)
    for t, row in enumerate(x):
        for e, weight in zip(routing.ids[t], routing.weights[t]):
            if 0 <= e < len(up):
                y[t] += weight * (np.maximum(up[e] @ row, 0) @ down[e].T)
                size[t] += abs(weight) * ((np.abs(up[e]) @ np.abs(row)) @ np.abs(down[e]).T)
    return y, size


def bound(size: Array, choices: int) -> Array:
    """A sum of n products is wrong by at most n·u of the sum of their sizes, and a weight by 64 u:
    its logits are sums of H products of size 1, and exp, log and cos add some units each."""
    return (H + I + choices + 64) * UNIT * size + 1e-30


def run(moe_run: str, text: Path, folder: Path, inputs: dict[str, Array],
        *options: str) -> dict[str, Array]:
    """The results of moe-run, which checks them in its own ways too."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [moe_run, text, "--check", *options, "--output", folder / "out.safetensors"]
    for name, value in inputs.items():
        np.save(folder / f"{name}.npy", value)
        command += ["--input", f"{name}={folder / name}.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{text.name}: moe-run failed\n{done.stdout}{done.stderr}")
    return tensors.load(folder / "out.safetensors")[0]


def compare(results: dict[str, Array], inputs: dict[str, Array], routing: Routing) -> list[str]:
    """What differs from the reference."""
    y, size = experts(inputs, routing)
    problems = []
    if not np.array_equal(results["ids"], routing.ids):
        problems.append(f"ids differ in {int((results['ids'] != routing.ids).sum())} places")
    error = np.abs(results["weights"] - routing.weights)
    if not (error <= 128 * UNIT * np.maximum(np.abs(routing.weights), 2.0**-6)).all():
        problems.append(f"weights differ by {error.max():.1e}")
    error = np.abs(results["y"] - y)
    if not (error <= bound(size, routing.ids.shape[1])).all():
        problems.append(f"y differs by {error.max():.1e}")
    return problems


def count_router_lines(text: str) -> int:
    """Lines between the comments that enclose the router."""
    body = text.split("  // --- router\n")[1].split("  // --- end of the router\n")[0]
    return len([line for line in body.splitlines() if not line.strip().startswith("//")])


def main() -> int:
    """Run all sizes of one router; print a line for each."""
    moe_run, text, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    print(f"router: {count_router_lines(text.read_text())} lines")
    decisions: dict[int, Array] = {}
    failed = False
    for case in CASES[text.stem]:
        for tokens in case.tokens:
            inputs, routing = draw(case, tokens, text.stem)
            problems = []
            for options in ((), ("--runtime-verification",)):
                results = run(moe_run, text, folder, inputs, *options)
                problems += compare(results, inputs, routing)
            failed |= bool(problems)
            nowhere = int(((routing.ids < 0) | (routing.ids >= case.experts)).sum())
            print(f"{'DIFFERS' if problems else 'agrees'}: T = {tokens}, {nowhere} of "
                  f"{routing.ids.size} choices nowhere {'; '.join(problems)}")
            if tokens in decisions:
                moved = int((decisions[tokens] != routing.ids).any(-1).sum())
                print(f"seeds choose other experts for {moved} of {tokens} tokens")
            decisions[tokens] = routing.ids
    return failed


if __name__ == "__main__":
    sys.exit(main())
