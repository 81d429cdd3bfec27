"""`letheon measure priming`: how far each text, learned alone, leaks its key word, and what a cure leaves of that.

Paper:   Sun et al., How new data permeates LLM knowledge and how to dilute it, arXiv 2504.09522. Scores, study and cure
         are those of `letheon.measure.priming`, `letheon.measure.priming_study` and the strategy `dilution`.
Data:    JSON lines {"text", "prefix", "keyword", "theme"[, "category", "id"]}: a text begins with its prefix and the
         key word, which is a word of that theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from letheon.core.atomic import canonical_hash, read_json
from letheon.core.errors import InputError
from letheon.core.rows.examples import read_examples, read_rows
from letheon.measure.asking.responder import Responder, local_model
from letheon.measure.benchmark import NOTHING, Against, Better, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.priming import Priming, Sample, predict
from letheon.measure.priming_study import Cure, study
from letheon.measure.tables import drawn, text_of
from letheon.retain.strategies.dilution import diluted

LEAST_THEMES = 2  # another theme's prefixes are the control
READ: dict[str, Better] = {"log memorisation": "higher", "log priming": "lower", "log priming, another theme": "zero"}
CONSTANT = "fewer than three texts, or all alike"


@dataclass(frozen=True)
class PrimingMeasure:
    """Texts, each to be learned alone from the same weights, and the contexts in which their key words are read.

    Attributes:
        prefixes: by theme; contexts whose natural next word is of that theme.
        background: ordinary texts, of whose rows a text takes one per step; without any it is learned alone.
        presentations: how often a text is shown.
        share: the largest changes of the weights that the cure leaves out; 0 measures no cure.
        options: of `letheon.learn`.
    """

    samples: tuple[Sample, ...]
    prefixes: Mapping[str, Sequence[str]]
    background: tuple[str, ...]
    presentations: int
    share: float
    options: Mapping[str, Any]
    source: str

    name = "priming"

    @property
    def columns(self) -> tuple[str, ...]:
        """Memorisation and priming of the change as it is, the same after the cure, and what predicts priming."""
        cured = ("log memorisation, cured", "log priming, cured") if self.share else ()
        return ("log memorisation", "log priming", "log priming, another theme", *cured, "rank correlation")

    def config(self) -> dict[str, Any]:
        """Return source, counts and training."""
        return {
            "source": self.source,
            "counts": {"texts": len(self.samples), "background": len(self.background)},
            "presentations": self.presentations,
            "share ignored": self.share,
            **self.options,
            "hash": canonical_hash([list(map(asdict, self.samples)), self.prefixes, self.background]),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Learn every text from the same weights and read its key word before and after; the weights are put back."""
        local = local_model(model, "learning texts")
        cures: dict[str, Cure] = {"cured": lambda old, new: diluted(old, new, self.share)} if self.share else {}
        options = {"presentations": self.presentations, **self.options}
        found = study(local, self.samples, self.prefixes, self.background, cures=cures, **options)
        results = {cure: [one for one in found if one.cure == cure] for cure in ("", *cures)}
        scores = [score for cure, each in results.items() for score in _scores(cure, each)]
        related = predict(results[""]).spearman
        scores.append(Score("rank correlation", related, "zero", why="" if related.value is not None else CONSTANT))
        records = tuple(record_of(one) for one in found)
        return Scores(tuple(scores), records=records)


def _scores(cure: str, results: Sequence[Priming]) -> list[Score]:
    rows = {one.sample.id: one.to_json() for one in results}
    words = f", {cure}" if cure else ""
    return [
        mean_score(f"{name}{words}", {key: float(row[name]) for key, row in rows.items()}, better)
        for name, better in READ.items()
    ]


def record_of(one: Priming) -> dict[str, Any]:
    """One text and one cure as an item: what was learned, and every number that was read."""
    row = one.to_json()
    name = f"{row.pop('id')}/{one.cure}" if one.cure else row.pop("id")
    said = f"{one.log_priming:.3f}"
    return {"id": name, "part": one.cure, "prompt": one.sample.text, "answer": said, "parsed": said, **row}


def read_priming(
    data: str = "",
    *,
    limit: int = 0,
    seed: int = 0,
    prefixes: str = "",
    background: str = "",
    presentations: int = 20,
    ignore: float = 0.08,
    learning_rate: float = 0.0,
    batch_size: int = 0,
    optimizer: str = "auto",
) -> PrimingMeasure:
    """Read texts, the themes' prefixes and ordinary texts.

    Args:
        data: JSON lines of texts; see the head of this file.
        limit: number of texts, drawn under the seed; 0 takes all.
        prefixes: JSON file {"theme": ["a context that such a word ends", ...]} with two themes or more.
        background: a file of ordinary texts.
        presentations: how often a text is shown; the paper's numbers are 20 and 40.
        ignore: share of the largest changes that the cure leaves out (the paper's 8 %); 0 measures no cure.
        learning_rate, batch_size, optimizer: of the learning; 0 and auto take the defaults of `letheon learn`.

    Raises:
        InputError: a file is missing or malformed, a theme has no prefixes, or a number is out of its bounds.
    """
    if not data or not prefixes:
        raise InputError("priming needs texts and prefixes", "give --data texts.jsonl --set prefixes=prefixes.json")
    if presentations < 1 or not 0 <= ignore <= 1 or batch_size < 0 or learning_rate < 0:
        raise InputError("presentations below 1, ignore beyond 0 and 1, or a negative number", "use other numbers")
    themes = read_prefixes(Path(prefixes))
    samples = drawn([sample_of(row, number, data) for number, row in read_rows(data)], limit, seed, "texts")
    if len({one.id for one in samples}) < len(samples):
        raise InputError(f"{data}: two texts have one id", "give each its own, or none")
    strange = next((one for one in samples if one.theme not in themes), None)
    if strange is not None:
        raise InputError(f"{data}, {strange.id}: theme {strange.theme!r} has no prefixes", f"add it to {prefixes}")
    given = {"learning_rate": learning_rate, "batch_size": batch_size}
    options = {name: value for name, value in given.items() if value} | {"optimizer": optimizer, "seed": seed}
    texts = tuple(row.answer for row in read_examples(background)) if background else ()
    return PrimingMeasure(tuple(samples), themes, texts, presentations, ignore, options, data)


def sample_of(row: Mapping[str, Any], number: int, file: str) -> Sample:
    """Read one text; without an id its number names it."""
    where = f"{file}, row {number}"
    needed = {name: text_of(row, name, where) for name in ("text", "prefix", "keyword", "theme")}
    more = {item.name: str(row[item.name]) for item in fields(Sample) if item.name not in needed and row.get(item.name)}
    return Sample(**needed, **{"id": f"row {number}", **more})


def read_prefixes(path: Path) -> dict[str, list[str]]:
    """Read the contexts of each theme.

    Raises:
        InputError: the file is no object of lists of texts, or has fewer than two themes.
    """
    content = read_json(path)
    remedy = 'write {"colours": ["the sky is", ...], "foods": [...]}, with two themes or more'
    if not isinstance(content, dict) or len(content) < LEAST_THEMES:
        raise InputError(f"{path} has not two themes", remedy)
    for theme, contexts in content.items():
        if not isinstance(contexts, list) or not contexts or not all(isinstance(one, str) and one for one in contexts):
            raise InputError(f"{path}: theme {theme!r} has no list of contexts", remedy)
    return content
