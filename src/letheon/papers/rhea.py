"""Rhea: Role-aware Heuristic Episodic Attention for Conversational LLMs.

arXiv 2512.06869, 2025-12; Hong et al. Full scale in the paper: models of 1.7B to 7B parameters on MT-Eval and
Long-MT-Bench+, judged by a language model. Here: generated dialogues whose rules and facts are contradicted later, and
no judge. Per seed, whether the right rule or fact is in the context that each memory builds at an equal budget, and
the likelihood that SmolLM2-135M gives the right answer in that context. The recogniser of rules finds them itself; on
judged seeds they are worded otherwise than on those that it was made on. Replies are compressed as text; thresholds,
scores and recogniser are inferred. Of searches over turns, turns and replies, or exchanges, with and without a recency
bonus and a query for rules, seeds 100 to 102 chose the best one for rules and the best one for facts. Rhea may place
all exchanges (k = 32, while the product's default is 5), as the searches may. Facts that the assistant misstates decide
nothing, since Rhea shortens replies: they are reported as noise control. That facts are lost without retrieval holds by
construction, since the last exchanges do not reach them: it is a check.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from letheon.core.model.models import LanguageModel, load
from letheon.core.scoring.answer_trees import score_tokens
from letheon.papers.common.ruled_dialogues import EARLY, EXCHANGES, Dialogue, Question, make_dialogue
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.recall.embedders import Cached, Embedder, load_embedder
from letheon.recall.entries import Entry
from letheon.recall.exchanges import exchanges
from letheon.recall.instructions import RuleHead, standing_rules
from letheon.recall.memory import Memory
from letheon.recall.policies import Name, Placed, Settings, fit

DIALOGUES, ASKED = 8, 4  # dialogues per seed; those of them that the model is asked about
BUDGET, NO_BUDGET = 160, 10**6  # tokens of a context
MANNERS = "How should you answer me from now on?"
JUDGED = 100  # seeds below are judged; they word rules in the way that nothing was made for
TIMES = {"early": EARLY, "late": EXCHANGES}
RULES = "rules in force, in context: Rhea minus search of the user's words"
FACTS = "facts, corrected ones in their last form, in context: Rhea minus vector search"
FOLLOWED = "SmolLM2, rules: margin of the right answer, Rhea minus search of the user's words"
STEADY = "SmolLM2, rules: change of the margin with turns, Rhea minus full history"
INSTRUCTIONS = "SmolLM2, rules: margin of the right answer, Rhea minus without instructional memory"
RETRIEVAL = "SmolLM2 loses the facts without retrieval: the mean margin of the right answer is smaller"
PRIMARY = (RULES, FACTS, FOLLOWED, STEADY, INSTRUCTIONS)

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Told:
    """A dialogue told to two memories, one of which recognises standing rules."""

    ruled: Memory
    bare: Memory


Arm = Callable[[Told, str], Messages]


def by_policy(policy: Name, ruled: bool = True, k: int = EXCHANGES, budget: int = NO_BUDGET) -> Arm:
    """Return the arm that builds contexts by a policy of the product."""

    def messages(told: Told, query: str) -> Messages:
        given = told.ruled if ruled else told.bare
        memory = given.in_session(given.session)
        memory.policy, memory.settings = policy, Settings(k=k)
        return memory.context(query, budget).messages

    return messages


def by_search(*, words_of_user: bool = False, ruled: bool = False) -> Arm:
    """Return the arm that fills the budget with what is nearest to the query, in its order and uncompressed.

    Args:
        words_of_user: search the user's turns alone, by the better of their cosines with the query and with `MANNERS`,
            a fixed query for rules; otherwise whole exchanges, by their cosine with the query.
        ruled: rules that are recognised lead.
    """

    def messages(told: Told, query: str) -> Messages:
        memory = told.bare
        first = [rule.text for rule in told.ruled.rules()] if ruled else []
        asked = memory.embedder.embed([query, MANNERS] if words_of_user else [query])
        ids, matrix = memory.store.vectors()
        cosine = dict(zip(ids.tolist(), (matrix @ asked.T).max(1).tolist(), strict=True))

        def cost(one: Placed) -> int:
            return 0 if one.treatment == "left out" else sum(memory.count(entry.text) for entry in one.exchange.entries)

        turns = [turn for turn in memory.store.entries() if turn.role == "user" or not words_of_user]
        every = [
            Placed(one, max(cosine[entry.id] for entry in one.entries), "whole", "cosine", place)
            for place, one in enumerate(exchanges(turns))
        ]
        best = sorted(every, key=lambda one: (-one.score, -one.place))
        chosen = fit(best, BUDGET - sum(map(memory.count, [query, *first])), cost, compressing=False)
        shown = [entry for one in chosen if one.treatment == "whole" for entry in one.exchange.entries]
        system = [{"role": "system", "content": "\n".join(first)}] if first else []
        said = [{"role": entry.role, "content": entry.text} for entry in shown]
        return [*system, *said, {"role": "user", "content": query}]

    return messages


ARMS: dict[str, Arm] = {
    "rhea": by_policy("rhea", budget=BUDGET),
    "user": by_search(words_of_user=True),
    "full": by_policy("full", ruled=False),
    "no instructions": by_policy("rhea", ruled=False, budget=BUDGET),
    "no retrieval": by_policy("window", budget=BUDGET),
    "vector": by_search(),
    "window": by_policy("window", ruled=False, budget=BUDGET),
    "no compression": by_search(ruled=True),
}
MODEL_ARMS = ("rhea", "user", "full", "no instructions", "no retrieval")


def reproduce(scale: Scale, found: Findings) -> None:
    """Tell generated dialogues to every memory, and ask early and late."""
    found.baselines += ["search of the user's words, with a query for rules", "vector search", "the last exchanges"]
    found.baselines += ["full history", "ablations: instructional memory, retrieval, compression"]
    embedder, model = Cached(load_embedder("minilm")), load(scale.model, device=scale.device)
    seeds = [one_seed(seed, embedder, model) for seed in scale.seeds]
    results = Results({arm: [seed[arm] for seed in seeds] for arm in ARMS})
    judge(results, found)
    results.record(found)


def judge(results: Results, found: Findings) -> None:
    """Decide on contexts against search, on the model's answers against search and full history, and on ablations."""

    def more(metric: str, baseline: str) -> Pairs:
        return results.pairs(f"{metric} late", "rhea", baseline)

    found.decide(RULES, more("rules", "user"), above=0.0)
    found.decide(FACTS, more("facts", "vector"), above=0.0)
    found.decide(FOLLOWED, more("rule margin", "user"), above=0.0)
    found.decide(STEADY, results.pairs("rule margin change", "rhea", "full"), above=0.0)
    found.decide(INSTRUCTIONS, more("rule margin", "no instructions"), above=0.0)
    margins = more("fact margin", "no retrieval")
    found.check(RETRIEVAL, _mean(margins.ours) > _mean(margins.baseline))
    noise = more("misstated facts", "vector")
    found.report("noise control: facts that a reply misstates, in context: Rhea minus vector search", noise, above=0.0)
    for arm in ARMS:
        for matter in ("rules", "facts") if arm != "rhea" else ():
            if (matter, arm) not in (("rules", "user"), ("facts", "vector")):
                found.report(f"{matter} in context, Rhea minus {arm}", more(matter, arm), above=0.0)
    for matter, arm in (("rule", "user"), ("rule", "full"), ("fact", "user")):
        found.report(f"SmolLM2, {matter}s: right answers, Rhea minus {arm}", more(f"{matter} right", arm), above=0.0)
    found.report("SmolLM2, facts: margin, Rhea minus user", more("fact margin", "user"), above=0.0)
    found.report("tokens, Rhea minus full history", more("tokens", "full"), below=0.0)
    for name in ("precision", "recall"):
        found.report(f"recogniser of rules: {name}", results.column("rhea", name))


def one_seed(seed: int, embedder: Embedder, model: LanguageModel) -> dict[str, dict[str, Any]]:
    """Measure every arm on the dialogues of a seed; return a row per arm. The model is asked about the first ones."""
    count = cache(lambda text: len(model.tokenizer(text, add_special_tokens=False)["input_ids"]))
    dialogues = [make_dialogue(1000 * seed + number, unseen=seed < JUDGED) for number in range(DIALOGUES)]
    values: dict[str, dict[str, list[float]]] = {arm: {} for arm in ARMS}
    for number, dialogue in enumerate(dialogues):
        for time, after in TIMES.items():
            with told(dialogue, after, embedder, count) as memories:
                for arm in ARMS:
                    asked_model = model if number < ASKED and arm in MODEL_ARMS else None
                    for name, value in measured(ARMS[arm], memories, dialogue, time, asked_model, count):
                        values[arm].setdefault(name, []).append(value)
    known = {"seed": seed, **recognised(dialogues, embedder)}
    rows = {arm: {**known, **{name: float(np.mean(each)) for name, each in own.items()}} for arm, own in values.items()}
    for arm in MODEL_ARMS:
        rows[arm]["rule margin change"] = rows[arm]["rule margin late"] - rows[arm]["rule margin early"]
    return rows


def measured(
    arm: Arm, memories: Told, dialogue: Dialogue, time: str, model: LanguageModel | None, count: Callable[[str], int]
) -> Iterator[tuple[str, float]]:
    """Yield what an arm's contexts hold, their tokens and, where a model is asked, what it makes of them.

    The model is asked about the first rule and, late, about the first fact; full history, which costs most, about the
    rule alone.
    """
    for matter, questions in (("rules", dialogue.rules[TIMES[time]]), ("facts", dialogue.facts[TIMES[time]])):
        for number, question in enumerate(questions):
            messages = arm(memories, question.text)
            yield f"{'misstated ' * question.misstated}{matter} {time}", float(holds(messages, question))
            yield f"tokens {time}", float(sum(count(message["content"]) for message in messages))
            wanted = matter == "rules" or (time == "late" and arm is not ARMS["full"])
            if model is not None and number == 0 and wanted:
                logp = answer_logp(model, messages, question.answers)
                yield f"{matter[:-1]} margin {time}", logp[0] - float(np.mean(logp[1:]))
                yield f"{matter[:-1]} right {time}", float(logp[0] > max(logp[1:]))


def holds(messages: Messages, question: Question) -> bool:
    """Whether the sentence that decides a question is in the context, and no contradicting one after it."""
    text = "\n".join(message["content"] for message in messages[:-1])
    return text.rfind(question.told) > max((text.rfind(wrong) for wrong in question.wrong), default=-1)


def answer_logp(model: LanguageModel, messages: Messages, answers: Sequence[str]) -> list[float]:
    """Mean log-probability per token (nats) of each answer, end of turn included."""
    text = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    scored = score_tokens(model, [(ids, [model.encoder().answer(answer)[0] for answer in answers])])[0]
    return [float(one.logp.mean()) for one in scored]


@contextmanager
def told(dialogue: Dialogue, after: int, embedder: Embedder, count: Callable[[str], int]) -> Iterator[Told]:
    """Tell the first exchanges of a dialogue to two memories, whose files are removed afterwards."""
    entries = [
        Entry(text, role, "turn", "talk", created=float(number))
        for number, exchange in enumerate(dialogue.exchanges[:after])
        for role, text in zip(("user", "assistant"), exchange, strict=True)
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        both = [
            stack.enter_context(Memory(folder / f"{ruled}.sqlite", embedder, session="talk", count=count))
            for ruled in (True, False)
        ]
        for memory, ruled in zip(both, (True, False), strict=True):
            memory.import_entries(entries, rules=ruled)
        yield Told(*both)


def recognised(dialogues: Sequence[Dialogue], embedder: Embedder) -> dict[str, float]:
    """Precision and recall of the recogniser of standing rules on the users' turns."""
    right = claimed = stated = 0
    head = RuleHead(embedder)
    for dialogue in dialogues:
        rules = {rule for said, _ in dialogue.exchanges for rule in standing_rules(said, head)}
        right, claimed = right + len(rules & set(dialogue.stated)), claimed + len(rules)
        stated += len(dialogue.stated)
    return {"precision": right / max(claimed, 1), "recall": right / stated}


def _mean(values: Sequence[float | None]) -> float:
    """Return the mean over seeds; NaN, which passes no check, where a seed has none."""
    return float(np.mean([float("nan") if value is None else value for value in values]))
