"""Yes/no prompts in several formats, the probabilities of the two answers, and the heads' negative attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.probe.attention_maps import LayerAttention, Mode, on_attention_rows, stacked
from letheon.probe.negative_bias.scores import negative_attention
from letheon.probe.statements import Statement

MARK = "\u2402"


@dataclass(frozen=True)
class Format:
    """A way to ask.

    Attributes:
        positive, negative: the two answers.
        negative_first: whether the instruction names the negative answer first.
        inverted: ask whether the statement is false.
        context: text between instruction and question.
    """

    positive: str = "Yes"
    negative: str = "No"
    negative_first: bool = False
    inverted: bool = False
    context: str = ""


@dataclass(frozen=True)
class Asked:
    """A prompt's tokens, the tokens of the two candidates in its instruction, and the first token after it."""

    ids: tuple[int, ...]
    yes: tuple[int, int]
    no: tuple[int, int]
    after: int


def ask(model: LanguageModel, statement: Statement, form: Format) -> Asked:
    """Render a question; candidates are located by characters, never by searching for their tokens."""
    words = (form.negative, form.positive) if form.negative_first else (form.positive, form.negative)
    instruction = f"Answer the question with {words[0]} or {words[1]}."
    claim = statement.text.strip().rstrip(".")
    claim = claim[:1].lower() + claim[1:] if claim.startswith(("The ", "A ", "An ")) else claim
    question = f"Is it {'false' if form.inverted else 'true'} that {claim}?"
    body = "\n".join(filter(None, [instruction, form.context, f"Question: {question}", "Answer:"]))
    text, begin = _rendered(model, body)
    coded = model.tokenizer(text, add_special_tokens=not model.tokenizer.chat_template, return_offsets_mapping=True)
    offsets = coded["offset_mapping"]

    def span(word: str, at: int) -> tuple[int, int]:
        inside = [i for i, (a, b) in enumerate(offsets) if a < at + len(word) and b > at and b > a]
        return inside[0], inside[-1] + 1

    first = begin + instruction.index("with ") + len("with ")
    second = first + len(words[0]) + len(" or ")
    spans = [span(words[0], first), span(words[1], second)]
    yes, no = (spans[1], spans[0]) if form.negative_first else (spans[0], spans[1])
    return Asked(tuple(coded["input_ids"]), yes, no, max(spans[0][1], spans[1][1]))


def _rendered(model: LanguageModel, body: str) -> tuple[str, int]:
    """Put a text into the chat template's turn; return the whole and where the text begins."""
    tokenizer = model.tokenizer
    if not tokenizer.chat_template:
        return body, 0
    turn = [{"role": "user", "content": MARK}]
    whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return whole.replace(MARK, body), whole.index(MARK)


def answer_tokens(model: LanguageModel, word: str) -> list[int]:
    """Return the first tokens of a word's variants: case, and with or without a space before it."""
    variants = {prefix + form for prefix in ("", " ") for form in (word, word.lower(), word.upper(), word.capitalize())}
    encoded = (model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in sorted(variants))
    unknown = model.tokenizer.unk_token_id
    return sorted({ids[0] for ids in encoded if ids and ids[0] != unknown and model.tokenizer.decode([ids[0]]).strip()})


@dataclass(frozen=True)
class Answers:
    """Probabilities of both answers, and every head's negative attention score, per item.

    Attributes:
        yes, no: probability of any variant of the word.
        nas: [items, layers, heads]; empty if it was not asked for.
    """

    yes: Float[Tensor, " items"]
    no: Float[Tensor, " items"]
    nas: Float[Tensor, "items layers heads"]

    def decided(self, least: float = 0.01) -> list[bool | None]:
        """Return whether yes is the likelier answer; None where both together are less probable than `least`."""
        pairs = zip(self.yes.tolist(), self.no.tolist(), strict=True)
        return [None if yes + no < least else yes > no for yes, no in pairs]


@torch.inference_mode()
def answers_to(
    model: LanguageModel,
    statements: Sequence[Statement],
    form: Format,
    *,
    attention: bool = False,
    masked: Bool[Tensor, "1 layers heads"] | None = None,
    mode: Mode = "zero",
) -> Answers:
    """Ask every statement in a format.

    Args:
        attention: also compute the heads' negative attention scores.
        masked: heads to mask in the whole prompt.

    Raises:
        InputError: the two answers begin with the same token.
    """
    words = [answer_tokens(model, word) for word in (form.positive, form.negative)]
    if set(words[0]) & set(words[1]):
        raise InputError(
            f"{form.positive!r} and {form.negative!r} begin with the same token in this tokenizer", "choose other words"
        )
    chances: list[tuple[float, float]] = []
    scores: list[Tensor] = []
    for statement in statements:
        asked, now = ask(model, statement, form), {}  # type: Asked, dict[int, Tensor]

        def see(seen: LayerAttention, asked: Asked = asked, now: dict[int, Tensor] = now) -> None:
            rows = seen.rows(asked.after, seen.length)[0]
            yes, no = (rows[..., slice(*span)].sum(-1) for span in (asked.yes, asked.no))
            now[seen.layer] = negative_attention(yes, no).cpu()

        with on_attention_rows(model, see if attention else None, masked=masked, mode=mode):
            ids = torch.tensor([asked.ids], device=model.device)
            logits = model.base()(ids, use_cache=False, logits_to_keep=1).logits[0, -1].float()
        probability = logits.softmax(-1)
        chances.append((float(probability[words[0]].sum()), float(probability[words[1]].sum())))
        if attention:
            scores.append(stacked(model, now))
    table = torch.tensor(chances)
    return Answers(table[:, 0], table[:, 1], torch.stack(scores) if attention else torch.zeros(len(table), 0, 0))
