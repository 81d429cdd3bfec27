"""Few-shot memories: what a model recognises, recalls and retains of sentences that it saw one to three times.

Paper:   Orhan, Recognition, recall, and retention of few-shot memories in large language models, arXiv 2303.17557.
Source:  eminorhan/llm-memory for the experiments, the study phase and the scores.
Differs: sentences are generated (the authors' come from a blog); experiment 2, which needs a paraphrasing model, takes
         pairs from a file. Recall also gives the continuation alone, as the whole text holds the prompt for free.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError, nearest
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example, read_rows
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate_ids
from letheon.core.scoring.overlap import rouge
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.measure.asking.responder import Responder, local_model
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.tables import drawn, text_of

Experiment = Literal["natural", "one_word", "random_words", "random_against_natural", "gibberish"]
WHO = [
    "teacher",
    "gardener",
    "sailor",
    "nurse",
    "painter",
    "farmer",
    "baker",
    "lawyer",
    "pilot",
    "widow",
    "poet",
    "miner",
    "tailor",
    "judge",
    "singer",
    "clerk",
]
DID = ["found", "sold", "painted", "lost", "carried", "repaired", "borrowed", "hid", "opened", "washed"]
# Each verb of a sentence and its synonym, for foils that differ in one word.
SYNONYMS = dict(
    zip(
        DID,
        ["discovered", "traded", "coloured", "mislaid", "hauled", "mended", "lent", "concealed", "unlocked", "cleaned"],
        strict=True,
    )
)
LOOKS = ["small", "broken", "yellow", "heavy", "wooden", "silver", "dusty", "foreign", "striped", "ancient"]
WHAT = [
    "ladder",
    "clock",
    "basket",
    "violin",
    "mirror",
    "lantern",
    "kettle",
    "carpet",
    "bicycle",
    "statue",
    "drum",
    "globe",
]
WHERE = [
    "behind the chapel",
    "near the harbour",
    "under the bridge",
    "beside the mill",
    "in the attic",
    "at the market",
]
WHEN = ["on Monday", "in early spring", "after the storm", "before sunrise", "during the feast", "last winter"]


@dataclass(frozen=True)
class Pairs:
    """Studied sentences, and a foil for each."""

    seen: tuple[str, ...]
    foils: tuple[str, ...]


def natural_sentence(draw: random.Random) -> str:
    """Draw a sentence."""
    parts = [draw.choice(words) for words in (WHO, DID, LOOKS, WHAT, WHERE, WHEN)]
    return "The {} {} a {} {} {} {}.".format(*parts)


def own_pairs(experiment: Experiment, pairs: int, seed: int) -> Pairs:
    """Generate the pairs of an experiment; no sentence occurs twice."""
    draw = random.Random(stream_seed(seed, "sentences"))
    sentences: dict[str, None] = {}
    while len(sentences) < 2 * pairs:
        sentences[natural_sentence(draw)] = None
    seen, unseen = list(sentences)[:pairs], list(sentences)[pairs:]
    vocabulary = sorted(
        {word for sentence in sentences for word in sentence.lower().strip(".").split() if len(word) > 2}
    )
    strings = [" ".join(draw.choices(vocabulary, k=12)) for _ in range(2 * pairs)]
    return {
        "natural": lambda: Pairs(tuple(seen), tuple(unseen)),
        "one_word": lambda: Pairs(tuple(seen), tuple(map(one_word_changed, seen))),
        "random_words": lambda: Pairs(tuple(strings[:pairs]), tuple(strings[pairs:])),
        "random_against_natural": lambda: Pairs(tuple(strings[:pairs]), tuple(unseen)),
        "gibberish": lambda: Pairs(tuple(gibberish(one, draw) for one in seen), tuple(seen)),
    }[experiment]()


def one_word_changed(sentence: str) -> str:
    """Replace the verb by its synonym."""
    return " ".join(SYNONYMS.get(word, word) for word in sentence.split())


def gibberish(sentence: str, draw: random.Random) -> str:
    """Shuffle the letters of each word, then the words."""
    words = ["".join(draw.sample(word, len(word))) for word in sentence.strip(".").split()]
    return " ".join(draw.sample(words, len(words)))


def recognition(model: LanguageModel, pairs: Pairs) -> dict[str, float]:
    """Say for each pair whether the seen text has the lower mean loss per token (1) or not (0)."""
    losses = [
        -float(scores[0].logp.mean())
        for scores in score_answers(model, [("", [t]) for t in (*pairs.seen, *pairs.foils)])
    ]
    n = len(pairs.seen)
    return {str(i): float(losses[i] < losses[n + i]) for i in range(n)}


@dataclass(frozen=True)
class Recalled:
    """One sentence completed from its first half: ROUGE-L of the whole text and of the continuation, exact match."""

    whole: float
    continuation: float
    exact: float
    text: str


def recall(model: LanguageModel, sentences: Sequence[str]) -> list[Recalled]:
    """Complete each sentence greedily from the first half of its tokens to its own length."""
    encoder, tokenizer = model.encoder(), model.tokenizer
    rows = [encoder.answer(sentence, end=False)[0] for sentence in sentences]
    halves = [row[: len(row) // 2] for row in rows]
    ends = {tokenizer.eos_token_id, *tokenizer(encoder.end, add_special_tokens=False)["input_ids"][-1:]} - {None}
    banned = [[[end] for end in sorted(ends)]] * len(rows)  # the sentence's length decides where it stops
    longest = max(len(row) - len(half) for row, half in zip(rows, halves, strict=True))
    made = generate_ids(model, [""] * len(rows), max_new_tokens=longest, prefixes=halves, banned=banned)
    found = []
    for sentence, row, half, ids in zip(sentences, rows, halves, made, strict=True):
        ids = ids[: len(row)]
        said, tail, rest = (
            tokenizer.decode(one, skip_special_tokens=True) for one in (ids, ids[len(half) :], row[len(half) :])
        )
        exact = float(ids[len(half) :] == row[len(half) :])
        found.append(Recalled(rouge(said, sentence).rougeL_f1, rouge(tail, rest).rougeL_f1, exact, said))
    return found


@dataclass(frozen=True)
class FewShotMemories:
    """Pairs, the study, and the steps of interference at which memory is probed.

    Attributes:
        pairs: studied sentences and foils.
        interference: sentences that are trained on afterwards.
        shots: exposures of each sentence.
        probes: numbers of interference steps.
        learning_rate, batch_size: of the study; interference uses the same.
        foils_recalled: also complete the foils, which nobody studied: what their recall gains is no memory of them.
    """

    pairs: Pairs
    interference: tuple[str, ...]
    shots: int = 3
    probes: tuple[int, ...] = (1, 2, 5, 10, 20)
    learning_rate: float = 3e-5
    batch_size: int = 4
    experiment: str = "natural"
    source: str = "own sentences"
    seed: int = 0
    foils_recalled: bool = False

    name = "few_shot_memories"

    @property
    def columns(self) -> tuple[str, ...]:
        """Recognition and recall after every exposure, then along the interference."""
        times = [*(f"{k} shots" for k in range(self.shots + 1)), *(f"{step} steps later" for step in self.probes)]
        return tuple(f"{what}, {time}" for what in ("recognition", "recall") for time in times)

    def config(self) -> dict[str, Any]:
        """Return source, experiment and training."""
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {"pairs": len(self.pairs.seen), "interference": len(self.interference)},
            "experiment": self.experiment,
            "shots": self.shots,
            "probes": list(self.probes),
            "learning rate": self.learning_rate,
            "batch size": self.batch_size,
            "hash": canonical_hash([self.pairs, self.interference]),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Study, probe after each exposure, train on other sentences and probe again; the weights are then put back."""
        local = local_model(model, "studying sentences")
        before = {name: value.detach().clone() for name, value in local.model.state_dict().items()}
        scores: list[Score] = []
        records: list[dict[str, Any]] = []

        def probe(time: str) -> None:
            local.model.eval()
            made, own = self.probe(local, time)
            scores.extend(made)
            records.extend(own)

        try:
            probe("0 shots")
            per_shot = -(-len(self.pairs.seen) // self.batch_size)
            study = {shot * per_shot: f"{shot} shots" for shot in range(1, self.shots + 1)}
            self._train(local, self.pairs.seen, study, probe, "study")
            if self.probes:
                later = {step: f"{step} steps later" for step in self.probes}
                self._train(local, self.interference, later, probe, "interference")
        finally:
            local.model.load_state_dict(before)
            local.model.eval()
        return Scores(tuple(scores), records=tuple(records), notes=tuple(self._notes(scores)))

    def _train(
        self, model: LanguageModel, texts: Sequence[str], times: Mapping[int, str], probe: Any, stream: str
    ) -> None:
        settings = TrainSettings(
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            clip=None,
            precision="float32",
            seed=stream_seed(self.seed, stream) % 2**31,
            checkpoint_seconds=0.0,
        )

        def at(history: Sequence[Mapping[str, float]]) -> None:
            if len(history) in times:
                with torch.random.fork_rng():
                    probe(times[len(history)])

        rows = [Example("", text) for text in texts]
        finetune(model, rows, settings, max(times), stop=at, title=stream)

    def probe(self, model: LanguageModel, time: str) -> tuple[list[Score], list[dict[str, Any]]]:
        """Measure recognition and recall at one time."""
        right, recalled = recognition(model, self.pairs), recall(model, self.pairs.seen)
        columns = {
            name: {str(i): float(getattr(one, name)) for i, one in enumerate(recalled)}
            for name in ("whole", "continuation", "exact")
        }
        scores = [
            mean_score(f"recognition, {time}", right, "higher", share=True),
            mean_score(f"recall, {time}", columns["continuation"], "higher", seed=self.seed),
            mean_score(f"recall with its prompt, {time}", columns["whole"], "higher", seed=self.seed),
            mean_score(f"exact recall, {time}", columns["exact"], "higher", share=True),
        ]
        if self.foils_recalled:
            foils = {str(i): one.continuation for i, one in enumerate(recall(model, self.pairs.foils))}
            scores.append(mean_score(f"recall of foils, {time}", foils, "zero", seed=self.seed))
        records = [
            {
                "id": f"{time}/{i}",
                "part": "",
                "prompt": sentence,
                "answer": one.text,
                "parsed": one.text,
                "foil": self.pairs.foils[i],
                "recognised": right[str(i)],
                "recall": one.continuation,
            }
            for i, (sentence, one) in enumerate(zip(self.pairs.seen, recalled, strict=True))
        ]
        return scores, records

    def _notes(self, scores: Sequence[Score]) -> list[str]:
        start = next(score.estimate.value for score in scores if score.name == "recognition, 0 shots")
        return [f"before any study the seen text has the lower loss in a share of {start or 0:.2f} of the pairs"]


def read_few_shot_memories(
    data: str = "",
    *,
    limit: int = 0,
    seed: int = 0,
    experiment: str = "natural",
    shots: int = 3,
    steps: int = 20,
    learning_rate: float = 3e-5,
    batch_size: int = 4,
) -> FewShotMemories:
    """Read or generate the sentences.

    Args:
        data: JSON lines {"seen", "foil"}; left out, generated pairs.
        limit: number of pairs, 48 by default.
        experiment: natural, one_word, random_words, random_against_natural or gibberish, for generated pairs.
        shots: exposures.
        steps: interference steps at most; 0 leaves retention out.
        learning_rate, batch_size: of the study.

    Raises:
        InputError: malformed pairs, another experiment, or numbers that are too small.
    """
    if experiment not in get_args(Experiment):
        raise InputError(f"experiment={experiment}", nearest(experiment, list(get_args(Experiment))))
    if min(shots, batch_size) < 1 or steps < 0 or learning_rate <= 0:
        raise InputError("shots, batch_size or learning_rate of 0, or steps below 0", "use larger numbers")
    if data:
        rows = [
            (text_of(r, "seen", w), text_of(r, "foil", w)) for n, r in read_rows(data) for w in [f"{data}, row {n}"]
        ]
        chosen = drawn(rows, limit, seed, "pairs")
        pairs = Pairs(tuple(seen for seen, _ in chosen), tuple(foil for _, foil in chosen))
    else:
        pairs = own_pairs(experiment, limit or 48, seed)  # type: ignore[arg-type]  # checked above
    draw = random.Random(stream_seed(seed, "interference"))
    other = [text.replace("The ", "A ") for text in (natural_sentence(draw) for _ in range(max(steps, 1) * batch_size))]
    return FewShotMemories(
        pairs=pairs,
        interference=tuple(dict.fromkeys(other)),
        shots=shots,
        probes=tuple(step for step in (1, 2, 5, 10, 20, 50, 100) if step <= steps),
        learning_rate=learning_rate,
        batch_size=batch_size,
        experiment="pairs of a file" if data else experiment,
        source=data or "own sentences",
        seed=seed,
    )
