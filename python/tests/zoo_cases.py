"""The families of the zoo: what is particular about each (see zoo.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

H, I, E, K = 40, 24, 8, 3
# What most configs call the sizes. Tokens that are none keep transformers from warning.
SIZES = {"hidden_size": H, "num_hidden_layers": 2, "vocab_size": 32, "num_attention_heads": 2,
         "num_key_value_heads": 2, "num_experts_per_tok": K, "max_position_embeddings": 16,
         "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


class Reference(NamedTuple):
    """What transformers computed: y, the ids, and the keys that chose them."""

    y: torch.Tensor  # T×H
    ids: torch.Tensor  # T×k, -1 where a choice was dropped
    keys: torch.Tensor  # T×E


class Case(NamedTuple):
    """What is particular about a family."""

    model: str  # transformers' name of the model; its config is called alike
    sizes: dict  # of the config, over SIZES
    block: str  # the MoE block in the model
    layer: int = 1
    router: str = "gate"  # in the block
    logits_at: int = 0  # among the router's outputs
    grouped: bool = True  # the experts run as "grouped_mm"; otherwise they can only run "eager"
    reference: Callable[[torch.nn.Module, torch.Tensor, Case], Reference] | None = None
    identities: int = 0  # the last experts have tensors in transformers, but not in checkpoints
    published: dict = {}  # what transformers' default config lacks to be a published one
    config: str = ""  # what transformers calls the config, when not like the model
    kind: str = "ForCausalLM"  # the end of the model's name


@contextlib.contextmanager
def recorded(module: torch.nn.Module) -> Iterator[dict]:
    """The last inputs and outputs of `module`, while it is called."""
    record: dict = {}

    def hook(_module, inputs, output):
        record.update(inputs=inputs, outputs=output if isinstance(output, tuple) else (output,))
    handle = module.register_forward_hook(hook)
    try:
        yield record
    finally:
        handle.remove()


def call_block(block: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """The usual block: a router, and experts that are called on hidden states and ids."""
    with recorded(block.get_submodule(case.router)) as router, recorded(block.experts) as experts:
        y = block(hidden[None])
    y = y[0] if isinstance(y, tuple) else y
    return Reference(y.reshape(hidden.shape), experts["inputs"][1],
                     router["outputs"][case.logits_at].reshape(len(hidden), -1))


def call_llama4(block: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """All experts see all tokens, most of them times 0: the ids are those of the router."""
    with recorded(block.router) as router:
        y, logits = block(hidden[None])
    scores = router["outputs"][0].float()
    return Reference(y, torch.topk(scores, block.top_k).indices, logits)


def call_dbrx(block: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """The experts are chosen by probabilities that are rounded."""
    usual = call_block(block, hidden, case)
    return usual._replace(keys=torch.softmax(usual.keys, -1, dtype=hidden.dtype))


def call_switch(block: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """Ids come as one hot, none for a token that an expert has no room for."""
    with recorded(block.router) as router:
        y = block(hidden[None])
    chosen, _, logits = (output[0] for output in router["outputs"])
    ids = torch.where(chosen.sum(-1) > 0, chosen.argmax(-1), -1)
    keys = torch.softmax(logits, -1, dtype=torch.float32).to(hidden.dtype)
    return Reference(y[0], ids[:, None], keys)


def call_gemma4(layer: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """The branch of the experts in a decoder layer, with its norms."""
    probabilities, weights, ids = layer.router(hidden)
    y = layer.experts(layer.pre_feedforward_layernorm_2(hidden), ids, weights)
    return Reference(layer.post_feedforward_layernorm_2(y), ids, probabilities)


CASES = {
    "mixtral": Case("Mixtral", {"intermediate_size": I, "num_local_experts": E},
                    "model.layers.1.mlp"),
    "olmoe": Case("Olmoe", {"intermediate_size": I, "num_experts": E}, "model.layers.1.mlp"),
    "qwen3_moe": Case("Qwen3Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "head_dim": 20, "num_experts": E,
        "norm_topk_prob": True, "mlp_only_layers": [0]}, "model.layers.1.mlp"),
    "deepseek_v3": Case("DeepseekV3", {
        "intermediate_size": 16, "moe_intermediate_size": I, "n_routed_experts": E, "n_group": 4,
        "topk_group": 2, "n_shared_experts": 2, "first_k_dense_replace": 1, "q_lora_rank": 8,
        "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16},
        "model.layers.1.mlp"),
    "qwen2_moe": Case("Qwen2Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "num_experts": E,
        "shared_expert_intermediate_size": 32}, "model.layers.1.mlp"),
    "deepseek_v2": Case("DeepseekV2", {
        "intermediate_size": 16, "moe_intermediate_size": I, "n_routed_experts": E, "n_group": 4,
        "topk_group": 2, "topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0,
        "n_shared_experts": 2, "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8,
        "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}, "model.layers.1.mlp",
        published={
            "hidden_size": 5120, "moe_intermediate_size": 1536, "n_routed_experts": 160,
            "num_experts_per_tok": 6, "n_group": 8, "topk_group": 3, "num_hidden_layers": 60,
            "topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0,
            "first_k_dense_replace": 1, "num_attention_heads": 128}),
    "glm4_moe": Case("Glm4Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "n_routed_experts": E,
        "head_dim": 20, "routed_scaling_factor": 2.5}, "model.layers.1.mlp"),
    "jamba": Case("Jamba", {"intermediate_size": I, "num_experts": E},
                  "model.layers.1.feed_forward", router="router"),
    "granitemoe": Case("GraniteMoe", {"intermediate_size": I, "num_local_experts": E},
                       "model.layers.1.block_sparse_moe", router="router"),
    "ernie4_5_moe": Case("Ernie4_5_Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "moe_num_experts": E, "moe_k": K,
        "num_experts_per_tok": K}, "model.layers.1.mlp"),
    "minimax_m2": Case("MiniMaxM2", {"intermediate_size": I, "num_local_experts": E,
                                     "head_dim": 20}, "model.layers.1.mlp"),
    "gpt_oss": Case("GptOss", {"intermediate_size": I, "num_local_experts": E, "head_dim": 20,
                               "swiglu_limit": 1.5}, "model.layers.1.mlp", router="router"),
    "llama4": Case("Llama4", {
        "intermediate_size": I, "intermediate_size_mlp": 16, "num_local_experts": E,
        "head_dim": 20, "moe_layers": [1]}, "model.layers.1.feed_forward", router="router",
        logits_at=1, grouped=False, reference=call_llama4, config="Llama4Text"),
    "switch_transformers": Case("SwitchTransformers", {
        "d_model": H, "d_ff": I, "d_kv": 20, "num_heads": 2, "num_experts": E,
        "expert_capacity": 6, "num_layers": 2, "num_sparse_encoder_layers": 1,
        "num_decoder_layers": 2, "num_sparse_decoder_layers": 1},
        "encoder.block.1.layer.1.mlp", router="router.classifier", grouped=False,
        reference=call_switch, kind="ForConditionalGeneration"),
    "longcat_flash": Case("LongcatFlash", {
        "num_hidden_layers": 4, "ffn_hidden_size": 16, "expert_ffn_hidden_size": I,
        "n_routed_experts": E, "zero_expert_num": 4, "moe_topk": K, "q_lora_rank": 8,
        "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "head_dim": 8,
        "v_head_dim": 16}, "model.layers.1.mlp", router="router", grouped=False,
        identities=4),
    "lfm2_moe": Case("Lfm2Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "num_experts": E,
        "num_dense_layers": 1, "routed_scaling_factor": 1.5,
        "layer_types": ["full_attention", "full_attention"]}, "model.layers.1.feed_forward",
        published={"layer_types": ["conv", "full_attention"] * 16}),
    "dbrx": Case("Dbrx", {
        "d_model": H, "n_heads": 2, "n_layers": 2,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": I, "moe_num_experts": E, "moe_top_k": K}},
        "transformer.blocks.1.ffn", router="router", grouped=False, reference=call_dbrx,
        published={"attn_config": {"rope_theta": 5e5}}),
    "nemotron_h": Case("NemotronH", {
        "layers_block_type": ["full_attention", "moe"], "intermediate_size": 16, "head_dim": 20,
        "moe_intermediate_size": I, "moe_shared_expert_intermediate_size": 32,
        "moe_latent_size": 32, "n_routed_experts": E, "n_group": 4, "topk_group": 2},
        "model.layers.1.mixer", published={"hybrid_override_pattern": "MEM*E-ME"}),
    "gemma4": Case("Gemma4", {
        "intermediate_size": 16, "moe_intermediate_size": I, "num_experts": E,
        "top_k_experts": K, "enable_moe_block": True, "head_dim": 20,
        "layer_types": ["sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 32}, "model.layers.1",
        router="router.proj", reference=call_gemma4, config="Gemma4Text", published={
            "enable_moe_block": True, "num_experts": 128, "top_k_experts": 8,
            "moe_intermediate_size": 704, "hidden_size": 2816}),
    "phimoe": Case("Phimoe", {"intermediate_size": I, "num_local_experts": E,
                              "router_jitter_noise": 0.25,
                              "num_experts_per_tok": 2}, "model.layers.1.mlp", router="router"),
}


# --- What is fused --------------------------------------------------------------------------------

# Texts of test/Zoo/Beyond, as the page names them.
BEYOND = {
    "soft-mixture": "Dense mixture, Jacobs et al. 1991",
    "noisy-top-k": "Noisy top-k with a seed, Shazeer et al. 2017",
    "product-keys": "Product keys, Lample et al. 2019",
    "hash-routing": "Hash routing, Roller et al. 2021",
    "expert-choice": "Expert choice, Zhou et al. 2022",
    "contrast": "Contrast, which nobody has used",
}
# What `moe.route` does not have for a router; the others must be fused.
MISSING = {
    "phimoe": "a second choice among what the first left, each with a maximum over experts",
    "Beyond/product-keys": "candidates from two smaller choices",
    "Beyond/hash-routing": "ids that no logit decides",
    "Beyond/expert-choice": "a choice of tokens for each expert",
    "Beyond/contrast": "a second choice, by other keys",
}
