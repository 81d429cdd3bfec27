"""How well an answer fits its own question, rather than any question of the request.

A model that may not give the fact can fall back on a word that it gives to everything ("Basketball" for a place of
birth). Such a word is as likely after the other questions; a fitting answer is not. Ours; the contrast is that of
domain-conditional mutual information (Holtzman et al., Surface Form Competition, arXiv 2104.08315).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.scoring.answer_trees import score_answers

# At most so many other questions are asked for the contrast, evenly spaced: more change it little.
OTHERS = 8


def fit_of_answers(model: LanguageModel, prompts: Sequence[str], place: int, answers: Sequence[str]) -> list[float]:
    """The log-probability of each answer to `prompts[place]`, plus what that is above its mean after other prompts.

    All in nats per token, end of turn included; without other prompts the log-probability alone.
    """
    others = [prompt for prompt in dict.fromkeys(prompts) if prompt not in ("", prompts[place])]
    chosen = np.unique(np.linspace(0, max(len(others) - 1, 0), min(OTHERS, len(others))).round().astype(int))
    asked = [prompts[place], *(others[i] for i in chosen)]
    scores = score_answers(model, [(prompt, answers) for prompt in asked])
    levels = np.array([[one.logp.mean() for one in found] for found in scores])
    own = levels[0]
    return (own + (own - levels[1:].mean(0) if len(levels) > 1 else 0.0)).tolist()
