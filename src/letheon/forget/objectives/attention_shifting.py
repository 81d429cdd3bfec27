"""Attention shifting: train attention away from the forget rows' facts, towards the retain rows' facts.

Paper:   Wisdom is Knowing What not to Say, arXiv 2510.17210 (key `attention-shifting`). The loss is two divergences of
         attention maps from targets that the untouched model gives; no token's probability enters it.
Scope:   low-rank adapters on the query and key projections; `attention_shifting` alone brings `@lora` with these names.
         The paper's 16.8 M trained weights of a 7B model are r = 32 there [by arithmetic; the rank is not stated].
Differs: the form of the reinforced target and the rule for α are not given in full [inferred]. α is made of the losses
         of each step's whole batch; a running mean over steps, which would have to survive restarts, is left out. The
         paper's Adam has β₂ = 0.98. Targets are the attention maps of every row that is met, kept in main memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import check_settings, method
from letheon.core.rows.encoding import Batch, Encoded
from letheon.forget.kept_states import KeptStates
from letheon.forget.parts import Objective, Pair, PairIndices, Rows, Terms
from letheon.probe.importance import content_importance, entropy_importance, most_important

# The named recipe, by the method's name and by the paper's key.
NAMES = ("attention_shifting", "attention-shifting")
# Keeps the logarithm of a weight that has vanished finite.
EPSILON = 1e-8
# α stays this far from 0 and 1, so that neither loss is ever left out [inferred].
LEAST = 0.1


# A loss, and the share of the attention that lies on masked tokens.
Measured = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Settings:
    importance: Literal["content", "entropy"] = "content"  # content words: TOFU; entropy: noisy text
    threshold: float = 0.6  # share of a row's tokens that are masked: the main runs; 0.4 to 0.6 is recommended
    lam: float = 0.99  # λ, how much of the attention on masked tokens is taken away: the main runs
    gain: float = 0.2  # how much more attention the retain rows' content gets [inferred]
    alpha: float | None = None  # weight of the forget loss; none: follows the losses, as in the main runs

    def __post_init__(self) -> None:
        check_settings(self)
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold: found {self.threshold}", "give a share between 0 and 1, such as 0.6")
        if not 0 <= self.lam <= 1 or self.gain < 0:
            raise InputError(f"lam {self.lam}, gain {self.gain}", "give lam from 0 to 1 and gain of 0 or more")
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise InputError(f"alpha: found {self.alpha}", "give a weight between 0 and 1, or none")


# The mathematics: [..., queries, keys]; rows are distributions, 0 where a query does not see a key --------------------


def reweighted(
    attention: Float[Tensor, "... queries keys"], factor: Float[Tensor, "... keys"]
) -> Float[Tensor, "... queries keys"]:
    """A_ij f_j / Σ_k A_ik f_k; a query that sees only tokens of factor 0 keeps its row."""
    scaled = attention * factor
    total = scaled.sum(-1, keepdim=True)
    return torch.where(total > 0, scaled / total.clamp(min=torch.finfo(total.dtype).tiny), attention)


def suppressed(
    attention: Float[Tensor, "... queries keys"], mask: Bool[Tensor, "... keys"], lam: float
) -> Float[Tensor, "... queries keys"]:
    """A_sup: attention on masked tokens times 1 − λ, rows made distributions again."""
    return reweighted(attention, 1 - lam * mask)


def reinforced(
    attention: Float[Tensor, "... queries keys"], mask: Bool[Tensor, "... keys"], gain: float
) -> Float[Tensor, "... queries keys"]:
    """A_rein: attention on masked tokens times 1 + γ, rows made distributions again [form inferred]."""
    return reweighted(attention, 1 + gain * mask)


def attention_divergence(
    attention: Float[Tensor, "rows heads queries keys"], target: Float[Tensor, "rows heads queries keys"]
) -> Float[Tensor, "rows queries"]:
    """KL(A || target) of each query's distribution in nats, mean over heads: the model's own attention comes first."""
    ratio = (attention + EPSILON).log() - (target + EPSILON).log()
    return (attention * ratio).sum(-1).mean(1)


def balance(suppression: float, reinforcement: float) -> float:
    """α = L_ASP / (L_ASP + L_AKL), kept between 0.1 and 0.9: high while the forget loss dominates [inferred]."""
    total = suppression + reinforcement
    return min(max(suppression / total, LEAST), 1 - LEAST) if total > 0 else 0.5


# Attention maps of a model --------------------------------------------------------------------------------------------


@contextmanager
def eager_attention(base: Any) -> Iterator[None]:
    """Within the block the model computes attention openly, so that its weights can be read; afterwards as before."""
    configs = {id(m.config): m.config for m in base.modules() if hasattr(m, "config")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    try:
        base.set_attn_implementation("eager")
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation


def attention_maps(model: LanguageModel, batch: Batch) -> list[Float[Tensor, "rows heads queries keys"]]:
    """Each layer's attention weights after the softmax, by query head (shared keys are repeated); no logits are made.

    Raises:
        InputError: the model shows none.
    """
    base = model.base()
    # weights in shards are put together around the whole model's passes only
    inner, options = (base, {"logits_to_keep": 1}) if model.sharded else (base.base_model, {})
    with eager_attention(base):
        output = inner(
            batch.input_ids, attention_mask=batch.attention_mask, output_attentions=True, use_cache=False, **options
        )
    maps = [found for found in output.attentions or () if found is not None and found.ndim == 4]
    if not maps:
        raise InputError(
            f"{type(base).__name__} shows no attention weights", "choose an objective that reads no attention, as npo"
        )
    return [found.float() for found in maps]


# Its seat in the loop ------------------------------------------------------------------------------------------------


@method(
    "objective",
    "attention_shifting",
    Settings,
    paper="2510.17210",
    needs={"retain", "reference"},
    recipes=dict.fromkeys(NAMES, "attention_shifting@lora:targets=queries-keys"),
    recommended={"epochs": 24, "learning_rate": 5e-4, "weight_decay": 0.01, "batch_size": 64},  # on TOFU
    tiny=({}, {"importance": "entropy", "alpha": 0.6}),
    turns=False,
)
class AttentionShifting(Objective):
    recomputes: ClassVar[bool] = False  # attention would not be computed openly again
    keeps_blocks: ClassVar[bool] = True

    settings: Settings
    before: list[KeptStates]  # per layer the attention maps, [heads, length, length]
    masks: KeptStates  # [length], the tokens that carry content
    alpha = (-1, 0.5)  # a step and its weight

    @torch.no_grad()
    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        """The untouched model's attention and the content tokens of every row that will be met."""
        self.rows, self.plan, self.before, self.masks = rows, plan, [], KeptStates()
        forget, retain = rows.visited(plan)
        for batch in (*forget, *retain):
            number = int(batch.index)
            maps = attention_maps(model, batch)
            self.before = self.before or [KeptStates(along=(1, 2)) for _ in maps]
            for layer, attention in zip(self.before, maps, strict=True):
                layer[number] = attention[0].cpu()  # 133 MB per row of 180 tokens in a model of 7B
            self.masks[number] = self._mask(model, rows.row(number)).to(model.device)
        if not any(bool(self.masks[int(batch.index)].any()) for batch in forget):
            raise InputError(
                "no forget row has a token that carries content", "write attention_shifting:importance=entropy"
            )

    def _mask(self, model: LanguageModel, row: Encoded) -> Tensor:
        """Never the first token, on which attention rests where there is nothing to see, and no mark."""
        special = torch.tensor(sorted(model.tokenizer.all_special_ids), dtype=torch.long)
        eligible = ~torch.isin(torch.tensor(row.ids), special)
        eligible[0] = False
        if self.settings.importance == "entropy":
            return most_important(entropy_importance(model, row), self.settings.threshold, eligible)
        scores = content_importance(model.tokenizer, row)
        return most_important(scores, self.settings.threshold, eligible & (scores > 0))

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        forget = self._divergence(model, pair.forget, "suppressed") if pair.forget is not None else None
        retain = self._divergence(model, pair.retain, "reinforced") if pair.retain is not None else None
        alpha = self._alpha(model, pair, forget, retain)
        terms = Terms()
        if forget is not None and pair.forget is not None:
            share = len(pair.forget) / max(pair.forget.totals["rows"], 1)
            loss, mass = forget
            terms.forget = alpha * loss
            terms.metrics |= {"forget_loss": float(loss.detach()), "masked_attention": float(mass.detach())}
            terms.metrics["alpha"] = share * alpha
        if retain is not None:
            terms.retain = (1 - alpha) * retain[0]
            terms.metrics["retain_loss"] = float(retain[0].detach())
        return terms

    def _alpha(self, model: LanguageModel, pair: Pair, forget: Measured | None, retain: Measured | None) -> float:
        """The weight of this step, from the losses of its whole batch, of which the pair may be a part."""
        if self.settings.alpha is not None:
            return self.settings.alpha
        if self.alpha[0] != pair.step:
            rows = self.plan[pair.step]
            if (len(pair.forget or ()), len(pair.retain or ())) != (len(rows[0]), len(rows[1])):
                with torch.no_grad():
                    forget = self._divergence(model, self.rows.forget_batch(rows[0]), "suppressed")
                    retain = self._divergence(model, self.rows.retain_batch(rows[1]), "reinforced")
            losses = [float(found[0].detach()) if found is not None else 0.0 for found in (forget, retain)]
            self.alpha = pair.step, balance(*losses)
        return self.alpha[1]

    def _divergence(self, model: LanguageModel, batch: Batch, to: Literal["suppressed", "reinforced"]) -> Measured:
        """The batch's share of the loss (mean over layers, heads and queries) and of the attention on masked tokens.

        A row's first query is left out: it sees only itself. Padding is masked, so its keys have no weight.
        """
        mask = self.masks.padded(batch)[:, None, None]
        real = batch.attention_mask.bool()
        real[:, 0] = False
        loss, mass = [], []
        for layer, attention in zip(self.before, attention_maps(model, batch), strict=True):
            before = layer.padded(batch)
            target = (
                suppressed(before, mask, self.settings.lam)
                if to == "suppressed"
                else reinforced(before, mask, self.settings.gain)
            )
            loss.append(batch.mean(attention_divergence(attention, target)[real], "positions"))
            mass.append(batch.mean((attention.detach() * mask).sum(-1).mean(1)[real], "positions"))
        return torch.stack(loss).mean(), torch.stack(mass).mean()
