"""NormGenesis: multicultural dialogue generation via exemplar-guided social norm modeling and violation recovery.

arXiv 2509.18395, 2025-09; Hong, Choi & Kim, EMNLP 2025.

Measured here: the structure of the released American dialogues against the counts of their release, the share of
dialogues whose violation is repaired (found by words, as the release has no labels), and per seed a classifier of the
three kinds that is tested on other norms, on first halves and on endings. The pipeline itself is run by `letheon
measure normgenesis`. Full scale in the paper: generation by GPT-4.1 and human raters.
"""

from __future__ import annotations

from typing import Any

from letheon.measure.normgenesis.dialogues import Dialogue, grid, phases, read_dialogues, shuffled_turns, type_accuracy
from letheon.papers.common.data import data_folder
from letheon.papers.kit.findings import Columns, Findings, Pairs
from letheon.papers.outcome import Scale

KINDS = ("adherence", "violation", "v2r")
APOLOGIES = {"adherence": 0.224, "violation": 0.144, "v2r": 0.938}
TURNS = {"adherence": 7.3, "violation": 8.5, "v2r": 11.1}
ORDER = "repaired share: v2r minus adherence, by category"
SHUFFLED = "repaired share of v2r: shuffled turns minus in order"
LATE = "accuracy of the kind: endings minus first halves"
PRIMARY = ["counts", "apologies", "turns", ORDER, SHUFFLED, LATE]
GET = "get bk123477/NormGenesis (CC BY-SA 4.0): dialogue_american_adherence.json, _violation and _v2r"


def reproduce(scale: Scale, found: Findings) -> None:
    """Recount the released dialogues, look for repairs, and tell the kinds apart."""
    found.baselines += ["dialogues that follow the norm", "shuffled turns", "first halves"]
    folder = data_folder("normgenesis", GET)
    kinds = {name: read_dialogues(folder / f"dialogue_american_{name}.json") for name in KINDS}
    counted = {name: grid(dialogues) for name, dialogues in kinds.items()}
    found.measured |= counted
    grids = [(one["records"], one["categories"], one["norms"]) == (1200, 12, 120) for one in counted.values()]
    found.recompute("counts", grids)
    found.recompute("apologies", [round(counted[name]["apologies"], 3) == share for name, share in APOLOGIES.items()])
    found.recompute("turns", [round(counted[name]["turns"], 1) == number for name, number in TURNS.items()])
    by_category = {name: repaired(dialogues) for name, dialogues in kinds.items()}
    names = sorted(by_category["v2r"])
    pair = Pairs(*([by_category[kind][name] for name in names] for kind in ("adherence", "v2r")))
    found.decide(ORDER, pair, above=0.0)
    found.rows += [one_seed(list(kinds.values()), seed) for seed in scale.seeds]
    of = Columns(found.rows)
    found.decide(SHUFFLED, of.pairs("shuffled", "in order"), below=0.0)
    found.decide(LATE, of.pairs("ending", "first half"), above=0.0)
    found.report("accuracy of the kind: endings", of("ending"), above=1 / 3)


def repaired(dialogues: list[Dialogue]) -> dict[str, float]:
    """Compute the share of repaired violations per category."""
    groups: dict[str, list[bool]] = {}
    for one in dialogues:
        groups.setdefault(one.category, []).append(phases(one.turns).resolved)
    return {name: sum(values) / len(values) for name, values in groups.items()}


def one_seed(kinds: list[list[Dialogue]], seed: int) -> dict[str, Any]:
    """Shuffle the turns of the repaired kind, and train and test the classifier on another split of norms."""
    turns = [one.turns for one in kinds[-1]]
    n = len(turns)
    return {
        "seed": seed,
        "in order": sum(phases(one).resolved for one in turns) / n,
        "shuffled": sum(phases(shuffled_turns(one, n * seed + i)).resolved for i, one in enumerate(turns)) / n,
        "first half": type_accuracy(kinds, share=0.5, seed=seed)[0],
        "ending": type_accuracy(kinds, seed=seed)[0],
    }
