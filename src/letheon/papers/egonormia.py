"""EgoNormia: Benchmarking Physical Social Norm Understanding.

arXiv 2502.20490, 2025-02; Rezaei et al., Findings of ACL 2025.

Measured here: the recorded answers of four systems on the eleven robot scenes, under this scorer and under the released
rule for shuffled options, and per seed a perfect answerer under both rules with other permutations. Nothing is asked of
a model. Full scale in the paper: 1,853 scenes of video and vision-language models.
"""

from __future__ import annotations

import random
from typing import Any

from letheon.measure.egonormia import original, read_scenes, recorded_verdicts, released_original, verdict_scores
from letheon.papers.common.data import data_folder
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale

# Action, justification, both and overlap of the recorded answers, to three digits.
RECORDED = {
    "rag": (0.636, 0.455, 0.455, 0.25),
    "gpt-4o-240513": (0.455, 0.182, 0.091, 0.25),
    "desc_gpt-o3-mini": (0.182, 0.182, 0.091, 0.25),
    "desc_deepseek-r1-new": (0.182, 0.182, 0.091, 0.25),
}
NAMES = ("action", "reason", "both", "sensible IoU")
SLIP = "perfect answerer: released rule minus this one"
PRIMARY = ["recorded answers"]  # the slip follows from the rules and is reported beside the claim
DRAWS = 2000
GET = "get Open-Social-World/EgoNormia: ood_robot.json and ood_robot_eval.json"


def reproduce(scale: Scale, found: Findings) -> None:
    """Score the recorded answers, then a perfect answerer under both rules."""
    found.baselines += ["the released rule for shuffled options"]
    folder = data_folder("egonormia_ood", GET)
    scenes = read_scenes(folder / "ood_robot.json")
    same = []
    for system, verdicts in recorded_verdicts(folder / "ood_robot_eval.json", scenes).items():
        scores = {score.name: score.estimate for score in verdict_scores(scenes, verdicts)}
        table = tuple(round(scores[name].value or 0.0, 3) for name in NAMES)
        same.append(table == RECORDED.get(system))
        found.measured[system] = dict(zip(NAMES, table, strict=True))
        found.intervals[system] = [scores["both"].low, scores["both"].high]
    found.recompute("recorded answers", [*same, len(same) == len(RECORDED)])
    found.rows += [perfect([scene.correct for scene in scenes], seed) for seed in scale.seeds]
    ours, released = ([row[name] for row in found.rows] for name in ("ours", "released"))
    found.report(SLIP, Pairs(ours, released), below=0.0)
    found.report("perfect answerer, released rule", released)


def perfect(correct: list[int], seed: int) -> dict[str, Any]:
    """Score a perfect answerer of shuffled options under both rules."""
    draw = random.Random(seed)
    hits = {"ours": 0, "released": 0}
    for _ in range(DRAWS):
        order, key = draw.sample(range(5), 5), draw.choice(correct)
        hits["ours"] += original(order.index(key), order) == key
        hits["released"] += released_original(order.index(key), order) == key
    return {"seed": seed} | {name: count / DRAWS for name, count in hits.items()}
