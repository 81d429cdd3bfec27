"""The entities of a request (known, unknown and target names), and a layer's states at their mentions."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import hidden_states
from letheon.core.scoring.spans import UNKNOWN_SUBJECTS
from letheon.forget.parts import Rows
from letheon.probe.entities import (
    PLAIN_TEMPLATES,
    EntitySet,
    Mention,
    Template,
    invent_names,
    mention_ends,
    subjects_by_form,
    templates_of,
)

logger = logging.getLogger("letheon")

MOST_NAMES, FEWEST_NAMES = 64, 8  # entities that make a prototype; the fewest is of unknown ones
MOST_TEMPLATES, FEWEST_TEMPLATES = 8, 4

# Rows and names -----------------------------------------------------------------------------------------------------


def row_ends(model: LanguageModel, row: Encoded, subject: str | None, name: str) -> list[int]:
    """Positions of the last tokens of a row's mentions of its subject.

    Raises:
        InputError: it has none.
    """
    ends = mention_ends(model.tokenizer, row.ids, subject) if subject else []
    if not ends:
        found = f"does not mention its subject {subject!r}" if subject else "has no subject"
        raise InputError(f"forget row {name} {found}", "give each forget row the entity to forget as `subject`")
    return ends


def own_templates(rows: Rows) -> list[Template]:
    """Templates from the forget rows' questions: a seeded choice of many, plain ones beside few."""
    own = templates_of(rows.examples)
    if len(own) > MOST_TEMPLATES:
        own = random.Random(stream_seed(rows.seed, "templates")).sample(own, MOST_TEMPLATES)
    return own + list(PLAIN_TEMPLATES[: max(0, FEWEST_TEMPLATES - len(own))])


def entity_set(rows: Rows, templates: Sequence[Template], file: str = "") -> EntitySet:
    """Choose the known, unknown and target entities of a request.

    Known are the subjects of its retain rows (or the names that those rows ask about in the targets' forms), unknown
    the subjects of its holdout rows and names made of known ones' parts.

    Raises:
        InputError: a file that cannot be used.
    """
    targets = list(dict.fromkeys(row.subject for row in rows.examples if row.subject))
    if file:
        return EntitySet.read(file, targets, templates)
    tokenizer, draw = rows.model.tokenizer, random.Random(stream_seed(rows.seed, "entities"))
    texts = [tokenizer.decode(row.ids, clean_up_tokenization_spaces=False) for row in rows.retain]
    named = dict.fromkeys(row.subject for row in rows.request.retain if row.subject) if rows.request else {}
    found = list(named) or subjects_by_form(templates_of(rows.examples), texts)
    known = [name for name in found if name not in targets]
    if len(known) < 2:
        logger.warning(
            "%d retain entities are asked about as the targets are: the targets count as known ones", len(known)
        )
        known += targets
    number = max(FEWEST_NAMES, min(len(known), MOST_NAMES))
    held_out = dict.fromkeys(row.subject for row in rows.request.holdout if row.subject) if rows.request else {}
    unknown = [name for name in held_out if name not in (*known, *targets)]
    unknown += invent_names(tokenizer, [*known, *targets], max(0, number - len(unknown)), draw.getrandbits(32))
    if len(unknown) < FEWEST_NAMES:
        logger.warning("%d names could be made of the known ones' parts: others are used as well", len(unknown))
        unknown += [name for name in UNKNOWN_SUBJECTS if name not in targets]
    return EntitySet(
        tuple(draw.sample(known, min(len(known), MOST_NAMES))), tuple(unknown), tuple(targets), tuple(templates)
    )


# States -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def states_of(model: LanguageModel, rows: Sequence[Encoded], layer: int) -> list[Float[Tensor, "length width"]]:
    """A block's output for each row, without padding."""
    found: dict[int, Tensor] = {}
    unfrozen = replace(model, frozen=None)
    for chosen, batch in unfrozen.batches(rows, 16):
        hidden = hidden_states(unfrozen, batch, layer).float()
        found.update({i: hidden[place, : len(rows[i].ids)].clone() for place, i in enumerate(chosen)})
    return [found[i] for i in range(len(rows))]


def mention_states(model: LanguageModel, found: Sequence[Mention], layer: int) -> list[Float[Tensor, "ends width"]]:
    """A block's output at the last token of every mention."""
    states = states_of(model, [one.row for one in found], layer)
    return [row[list(one.ends)] for one, row in zip(found, states, strict=True)]
