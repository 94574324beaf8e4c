"""The case file: the layers that are measured, and the suites of points.

Sizes are those of the published models. H hidden, I inside an expert, E experts, k of them a token.
"""

from __future__ import annotations

from typing import NamedTuple

ELEMENT_BYTES = {"f32": 4, "bf16": 2}
BODIES = ("swiglu", "gpt_oss", "relu2")  # what an expert computes: reference.py has the formulas


class Case(NamedTuple):
    """A layer; router included, one call turns T×H hidden states into T×H."""

    name: str
    title: str
    hidden: int
    inner: int
    experts: int
    top_k: int
    family: str  # the importer's: a file in test/Zoo, or in benchmarks/families
    body: str = "swiglu"
    score: str = "softmax"  # of a logit; sigmoid has a bias that takes part in choosing only
    renormalize: bool = True  # whether a token's k weights are divided by their sum
    scale: float = 1.0  # of the weights
    types: tuple[str, ...] = ("f32", "bf16")
    config: tuple[tuple[str, object], ...] = ()  # of config.json, where the zoo's has other values

    @property
    def matrices(self) -> int:
        """H×I matrices of an expert."""
        return 2 if self.body == "relu2" else 3

    def expert_bytes(self, dtype: str) -> int:
        """Weights of one expert; biases are too small to count."""
        return self.matrices * self.hidden * self.inner * ELEMENT_BYTES[dtype]

    def flops(self, tokens: int) -> int:
        """Operations of the contractions, router included."""
        experts = 2 * self.matrices * tokens * self.top_k * self.hidden * self.inner
        return experts + 2 * tokens * self.hidden * self.experts

    def touched_bytes(self, dtype: str, tokens: int, experts: float) -> float:
        """Bytes that a call has to move at least when it meets `experts` different experts."""
        size = ELEMENT_BYTES[dtype]
        rows = (self.experts + 2 * tokens) * self.hidden * size  # the router, x and y
        return experts * self.expert_bytes(dtype) + rows


CASES = {case.name: case for case in (
    Case("A", "OLMoE-1B-7B", 2048, 1024, 64, 8, "olmoe", renormalize=False),
    Case("B", "Qwen3-30B-A3B", 2048, 768, 128, 8, "qwen3_moe"),
    Case("C", "Mixtral-8x7B", 4096, 14336, 8, 2, "mixtral", types=("bf16",)),
    Case("D", "small", 768, 3072, 8, 2, "qwen3_moe"),
    Case("G", "gpt-oss-20B", 2880, 2880, 32, 4, "gpt_oss", body="gpt_oss",
         config=(("swiglu_limit", 7.0),)),
    # Without Nemotron's shared expert, which is a dense layer beside the routed ones.
    Case("N", "Nemotron-like", 2688, 1856, 128, 6, "relu2", body="relu2", score="sigmoid",
         scale=2.5),
    # The finest experts of the published models.
    Case("Q", "Qwen3.5-35B-A3B", 2048, 512, 256, 8, "qwen3_moe"),
    Case("tiny", "fits in the cache", 256, 512, 8, 2, "qwen3_moe"),
)}


class Points(NamedTuple):
    """One line of a suite: every number of tokens with every number of threads."""

    case: str
    dtype: str
    tokens: tuple[int, ...]
    threads: tuple[int, ...] = (2,)
    peers: tuple[str, ...] = ()  # those of the suite, where there are none
    skews: tuple[str, ...] = ()  # ours on skewed routing against ours on even routing
    alone: bool = False  # ours without anybody beside it, too


class Suite(NamedTuple):
    """Points, and the peers of those that name none."""

    peers: tuple[str, ...]
    lines: tuple[Points, ...]


EVERY = (1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096)
UP_TO_1024 = EVERY[:-1]
KERNELS = ("zentorch", "vllm-experts", "vllm-fused")
EVERYBODY = KERNELS + ("torch-eager", "torch-grouped", "torch-compiled", "onnxruntime",
                       "llamacpp")
SKEWS = ("one", "zipf")

SUITES = {
    # About three minutes on two cores.
    "short": Suite(("torch-eager", "torch-grouped"), (
        Points("A", "bf16", (1, 16, 64, 256, 1024)),
        Points("A", "bf16", (1, 256), (1,)),
        Points("A", "f32", (1, 256)),
        Points("B", "bf16", (1, 64, 256)),
        Points("D", "bf16", (1, 64, 1024)),
        Points("tiny", "bf16", (1,), (1, 2)),
    )),
    # What has to be beaten, on all that has to be: about twenty minutes.
    "bar": Suite(KERNELS, (
        Points("A", "bf16", UP_TO_1024, skews=SKEWS),
        Points("A", "f32", UP_TO_1024),
        Points("B", "bf16", UP_TO_1024),
        Points("B", "f32", UP_TO_1024),
        Points("C", "bf16", UP_TO_1024),
        Points("D", "bf16", UP_TO_1024, skews=SKEWS),
        Points("D", "f32", UP_TO_1024),
        Points("G", "bf16", (1, 4, 16, 64, 256, 1024)),
        Points("G", "f32", (1, 16, 256)),
        # None of the kernels has a body without a gate.
        Points("N", "bf16", (1, 4, 16, 64, 256, 1024), peers=("torch-eager",)),
        Points("N", "f32", (1, 16, 256), peers=("torch-eager",)),
        Points("tiny", "bf16", (1,), (1, 2), alone=True),
    )),
    # Hours.
    "all": Suite(EVERYBODY, tuple(
        Points(case.name, dtype, EVERY, (1, 2), skews=SKEWS, alone=True)
        for case in CASES.values() for dtype in case.types)),
}
