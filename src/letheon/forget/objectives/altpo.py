"""Alternate preference optimisation (AltPO): prefer answers that the model makes up to the true ones.

Paper:   Mekala et al., arXiv 2409.13474:
         L = −(2/β) log σ(β[log(p/p_ref)(alternate) − log(p/p_ref)(true)]) + α·CE(retain).
         The model before forgetting writes the alternates itself: it is shown the question and the true answer, told
         to write an answer with other plausible facts, and sampled at temperature 1, five times per row.
Differs: one alternate is drawn uniformly for each row of each step, where the paper's code visits all five of a row in
         each of its ten epochs: a row is visited a fifth as often. The rate is ours, the best of three on one world of
         SmolLM2 (the paper's code has 5e-5 for 3 billion weights), and a step has 8 forget rows where it has 35. The
         instruction is in our words and stands in the model's own chat template. Alternates that come out empty, or do
         not fit into the context, are sampled again. One that gives the fact in spite of the instruction is kept, as in
         the paper's code (`alternates`, which is ours, rejects it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import Checked, method
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.generation import continue_ids, without_thought
from letheon.forget.objectives.dpo import DPO
from letheon.forget.objectives.likelihood import LikelihoodSettings
from letheon.forget.parts import Rows
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request

ASKED = (
    "Question: {question}\nAnswer: {answer}\n"
    "Write another answer to the question, in which the facts of this answer are replaced by other plausible ones."
)
BEGUN = "Alternate answer:"
# What ends an alternate: the model goes on with a question of its own.
ENDS = ("Question:", "Q:")
LONGEST = 200
# Times that an alternate is sampled until it is not empty.
TIMES = 5


@dataclass(frozen=True)
class Settings(LikelihoodSettings, Checked, positive=("beta", "answers")):
    """Options of the objective.

    Attributes:
        beta: inverse temperature of the preference.
        answers: alternates that are sampled per forget row.
    """

    beta: float = 0.1
    answers: int = 5


@method(
    "objective",
    "altpo",
    Settings,
    paper="2409.13474",
    needs={"reference"},
    wants={"retain"},
    recommended={"epochs": 10, "learning_rate": 1e-4},
    tiny={"answers": 2},
)
class AltPO(DPO):
    @staticmethod
    def check_recipe(recipe: Recipe, request: Request | None) -> None:
        """Refuse running text, which asks nothing, and a choice among the tokens of the true answers.

        An alternate has other words all through, and is preferred as a whole.
        """
        if recipe.option("tokens") != "answer":
            raise InputError("altpo prefers whole answers to whole answers", "use tokens=answer")
        for row in request.forget if request is not None else ():
            if not row.prompt:
                raise InputError(
                    f"forget row {row.id} is running text, and altpo needs questions", "use alternates, or npo"
                )

    def pools(self, model: LanguageModel, rows: Rows) -> Sequence[Sequence[str]]:
        """The alternates of each forget row."""
        return sampled_alternates(model, rows.examples, self.settings.answers, rows.seed)


def sampled_alternates(model: LanguageModel, rows: Sequence[Example], answers: int, seed: int) -> list[list[str]]:
    """Per row, what the model writes when it is told to replace the facts of the true answer.

    An empty text, or one that does not fit into the context, is sampled again, `TIMES` times in all; a pool with fewer
    texts than `answers` is possible.

    Raises:
        InputError: a row leaves no room for an alternate, or nothing usable is sampled for it.
    """
    encoder = model.encoder()
    begun = model.tokenizer.encode(BEGUN, add_special_tokens=False)
    asked = [[*encoder.prompt(ASKED.format(question=row.prompt, answer=row.answer)), *begun] for row in rows]
    limits = [min(LONGEST, model.context_length - len(ids)) for ids in asked]
    for row, limit in zip(rows, limits, strict=True):
        if limit < 1:
            raise InputError(
                f"forget row {row.id}: question, answer and instruction fill the model's context of "
                f"{model.context_length} tokens, and none is left for an alternate answer",
                "shorten the row or split it",
            )
    pools: list[list[str]] = [[] for _ in rows]
    for time in range(TIMES):
        wanted = [i for i, pool in enumerate(pools) for _ in range(answers - len(pool))]
        for limit in sorted({limits[i] for i in wanted}):
            group = [i for i in wanted if limits[i] == limit]
            draw = stream_seed(seed, f"alternates of {limit} tokens", time)
            found = continue_ids(model, [asked[i] for i in group], limit, temperature=1.0, seed=draw)
            for i, ids in zip(group, found, strict=True):
                text = _first_answer(model.tokenizer.decode(ids, skip_special_tokens=True))
                learned = encoder.encode(Example(rows[i].prompt, text)).ids
                if text and len(learned) <= model.context_length:
                    pools[i].append(text)
    for row, pool in zip(rows, pools, strict=True):
        if not pool:
            raise InputError(
                f"forget row {row.id}: the model was told to write another answer and wrote none, {TIMES} times",
                "use alternates, or give perturbed_answers and use dpo:alternates=perturbed",
            )
    return pools


def _first_answer(text: str) -> str:
    """What stands before the next question."""
    text = without_thought(text)
    for end in ENDS:
        text = text.partition(end)[0]
    return text.strip()
