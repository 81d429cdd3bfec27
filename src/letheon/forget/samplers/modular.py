"""Modular: every forget row meets retain rows of its own entity's neighbourhood; and the schemes it is compared with.

Paper:   Standard vs. Modular Sampling: Best Practices for Reliable LLM Unlearning (MELU), arXiv 2509.05316.
         `scheme=melu` is its method; `1_1seq`, `1_1random`, `cyclic`, `direct`, `indirect` and `balanced` are what it
         compares. The loss is never touched, so any objective goes with any scheme.
Differs: the paper's pair table is a prepared file; here it is built: one module an entity, of max(|F_e|, |R_e|) pairs
         with the shorter list cycled, one module after another [inferred from the description of that file]. General
         rows, and indirect rows that name no entity, are dealt out so that each is in one module. What `balanced`
         draws from each relation is under the run's seed [inferred: equal shares].
         The named recipe `melu` gives the pairs a new order each epoch, as the authors' trainer has it by default and
         as `letheon papers run melu` measures it. It moves all weights; the authors train an adapter (`melu@lora`).

Names: "direct" leaves the indirect rows out, "indirect" leaves the direct rows out; both keep the general ones.
A row says what it is in `relation` (or `type`) and whose neighbour in `neighbour_of`; a row that says neither is a
direct neighbour of the subjects that it mentions, and general if it mentions none.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from letheon.core.errors import InputError
from letheon.core.registry import Checked, method
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.forget.parts import PairIndices, Sampler
from letheon.forget.request import Request
from letheon.forget.samplers.cyclic import Cyclic
from letheon.forget.samplers.paired import Paired

logger = logging.getLogger("letheon")

Scheme = Literal["melu", "1_1seq", "1_1random", "cyclic", "direct", "indirect", "balanced"]
Met = tuple[int, int]  # a forget row and the retain row beside it
KEPT = {"direct": ("direct", "general"), "indirect": ("indirect", "general")}


@dataclass(frozen=True)
class Settings(Checked):
    scheme: Scheme = "melu"
    # False: modules one after another. True: pairs in a new order each epoch, as the authors' trainer has it by
    # default [inferred: that it was left on]; which rows meet stays the same.
    shuffle: bool = False


@dataclass(frozen=True)
class Neighbourhood:
    """The relation of retain rows to the entities to forget.

    Attributes:
        entities: subjects of the forget rows, in order of appearance.
        relations: of each retain row: `direct`, `indirect` or `general`.
        owners: of each retain row, the entities it is a neighbour of. A general row, or an indirect one that names
            nobody (the forget set is one domain), has none and is everyone's; a direct one without is nobody's.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    owners: tuple[frozenset[str], ...]

    def allows(self, entity: str, retain: int) -> bool:
        """Whether a retain row may be paired with a forget row of an entity."""
        return entity in self.owners[retain] or self.is_everyones(retain)

    def is_everyones(self, retain: int) -> bool:
        """Whether a retain row belongs to no entity in particular."""
        return not self.owners[retain] and self.relations[retain] != "direct"


def neighbourhood(request: Request) -> Neighbourhood:
    """Read or infer each retain row's relation to the entities."""
    entities = tuple(dict.fromkeys(row.subject for row in request.forget if row.subject))
    names = {entity: re.compile(rf"(?<!\w){re.escape(entity)}(?!\w)", re.IGNORECASE) for entity in entities}
    read = [_relation(row, names) for row in request.retain]
    strangers = sum(row.neighbour_of is not None and row.neighbour_of not in names for row in request.retain)
    if strangers:
        logger.warning("%d retain rows are neighbours of nobody in this request: they count as general", strangers)
    return Neighbourhood(entities, tuple(kind for kind, _ in read), tuple(owners for _, owners in read))


def _relation(row: Example, names: Mapping[str, re.Pattern[str]]) -> tuple[str, frozenset[str]]:
    if row.neighbour_of is not None:
        known = row.neighbour_of in names and row.relation != "general"
        return (row.relation or "direct", frozenset({row.neighbour_of})) if known else ("general", frozenset())
    if row.relation in ("indirect", "general"):
        return row.relation, frozenset()
    text = f"{row.prompt}\n{row.answer}"
    mentioned = frozenset(entity for entity, name in names.items() if name.search(text))
    if row.relation == "direct" and len(names) == 1:
        mentioned = frozenset(names)
    return ("direct" if mentioned or row.relation else "general"), mentioned


def modules(request: Request) -> dict[str, list[Met]]:
    """Pair rows for one epoch of MELU, entity by entity: its forget rows with its neighbours, direct ones first.

    Raises:
        InputError: a forget row without a subject, a direct neighbour of nobody, or an entity beside which no retain
            row may stand.
    """
    for row in request.forget:
        if not row.subject:
            raise InputError(f"melu groups rows by subject, forget row {row.id} has none", "add subjects to the rows")
    around = neighbourhood(request)
    for row, relation, owners in zip(request.retain, around.relations, around.owners, strict=True):
        if relation == "direct" and not owners:
            raise InputError(
                f"retain row {row.id} is a direct neighbour but mentions no subject of the forget rows",
                'say whose neighbour it is: "neighbour_of": SUBJECT',
            )
    own = _own_rows(around)
    return {
        entity: _cycled(request, [i for i, row in enumerate(request.forget) if row.subject == entity], own[entity])
        for entity in around.entities
    }


def _own_rows(around: Neighbourhood) -> dict[str, list[int]]:
    """R_e of each entity: its direct neighbours, its indirect ones, then its share of what belongs to everyone."""
    own: dict[str, list[int]] = {entity: [] for entity in around.entities}
    for relation in ("direct", "indirect"):
        for entity in around.entities:
            rows = [i for i, kind in enumerate(around.relations) if kind == relation]
            own[entity] += [i for i in rows if entity in around.owners[i]]
    for relation in ("indirect", "general"):
        shared = [i for i, kind in enumerate(around.relations) if kind == relation and not around.owners[i]]
        for place, entity in enumerate(around.entities):
            own[entity] += shared[place :: len(around.entities)]
    everyones = [i for i in range(len(around.owners)) if around.is_everyones(i)]
    for place, entity in enumerate(around.entities):
        if not own[entity] and not everyones:
            raise InputError(f"no retain row is a neighbour of {entity!r}, and none is general", "add some of either")
        own[entity] = own[entity] or [everyones[place % len(everyones)]]
    return own


def pair_table(request: Request, scheme: Scheme, seed: int = 0) -> list[Met]:
    """The pairs of one epoch under a scheme without new draws (all but `1_1random`)."""
    everything, retain = list(range(len(request.forget))), list(range(len(request.retain)))
    if scheme == "melu":
        return [pair for module in modules(request).values() for pair in module]
    if scheme == "1_1seq":
        return _cycled(request, everything, retain[: len(everything)], len(everything))
    return _cycled(request, everything, retain if scheme == "cyclic" else _chosen(request, scheme, seed))


def _chosen(request: Request, scheme: Scheme, seed: int) -> list[int]:
    """Retain rows of `direct`, `indirect` or `balanced`, in file order."""
    relations = neighbourhood(request).relations
    by_relation = {name: [i for i, kind in enumerate(relations) if kind == name] for name in dict.fromkeys(relations)}
    if scheme in KEPT:
        rows = [i for name in KEPT[scheme] for i in by_relation.get(name, [])]
        if not rows:
            found = ", ".join(f"{len(rows)} {name}" for name, rows in by_relation.items())
            raise InputError(f"scheme {scheme} finds no row among {found}", "give rows of that relation, or general")
        return sorted(rows)
    generator = torch.Generator().manual_seed(stream_seed(seed, "balanced retain rows"))
    size = min(map(len, by_relation.values()))
    drawn = [torch.randperm(len(rows), generator=generator)[:size].tolist() for rows in by_relation.values()]
    return sorted(rows[i] for rows, places in zip(by_relation.values(), drawn, strict=True) for i in places)


def _cycled(request: Request, forget: Sequence[int], retain: Sequence[int], length: int = 0) -> list[Met]:
    """Pairs of some forget with some retain rows, the shorter list cycled; as long as the longer one."""
    part = Request(tuple(request.forget[i] for i in forget), tuple(request.retain[i] for i in retain), id=request.id)
    plan = Cyclic().plan(part, 1, length or max(len(forget), len(retain)), 0)
    return [(forget[met[0]], retain[kept[0]]) for met, kept in plan]


@method(
    "sampler",
    "modular",
    Settings,
    paper="2509.05316",
    needs={"retain"},
    wants={"subject"},
    recipes={"melu": "npo%modular:shuffle=true"},
    recommended={"epochs": 4, "learning_rate": 2e-5, "weight_decay": 0.01, "schedule": "linear"},
    tiny=({}, {"scheme": "balanced"}),
    seeded=False,
)
class Modular(Sampler):
    settings: Settings

    def epoch(self, request: Request) -> int:
        """|F| for the one-to-one schemes, max(|F|, |R|) for the cyclic ones, the sum over modules for melu."""
        if self.settings.scheme == "1_1random":
            return Paired().epoch(request)
        return len(pair_table(request, self.settings.scheme))

    def plan(self, request: Request, batch_size: int, steps: int, seed: int) -> list[PairIndices]:
        """Batches of pairs, row i of one half beside row i of the other; an epoch's last batch may be short.

        A batch may hold the end of one module and the start of the next: pairs are never taken apart.
        """
        if self.settings.scheme == "1_1random":  # always shuffled: its retain row is drawn at every visit
            return Paired().plan(request, batch_size, steps, seed)
        table, plan, epoch = pair_table(request, self.settings.scheme, seed), list[PairIndices](), 0
        while len(plan) < steps:
            pairs = self._order(table, stream_seed(seed, "modules", epoch))
            parts = [pairs[i : i + batch_size] for i in range(0, len(pairs), batch_size)]
            plan += [([met for met, _ in part], [kept for _, kept in part]) for part in parts]
            epoch += 1
        return plan[:steps]

    def report(self, request: Request, plan: Sequence[PairIndices]) -> dict[str, Any]:
        found = exposure(request, plan)
        together = {f"{entity} with {other}": count for (entity, other), count in found.together.items()}
        return {**dataclasses.asdict(found), "together": together}

    def _order(self, table: list[Met], seed: int) -> list[Met]:
        if not self.settings.shuffle:
            return table
        generator = torch.Generator().manual_seed(seed)
        return [table[i] for i in torch.randperm(len(table), generator=generator).tolist()]


@dataclass(frozen=True)
class Exposure:
    """How often a plan pairs rows.

    Attributes:
        forget, retain: how often each row is met.
        relations: relation -> how many of its rows there are (`rows`), how many are never met (`unseen`), how often
            they are met in all (`meetings`).
        together: (entity, entity or relation) -> how often a forget row of the first meets a retain row that is a
            neighbour of the second, or that is everyone's.
        beside_own: share of the meetings in which the retain row is a neighbour of the forget row's entity, or
            everyone's; 1 under melu.
    """

    forget: list[int]
    retain: list[int]
    relations: dict[str, dict[str, int]]
    together: dict[tuple[str, str], int]
    beside_own: float


def exposure(request: Request, plan: Sequence[PairIndices]) -> Exposure:
    """Report the exposure of a plan whose two halves are paired row by row."""
    around = neighbourhood(request)
    pairs = [pair for met, kept in plan for pair in zip(met, kept, strict=True)]
    entity_of = [row.subject or "" for row in request.forget]
    met, kept = Counter(row for row, _ in pairs), Counter(row for _, row in pairs)
    relations = {}
    for relation in dict.fromkeys(around.relations):
        counts = [kept[i] for i, kind in enumerate(around.relations) if kind == relation]
        relations[relation] = {"rows": len(counts), "unseen": counts.count(0), "meetings": sum(counts)}
    together: Counter[tuple[str, str]] = Counter()
    for row, beside in pairs:
        owners = around.owners[beside] or frozenset({around.relations[beside]})
        together.update((entity_of[row], owner) for owner in owners)
    own = sum(around.allows(entity_of[row], beside) for row, beside in pairs)
    return Exposure(
        forget=[met[i] for i in range(len(request.forget))],
        retain=[kept[i] for i in range(len(request.retain))],
        relations=relations,
        together=dict(together),
        beside_own=own / max(len(pairs), 1),
    )
