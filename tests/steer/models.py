"""Random models of the families that steering must act on, dense and with mixtures of experts."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.families import family_model
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.steer.texts import Contrast

SMALL: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
DENSE: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Gemma2": {"head_dim": 8},
    "GPTNeoX": {"num_key_value_heads": None},
    "GPT2": {},
}
MIXTURES: dict[str, dict[str, Any]] = {
    "Mixtral": {"num_local_experts": 6, "num_experts_per_tok": 2},
    "Qwen2Moe": {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                 "shared_expert_intermediate_size": 16},
    "Qwen3Moe": {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True,
                 "head_dim": 8},
    "Olmoe": {"num_experts": 6, "num_experts_per_tok": 2},
    "DeepseekV2": {"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1,
                   "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": None,
                   "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "topk_method": "greedy",
                   "num_key_value_heads": 4, "head_dim": 4, "n_shared_experts": 1},
    "DeepseekV3": {"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1,
                   "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": None,
                   "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4,
                   "head_dim": 4, "n_shared_experts": 1},
}  # fmt: skip
# Further families of the package's own list: two layers, hybrids of attention and recurrent layers among them.
FURTHER = ("qwen3", "gemma3_text", "gemma3", "mistral", "phi3", "olmo2", "gpt_oss", "jamba", "qwen3_next")
EVERY = (*DENSE, *MIXTURES, *FURTHER)


def family(name: str, **given: Any) -> LanguageModel:
    """A random model of a family, two or three layers of width 32, with the byte tokenizer.

    Weights are large, so that attention and routers distinguish tokens; `given` configures a model of three layers.
    """
    if name in FURTHER:
        made = family_model(name)
        spread(made.model)
        return made
    further = {**DENSE, **MIXTURES}[name] | given
    config = getattr(transformers, f"{name}Config")
    if name == "GPT2":
        made = config(vocab_size=259, n_embd=32, n_layer=3, n_head=4, n_positions=256)
    else:
        made = config(**{**SMALL, **further})
    made.pad_token_id, made.bos_token_id, made.eos_token_id = 0, 1, 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(made).eval()
        spread(model)
        for router in (one for one in model.modules() if hasattr(one, "e_score_correction_bias")):
            torch.nn.init.normal_(router.e_score_correction_bias, std=0.01)
    return LanguageModel(model, byte_tokenizer(), name)


def spread(model: torch.nn.Module) -> None:
    """Draw every matrix anew with a standard deviation of 0.15; routers begin with zeros in some families."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.15)


def contrast(count: int = 6) -> Contrast:
    """Short texts that end in one of two ways."""
    subjects = ("The cat", "A king", "My aunt", "The sea", "Rain", "A shoe", "Time", "Bread")[:count]
    return Contrast(
        [Example("", f"{one} is good!", id=one) for one in subjects],
        [Example("", f"{one} is bad?", id=one) for one in subjects],
    )
