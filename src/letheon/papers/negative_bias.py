"""A Multifaceted Analysis of Negative Bias in Large Language Models through the Lens of Parametric Knowledge.

arXiv 2511.10881, 2025-11. Full scale in the paper: 7B to 8B instruct models on short-answer questions. Here: SmolLM2 on
true and false statements about capitals, symbols, animals and numbers, and on statements about invented countries,
about which nothing can be known; each seed draws its own statements.
"""

from __future__ import annotations

from typing import Any

from letheon.core.model.models import LanguageModel, load
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.probe.negative_bias.prompts import Format, answers_to
from letheon.probe.negative_bias.report import Ablation, BiasSettings, ablate
from letheon.probe.negative_bias.scores import soft_bias
from letheon.probe.statements import balanced, built_in, invented

# The parts that decide, named before any run.
PRIMARY = (
    "bias on invented names minus bias on real ones",
    "move of the bias down without the negative heads",
    "half of that move minus the mean move without random heads",
)
ITEMS = {"fast": 24, "full": 80}


def reproduce(scale: Scale, found: Findings) -> None:
    """Measure the bias where knowledge is missing and where it is not, and ablate the negative heads."""
    found.baselines += ["statements that can be known", "random sets of as many heads"]
    model = load(scale.model, device=scale.device)
    results = Results({"bias": [measured(model, seed, ITEMS[scale.name]) for seed in scale.seeds]})
    results.record(found)
    judge(results, found)


def judge(results: Results, found: Findings) -> None:
    """Decide on the role of knowledge and on both moves; report the bias itself."""
    for part in PRIMARY:
        found.decide(part, results.column("bias", part), above=0.0)
    found.report("bias on real names", results.column("bias", "known"))


def measured(model: LanguageModel, seed: int, items: int) -> dict[str, Any]:
    """Measure the statements of one seed."""
    real = balanced([one for rows in built_in().values() for one in rows], items, seed)
    unknown = balanced(invented(seed, items), items, seed)
    known = answers_to(model, real, Format(), attention=True)
    nothing = answers_to(model, unknown, Format())
    settings = BiasSettings(items=items, draws=8, seed=seed)
    bias = [float(soft_bias(one.yes, one.no).mean()) for one in (known, nothing)]
    return {
        "seed": seed,
        "known": bias[0],
        PRIMARY[0]: bias[1] - bias[0],
        **moves(ablate(model, real, known, settings)),
    }


def moves(ablation: Ablation | None) -> dict[str, float | None]:
    """The deciding values of an ablation; none where no head is negative for both right answers."""
    if ablation is None:
        return dict.fromkeys(PRIMARY[1:])
    move = ablation.plain - ablation.without
    random = sum(abs(ablation.plain - one) for one in ablation.random) / len(ablation.random)
    return {PRIMARY[1]: move, PRIMARY[2]: move / 2 - random}
