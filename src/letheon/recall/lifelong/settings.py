"""Options of the lifelong memory; all values are [inferred]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from letheon.core.registry import check_settings

# What can be taken out, one at a time, to see whether it matters.
Part = Literal["valence", "spread", "priming", "shortcuts", "gate", "curiosity", "beliefs", "deliberation"]


@dataclass(frozen=True)
class LifelongSettings:
    """Options of the lifelong memory.

    Attributes:
        capacity: memories that working memory holds.
        hops: iterations of spreading activation.
        spread: share of its activation that a memory passes on per hop.
        mood: weight of the match between the present mood and a memory's valence.
        recency: weight of the base level in the ranking. The value .2 drowns the cosine, since base levels of one day
            and of one minute differ by 3.6.
        priming: weight of activation that is left of earlier queries.
        priming_decay: share of it that is left per turn.
        mood_rate: weight of a turn's valence in the mood.
        rate: learning rate of precisions.
        together: learning rate of links between memories that were in working memory together (Hebb's rule). It is off:
            on the tuning seeds such links let neighbours of the right memory win, and accuracy fell.
        shortcut: weight of the link from a question that deliberate search answered to its answer.
        cue: cosine with a question that was answered before from which its shortcut is taken.
        drop: gate score below which a turn is not stored.
        full: gate score from which a turn is encoded actively, with questions.
        gate_weights: of the salience terms |pleasantness|, arousal, urgency, novelty, trust.
        gate_bias: of the gate.
        known: confidence from which automatic recall answers.
        clear: least margin over the second memory, as a share of the first one's activation.
        unknown: cosine below which nothing is known.
        accept: cosine from which deliberate search accepts a candidate.
        similar: cosine from which a statement of change supersedes a memory.
        error: prediction error above which a memory is open to change.
        belief: cosine from which episodes form an intermediate belief; `core` is that of beliefs forming a core one.
        smallest: least number of episodes per belief.
        episode_days, automatic_days, belief_days: lifetimes of episodes, automatic thoughts and intermediate beliefs.
        faint: strength below which a memory is dormant.
        questions: most questions that curiosity asks per turn.
    """

    capacity: int = 4
    hops: int = 3
    spread: float = 0.5
    mood: float = 0.3
    recency: float = 0.005
    priming: float = 0.05
    priming_decay: float = 0.6
    mood_rate: float = 0.5
    rate: float = 0.2
    together: float = 0.0
    shortcut: float = 1.0
    cue: float = 0.8
    drop: float = 0.35
    full: float = 0.6
    gate_weights: tuple[float, ...] = (1.5, 1.0, 1.5, 2.0, 1.0)
    gate_bias: float = 1.3
    known: float = 0.36
    clear: float = 0.15
    unknown: float = 0.25
    accept: float = 0.55
    similar: float = 0.6
    error: float = 0.15
    belief: float = 0.45
    core: float = 0.25
    smallest: int = 3
    episode_days: float = 30.0
    automatic_days: float = 90.0
    belief_days: float = 365.0
    faint: float = 0.05
    questions: int = 2

    def __post_init__(self) -> None:
        check_settings(self, positive=("capacity", "episode_days", "automatic_days", "belief_days"))
