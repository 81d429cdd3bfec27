"""Tiny models with random weights of the families that people use: two layers, width 32, one token per byte.

They are built from configurations alone, so nothing is downloaded. `letheon methods --families` asks every method
about the structures of these families.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.models import LanguageModel, quiet

if TYPE_CHECKING:
    from torch import nn

LAYERS = 2
BASE: dict[str, Any] = {
    "vocab_size": 259,  # the byte tokenizer's
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**BASE, "num_key_value_heads": 2}
HEADED = {**GROUPED, "head_dim": 8}
EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
SHARED = {**EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 16}
LATENT = {  # DeepSeek's attention, and a dense layer before the layers of experts
    **BASE,
    **EXPERTS,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        kind: the `model_type` of its configuration.
        title: the name in the table.
        options: the tiny configuration.
    """

    kind: str
    title: str
    options: dict[str, Any] = field(hash=False)


_ALL = [
    Family("llama", "Llama", GROUPED),
    Family("qwen2", "Qwen2", GROUPED),
    Family("qwen3", "Qwen3", HEADED),
    Family("gemma2", "Gemma 2", {**HEADED, "sliding_window": 64}),
    Family("gemma3_text", "Gemma 3", {**HEADED, "sliding_window": 64}),
    Family("mistral", "Mistral", {**GROUPED, "sliding_window": None}),
    Family("phi3", "Phi-3", GROUPED),
    Family(
        "gpt2",
        "GPT-2",
        {"vocab_size": 259, "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 512}
        | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    ),
    Family("gpt_neox", "GPT-NeoX", BASE),
    Family("olmo2", "OLMo 2", GROUPED),
    Family("mixtral", "Mixtral", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    Family("qwen2_moe", "Qwen2-MoE", {**GROUPED, **SHARED}),
    Family("qwen3_moe", "Qwen3-MoE", {**HEADED, **EXPERTS, "num_experts": 4}),
    Family("gpt_oss", "gpt-oss", {**HEADED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    Family("deepseek_v2", "DeepSeek-V2", {**LATENT, "q_lora_rank": None}),
    Family("deepseek_v3", "DeepSeek-V3", {**LATENT, "q_lora_rank": 16}),
    Family(
        "jamba",
        "Jamba (hybrid)",
        {**GROUPED, "num_experts": 1, "num_experts_per_tok": 1, "attn_layer_period": 2, "attn_layer_offset": 1}
        | {"mamba_d_state": 8, "mamba_dt_rank": 4},
    ),
    Family(
        "qwen3_next",
        "Qwen3-Next (hybrid)",
        {**HEADED, **SHARED, "layer_types": ["linear_attention", "full_attention"]}
        | {"linear_num_value_heads": 2, "linear_num_key_heads": 2}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8},
    ),
    Family(
        "gemma3",
        "Gemma 3 (images)",
        {"text_config": {**HEADED, "sliding_window": 64}, "mm_tokens_per_image": 4, "pad_token_id": 0}
        | {"vision_config": {**VISION, "image_size": 16, "patch_size": 8}, "bos_token_id": 1, "eos_token_id": 2}
        | {"image_token_index": 258, "boi_token_index": 257, "eoi_token_index": 256},
    ),
]
FAMILIES: dict[str, Family] = {family.kind: family for family in _ALL}


def family_config(kind: str, layers: int = LAYERS) -> Any:
    """Make the transformers configuration of a family's tiny model, or of a deeper one."""
    from transformers import AutoConfig

    options = dict(FAMILIES[kind].options)
    text = options["text_config"] = dict(options["text_config"]) if "text_config" in options else options
    text["n_layer" if "n_layer" in text else "num_hidden_layers"] = layers
    if "layer_types" in text:
        text["layer_types"] = text["layer_types"] * (layers // LAYERS)
    if text is options:
        del options["text_config"]
    with quiet():
        return AutoConfig.for_model(kind, **options)


def family_structure(kind: str, layers: int = 8) -> nn.Module:
    """Make a family's model of the given depth without weights, on the meta device."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"), quiet():
        built: nn.Module = AutoModelForCausalLM.from_config(family_config(kind, layers))
        return built


def family_model(kind: str, seed: int = 0) -> LanguageModel:
    """Make a family's tiny model with random weights, in evaluation mode, and a byte tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(family_config(kind)).float().eval()
    return LanguageModel(model, byte_tokenizer(), kind)
