"""Refusal tokens: answers begin with a control token, whose probability is a knob for refusing, per category if wanted.

In training every answer that refuses begins with `[refuse]` (or the token of its category), every other with
`[respond]`. At inference the first token is forced: the refusal token where its probability is at least a threshold,
else `[respond]`. So the share of refusals falls as the threshold rises, without training again.

Paper:   Jain et al., Refusal Tokens, arXiv 2412.06748; the inference rules follow the authors' code.
Differs: the knob is a logits processor on the first new token, where the code runs the prompt twice; the settings of
         training are `[inferred]`. User text is stripped of the tokens, so that it cannot set them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoder
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.probe.linear_probes import right_padded

RESPOND, REFUSE = "[respond]", "[refuse]"
# A threshold of -1 compares the two control tokens with each other.
COMPARE = -1.0


@dataclass(frozen=True)
class RefusalTokens:
    """The control tokens of a model.

    Attributes:
        respond: id of `[respond]`.
        refuse: category -> id; one category named `refuse` without categories.
    """

    respond: int
    refuse: Mapping[str, int]

    @property
    def ids(self) -> list[int]:
        """The ids of the refusal tokens."""
        return list(self.refuse.values())


def add_tokens(model: LanguageModel, categories: Sequence[str] = ()) -> tuple[LanguageModel, RefusalTokens]:
    """Return a copy of a model with the control tokens, whose embeddings begin at the mean embedding.

    Args:
        categories: kinds of refusals; none makes the one token `[refuse]`.

    Raises:
        InputError: the tokenizer has such a token already, or does not read one as a single token.
    """
    names = {category: f"[{category}]" for category in categories} or {"refuse": REFUSE}
    tokenizer, network = copy.deepcopy(model.tokenizer), copy.deepcopy(model.model)
    marks = [RESPOND, *names.values()]
    if taken := set(marks) & set(tokenizer.get_vocab()):
        raise InputError(f"the tokenizer has {', '.join(sorted(taken))} already", "name the categories differently")
    tokenizer.add_special_tokens({"additional_special_tokens": marks}, replace_extra_special_tokens=False)
    ids = tokenizer.convert_tokens_to_ids(marks)
    if any(
        tokenizer(mark, add_special_tokens=False)["input_ids"] != [one] for mark, one in zip(marks, ids, strict=True)
    ):
        raise InputError("a control token is read as several tokens", "name the categories differently")
    old = network.get_input_embeddings().weight.shape[0]
    if max(ids) >= old:
        network.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    with torch.no_grad():
        for matrix in {network.get_input_embeddings(), network.get_output_embeddings()}:
            matrix.weight[ids] = matrix.weight[: min(old, min(ids))].mean(0)
    made = LanguageModel(network, tokenizer, f"{model.name}, refusal tokens", list(model.notes))
    return made, RefusalTokens(ids[0], dict(zip(names, ids[1:], strict=True)))


def with_control_tokens(
    rows: Sequence[Example], kinds: Sequence[str | None], tokens: Sequence[str] = ()
) -> list[Example]:
    """Begin every answer with its control token; user text loses any control token that it contains.

    Args:
        kinds: per row the category of its refusal (`refuse` without categories), None for an answer.
        tokens: the categories; they are stripped from prompts as well.
    """
    marks = [RESPOND, REFUSE, *(f"[{name}]" for name in (*tokens, *filter(None, kinds)))]
    made = []
    for row, kind in zip(rows, kinds, strict=True):
        mark = RESPOND if kind is None else f"[{kind}]"
        made.append(replace(row, prompt=stripped(row.prompt, marks), answer=mark + row.answer, value=None))
    return made


def stripped(text: str, marks: Sequence[str]) -> str:
    """Remove control tokens from a user's text, also those that a removal puts together."""
    while any(mark in text for mark in marks):
        for mark in marks:
            text = text.replace(mark, "")
    return text


def train(
    model: LanguageModel,
    rows: Sequence[Example],
    kinds: Sequence[str | None],
    categories: Sequence[str] = (),
    *,
    steps: int = 200,
    settings: TrainSettings | None = None,
    begin: Literal["mean", "answers"] = "mean",
) -> tuple[LanguageModel, RefusalTokens]:
    """Add the control tokens and fine-tune on rows whose answers begin with them; the token is part of the loss.

    Args:
        begin: the tokens' embeddings begin at the mean of all, or (ours) at the mean of the first tokens of the answers
            that they stand before, which a model gives often: some ten steps are then enough.
    """
    known = set(categories) or {"refuse"}
    if strange := {kind for kind in kinds if kind is not None} - known:
        raise InputError(
            f"unknown kinds of refusals: {', '.join(sorted(strange))}", f"known: {', '.join(sorted(known))}"
        )
    made, tokens = add_tokens(model, categories)
    if begin == "answers":
        begin_at_answers(made, tokens, rows, kinds)
    training = settings or TrainSettings(5e-5, batch_size=8, schedule="linear", precision="float32")
    finetune(made, with_control_tokens(rows, kinds, categories), training, steps, title="refusal tokens")
    return made, tokens


@torch.no_grad()
def begin_at_answers(
    model: LanguageModel, tokens: RefusalTokens, rows: Sequence[Example], kinds: Sequence[str | None]
) -> None:
    """Set each control token's embeddings to the mean of those of its answers' first tokens; others stay."""
    encoder = model.encoder()
    first = [encoder.answer(row.answer, end=False)[0][0] for row in rows]
    for matrix in (model.model.get_input_embeddings(), model.model.get_output_embeddings()):
        for kind, one in ((None, tokens.respond), *tokens.refuse.items()):
            chosen = [token for token, own in zip(first, kinds, strict=True) if own == kind]
            if chosen:
                matrix.weight[one] = matrix.weight[chosen].mean(0)


@torch.inference_mode()
def control_probabilities(
    model: LanguageModel, tokens: RefusalTokens, prompts: Sequence[str], temperature: float = 1.0, batch_size: int = 32
) -> Float[Tensor, "prompts controls"]:
    """Return the probabilities of the control tokens as first token: `[respond]`, then the refusal tokens in order."""
    encoder: Encoder = model.encoder()
    parts = []
    for start in range(0, len(prompts), batch_size):
        ids, mask = right_padded(model, [encoder.prompt(prompt) for prompt in prompts[start : start + batch_size]])
        logits = model.base()(ids, attention_mask=mask.long(), use_cache=False).logits
        last = logits[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1].float()
        parts.append((last / temperature).softmax(-1)[:, [tokens.respond, *tokens.ids]].cpu())
    return torch.cat(parts)


def forced_tokens(
    probabilities: Float[Tensor, "rows vocabulary"],
    tokens: RefusalTokens,
    threshold: float | Mapping[str, float],
    own: Int[Tensor, " rows"],
) -> Int[Tensor, " rows"]:
    """Choose the first token of each answer.

    The likeliest refusal token is compared with its threshold. A category that a mapping of thresholds leaves out is
    not under control: the answer then begins with the model's own first choice.

    Args:
        probabilities: of the whole vocabulary.
        threshold: for all refusal tokens, or by category; -1 refuses where refusing is likelier than responding.
        own: the model's own first choices.
    """
    ids = torch.tensor(tokens.ids, device=probabilities.device)
    best = probabilities[:, ids].max(-1)
    names = list(tokens.refuse)
    levels = threshold if isinstance(threshold, Mapping) else dict.fromkeys(names, threshold)
    limits = torch.tensor([levels.get(name, math.nan) for name in names], dtype=probabilities.dtype, device=ids.device)
    limit = limits[best.indices]
    respond = probabilities[:, tokens.respond]
    refuse = torch.where(limit == COMPARE, best.values >= respond, best.values >= limit)
    forced = torch.where(refuse, ids[best.indices], torch.full_like(own, tokens.respond))
    return torch.where(limit.isnan(), own, forced)


class RefusalProcessor:
    """A logits processor that forces the first new token of each answer.

    Args:
        tokens: the control tokens.
        threshold: as of `forced_tokens`.
        start: number of tokens of the (left-padded) prompt.
        temperature: flattens the probabilities above 1.
        bias: added to the logits of the refusal tokens before.
    """

    def __init__(
        self,
        tokens: RefusalTokens,
        threshold: float | Mapping[str, float],
        start: int,
        temperature: float = 1.0,
        bias: float = 0.0,
    ) -> None:
        self.tokens, self.threshold, self.start = tokens, threshold, start
        self.temperature, self.bias = temperature, bias

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return [rows, vocabulary] scores that leave one choice at the first new token, and all at later ones."""
        if input_ids.shape[1] != self.start:
            return scores
        logits = scores.float().clone()
        logits[:, self.tokens.ids] += self.bias
        probabilities = (logits / self.temperature).softmax(-1)
        chosen = forced_tokens(probabilities, self.tokens, self.threshold, logits.argmax(-1))
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, chosen[:, None], 0.0)


@torch.inference_mode()
def answer(
    model: LanguageModel,
    tokens: RefusalTokens,
    prompts: Sequence[str],
    threshold: float | Mapping[str, float] = COMPARE,
    *,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
) -> list[tuple[int, str]]:
    """Answer prompts greedily behind the forced control token; return that token's id and the text after it."""
    encoder, said = model.encoder(), []
    for prompt in prompts:
        ids = torch.tensor([encoder.prompt(stripped(prompt, _marks(tokens)))], device=model.device)
        processor = RefusalProcessor(tokens, threshold, ids.shape[1], temperature)
        output = model.base().generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens + 1,
            do_sample=False,
            pad_token_id=model.pad_id,
            eos_token_id=model.tokenizer.eos_token_id,
            logits_processor=[processor],
        )[0, ids.shape[1] :]
        said.append((int(output[0]), str(model.tokenizer.decode(output[1:], skip_special_tokens=True))))
    return said


def _marks(tokens: RefusalTokens) -> list[str]:
    return [RESPOND, *(f"[{name}]" for name in tokens.refuse)]


def calibrate(
    probabilities: Sequence[float],
    refusals: Sequence[bool],
    *,
    rate: float | None = None,
    false_rate: float | None = None,
) -> float:
    """Choose a threshold on validation prompts: by the share of refusals, of false refusals, or by the best F1.

    Args:
        probabilities: of refusing, one per prompt.
        refusals: whether a prompt should be refused.
        rate: wanted share of refusals among all prompts.
        false_rate: largest share of refusals among prompts that should be answered.
    """
    given, wanted = np.asarray(probabilities, float), np.asarray(refusals, bool)
    levels = [*np.unique(given).tolist(), float(np.nextafter(given.max(), np.inf))]
    if rate is not None:
        return min(levels, key=lambda level: abs((given >= level).mean() - rate))
    if false_rate is not None:
        return next(level for level in levels if (given[~wanted] >= level).mean() <= false_rate)
    return max(levels, key=lambda level: f1_score(given >= level, wanted))


def f1_score(predicted: Any, wanted: Any) -> float:
    """Compute F1 with refusals as the positive class; 0 without a true positive."""
    hits = float(np.sum(np.asarray(predicted) & np.asarray(wanted)))
    total = float(np.sum(predicted) + np.sum(wanted))
    return 2 * hits / total if total else 0.0


def sweep(
    probabilities: Float[Tensor, "prompts controls"],
    tokens: RefusalTokens,
    categories: Sequence[str | None],
    thresholds: Sequence[float],
) -> dict[str, list[float]]:
    """Return the refusal rate at each threshold per category of prompts (`answerable` for None).

    Args:
        probabilities: of `control_probabilities`.
        categories: the true category of each prompt.
    """
    best = probabilities[:, 1:].max(-1).values
    rates: dict[str, list[float]] = {}
    for name in dict.fromkeys(categories):
        chosen = torch.tensor([one == name for one in categories])
        rates[name or "answerable"] = [float((best[chosen] >= level).float().mean()) for level in thresholds]
    return rates
