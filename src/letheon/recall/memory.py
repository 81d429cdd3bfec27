"""`Memory`: observe a conversation, build the context of the next answer, find memories again, erase them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from letheon.core.errors import InputError
from letheon.core.model.control_tokens import defused
from letheon.recall.embedders import Cached, Embedder, load_embedder
from letheon.recall.entries import Entry
from letheon.recall.erasure import Erasure, concerns, erase
from letheon.recall.instructions import Recogniser, RuleHead, standing_rules
from letheon.recall.lifelong.memory import record_uses
from letheon.recall.policies import Name, Placed, Settings, choose, fit
from letheon.recall.quoting import FENCE, Shown, fenced
from letheon.recall.ranking import Search, search
from letheon.recall.rule_attributes import attribute, attribute_of, in_force, is_form
from letheon.recall.store import Store

MOST_OTHER = 8  # standing rules without a known attribute that are shown, the newest
HELD = 4096  # texts whose vectors are held: questions are stored as turns, replies are shortened at every turn anew
LEAST = 0.3  # cosine from which a query names what is to be erased


@dataclass(frozen=True)
class Context:
    """The messages for the next answer, and how they were chosen.

    Attributes:
        messages: chat messages, `{"role": ..., "content": ...}`; the query is the last one.
        plan: the exchanges that the policy chose, the oldest first, with their treatment and the reason for it; those
            that the budget is far from reaching are not among them.
        left_out: number of exchanges of the memory that are not shown.
        omitted: rules and wishes in force that are not shown: older ones without a known attribute, and wishes for
            which the budget has no room.
        tokens: number of tokens of the messages' contents.
        sources: ids of the memories that the messages show; a reply to them is derived from these.
    """

    messages: list[dict[str, str]]
    plan: list[Placed]
    tokens: int
    left_out: int = 0
    sources: tuple[int, ...] = ()
    omitted: tuple[Entry, ...] = ()


class Memory:
    """The memory of a chat model, in one file.

    Args:
        path: the file; it is made if it does not exist.
        embedder: an embedder or its name (`minilm`, `words`, `model:NAME`, a folder).
        policy: which earlier exchanges the model sees.
        session: name of the present conversation.
        settings: options of the policy.
        count: number of tokens of a text; by default an estimate.
        marks: control tokens of the model, which are made harmless in every text that it is shown.
        recognise: tells standing rules from other sentences; by default `RuleHead` with the memory's embedder.

    Raises:
        InputError: the file is no memory, or holds vectors of another embedder.
    """

    def __init__(
        self,
        path: str | Path,
        embedder: str | Embedder = "minilm",
        policy: Name = "rhea",
        session: str = "",
        settings: Settings | None = None,
        count: Callable[[str], int] | None = None,
        marks: Sequence[str] = (),
        recognise: Recogniser | None = None,
    ) -> None:
        self._embedder = None if isinstance(embedder, str) else Cached(embedder, HELD)
        name, width = (embedder, 0) if isinstance(embedder, str) else (embedder.name, embedder.width)
        if self._embedder is None:  # an existing file is listed and erased from without its embedder
            width = int(Store.facts(Path(path))["width"]) if Path(path).is_file() else self._load(name).width
        self.store = Store(Path(path), name, width)
        self.policy, self.session, self.settings, self.marks = policy, session, settings or Settings(), marks
        self.count, self.recognise = count or estimated_tokens, recognise

    def _load(self, name: str) -> Cached:
        self._embedder = Cached(load_embedder(name), HELD)
        return self._embedder

    @property
    def embedder(self) -> Embedder:
        """The embedder, which is loaded when the first text is embedded.

        Raises:
            InputError: it is missing, or its vectors have another width than those of the file.
        """
        embedder = self._embedder or self._load(self.store.about()["embedder"])
        if embedder.width != self.store.width:
            problem = (
                f"{embedder.name} makes vectors of width {embedder.width}, {self.store.path} holds {self.store.width}"
            )
            raise InputError(problem, "give the embedder as it was, or run `letheon memory reindex`")
        return embedder

    def in_session(self, session: str) -> Memory:
        """Return this memory, with the same open file, for another conversation."""
        other = copy(self)
        other.session = session
        return other

    def observe(
        self,
        text: str,
        role: str = "user",
        subject: str | None = None,
        now: float | None = None,
        sources: Sequence[int] | None = None,
    ) -> int:
        """Store a turn of the present conversation and, from a user's, its standing rules; return its number.

        Args:
            text: what was said.
            role: who said it.
            subject: the person or thing that it is about.
            now: seconds since 1970; by default the present.
            sources: ids of the memories from which the turn was made, which it is erased with: those that a model was
                shown before it replied. By default a reply has the reply before it and what was stored since
                then as its sources, and so, through that one, everything earlier in its conversation.

        Raises:
            SourceErased: a source is not in the file any more.
        """
        if sources is None:
            sources = self._answered() if role == "assistant" else ()
        turn = Entry(text, role, "turn", self.session, subject, _clock(now), sources=tuple(sources))
        return self._add([turn, *self._rules(turn, 1)])[0]

    def _answered(self) -> list[int]:
        """Return the ids of the session's last reply and of the turns and notes after it."""
        table = self.store.table()
        said = np.flatnonzero(table.has("session", self.session) & table.has("kind", "turn", "note"))
        replies = np.flatnonzero(table.has("role", "assistant")[said])
        return table.ids[said[replies[-1] if len(replies) else 0 :]].tolist()

    def remember(self, text: str, subject: str | None = None, now: float | None = None) -> int:
        """Store a note and return its number."""
        return self._add([Entry(text, "user", "note", self.session, subject, _clock(now))])[0]

    def _add(self, entries: Sequence[Entry]) -> list[int]:
        return self.store.add(entries, self.embedder.embed([entry.text for entry in entries])) if entries else []

    def import_entries(self, entries: Sequence[Entry], rules: bool = False) -> list[int]:
        """Store many memories at once and return their numbers; a reply is derived from what its session said before.

        Args:
            entries: memories with their sessions; a source -n is the n-th of them. One without a time has the present.
            rules: also read standing rules from users' turns, which then hold in their sessions.
        """
        wanted: list[Entry] = []
        now = time.time()
        places: dict[int, int] = {}  # of an entry among those that are stored, from 1
        waiting: dict[str, list[int]] = {}
        for number, entry in enumerate(entries, start=1):
            place = places[number] = len(wanted) + 1
            sources = tuple(-places[-i] for i in entry.sources)
            if entry.kind in ("turn", "note"):
                before = waiting.setdefault(entry.session, [])
                if entry.role == "assistant":
                    sources = sources or tuple(before)
                    before.clear()
                before.append(-place)
            entry = replace(entry, sources=sources, created=entry.created or now)
            wanted.append(entry)
            if rules and entry.kind == "turn":
                wanted.extend(self._rules(entry, place))
        return self._add(wanted)

    def _rules(self, turn: Entry, place: int) -> list[Entry]:
        """Return the standing rules of a turn, derived from it; only users give any."""
        if turn.role != "user":
            return []
        given = standing_rules(turn.text, self.recognise or RuleHead(self.embedder))
        own = replace(turn, kind="instruction", sources=(-place,), id=0)
        return [replace(own, text=rule, details={"attribute": attribute_of(rule)}) for rule in given]

    def rules(self) -> list[Entry]:
        """Return the rules in force in the present conversation, the latest for each attribute, in their order."""
        return self._rules_and_wishes()[0]

    def wishes(self) -> list[Entry]:
        """Return rules of other conversations about the form of answers, but for what the present one settles."""
        return self._rules_and_wishes()[1]

    def _rules_and_wishes(self) -> tuple[list[Entry], list[Entry]]:
        table = self.store.table()
        every = self.store.entries(table.ids[table.has("kind", "instruction")].tolist())
        own = in_force([rule for rule in every if rule.session == self.session])
        settled = set(map(attribute, own))
        others = ((rule, attribute(rule)) for rule in in_force(every) if rule.session != self.session)
        return own, [rule for rule, about in others if is_form(about) and about not in settled]

    def search(self, query: str, k: int = 10, by: Search = "fused") -> list[tuple[Entry, float]]:
        """Return the k best memories for a query with their scores, best first."""
        ranked = search(self.store, self.embedder, query, k, by)
        entries = {entry.id: entry for entry in self.store.entries([number for number, _ in ranked])}
        return [(entries[number], score) for number, score in ranked if number in entries]  # else erased meanwhile

    def matches(self, query: str, k: int = 1) -> list[Entry]:
        """Return the memories that `forget` erases for a query: of the k best ones those with a cosine of `LEAST`."""
        cosine = dict(self.store.nearest(self.embedder.embed([query])[0], len(self.store)))
        return [entry for entry, _ in self.search(query, k) if cosine.get(entry.id, 0.0) >= LEAST]

    def context(self, query: str, budget: int = 2000, system: str = "") -> Context:
        """Build the messages for the next answer: standing rules, earlier exchanges in their order, the query.

        Exchanges of the present conversation are chat turns; those of others, notes, and other conversations' wishes
        are quoted between fences. The system prompt, the rules and the query are never dropped; of rules without a
        known attribute the last `MOST_OTHER` are shown. Wishes, the newest first, and then exchanges have what is left
        of the budget (tokens).

        The policy `lifelong` records in the file that the memories were shown, since unused ones become dormant.

        Raises:
            InputError: the query with the system prompt and the rules exceeds the budget.
        """
        safe = partial(defused, marks=self.marks)
        shown = Shown(self.session, safe, self.count, lambda: self.embedder)
        rules, wishes = self._rules_and_wishes()
        others = [rule for rule in rules if attribute(rule).startswith("other")][:-MOST_OTHER]
        rules = [rule for rule in rules if rule not in others]
        prefix = "\n".join(filter(None, [safe(system), *(safe(rule.text) for rule in rules)]))
        length, before = self.count(query), self.count(prefix) if prefix else 0
        if (left := budget - length - before) < 0:
            problem = f"a turn of {length} tokens with {before} of the system prompt and rules, the budget has {budget}"
            raise InputError(problem, "shorten it, raise the budget, or erase rules by their numbers")
        choice = choose(self.policy, self.store, self.embedder, query, self.settings)
        if wishes or not choice.outline.are_turns(self.session):
            left -= self.count(FENCE)
        quoted: list[str] = []
        asked, wishes = wishes, []
        for wish in reversed(asked):
            text = fenced(wish, safe(wish.text), "wish")
            if (cost := self.count(text)) <= left:
                quoted, wishes, left = [text, *quoted], [wish, *wishes], left - cost
        others += [wish for wish in asked if wish not in wishes]
        plan = fit(choice.placed, left, shown.cost, compressing=self.policy not in ("window", "full"))
        notes, turns, sources = quoted, [], [entry.id for entry in (*rules, *wishes)]
        for placed in plan:
            if placed.treatment != "left out":
                said, reply = shown.texts(placed)
                sources += [entry.id for entry in placed.exchange.entries]
                if shown.is_turn(placed.exchange):
                    turns += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
                else:
                    notes.append(said)
        if self.policy == "lifelong":
            record_uses(self.store, set(sources), time.time())
        parts = [prefix, *([FENCE, *notes] if notes else [])]
        head = [{"role": "system", "content": "\n".join(filter(None, parts))}] if any(parts) else []
        messages = [*head, *turns, {"role": "user", "content": safe(query)}]
        tokens = sum(self.count(message["content"]) for message in messages)
        left_out = len(choice.outline) - sum(placed.treatment != "left out" for placed in plan)
        return Context(messages, plan, tokens, left_out, tuple(sources), tuple(others))

    def concerned(
        self, *, ids: Sequence[int] | None = None, subject: str | None = None, query: str | None = None, k: int = 1
    ) -> list[int]:
        """Return the numbers of the memories that `forget` would erase, without what is derived from them.

        Args:
            ids: numbers of memories.
            subject: what is about this subject, or names it: in the text, as the speaker, in a detail or the session's
                name.
            query: the k best matches; those that are too far from it are none.

        Raises:
            InputError: not one of the three was given, or nothing matches.
        """
        if sum(given is not None for given in (ids, subject, query)) != 1:
            raise InputError("a subject, ids or a query say what is erased", "give one of the three")
        if subject is not None:
            ids = [entry.id for entry in self.store.entries() if concerns(entry, subject)]
        elif query is not None:
            ids = [entry.id for entry in self.matches(query, k)]
        if not ids:
            raise InputError(f"no memory is about {subject or query!r}", "see `letheon memory list`")
        return list(ids)

    def forget(
        self, *, ids: Sequence[int] | None = None, subject: str | None = None, query: str | None = None, k: int = 1
    ) -> Erasure:
        """Erase the memories that are `concerned` with everything derived from them, and prove it on the raw file.

        Raises:
            InputError: as `concerned` says.
        """
        erased = erase(self.store, self.concerned(ids=ids, subject=subject, query=query, k=k), subject)
        if self._embedder is not None:
            self._embedder.known.clear()  # the texts of the erased are held there too
        return erased

    def close(self) -> None:
        """Close the file."""
        self.store.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def reindex(path: Path, embedder: Embedder, batch: int = 256) -> int:
    """Store vectors of another embedder for all memories of a file; return their number.

    Memories that another process stores meanwhile are embedded as well; that process must then open the file again.
    """
    present = Store.facts(path)
    store = Store(path, present["embedder"], int(present["width"]))
    vectors: dict[int, NDArray[np.float32]] = {}
    while not store.replace_vectors(embedder.name, embedder.width, vectors):
        entries = [entry for entry in store.entries() if entry.id not in vectors]
        for i in range(0, len(entries), batch):
            part = entries[i : i + batch]
            vectors |= zip((e.id for e in part), embedder.embed([e.text for e in part]), strict=True)
    number = len(store)
    store.close()
    return number


def estimated_tokens(text: str) -> int:
    """Estimate the number of tokens: 4 for 3 words, and at least one for 6 bytes, for languages without spaces."""
    return max(-(-len(text.split()) * 4 // 3), -(-len(text.encode(errors="replace")) // 6))


def _clock(now: float | None) -> float:
    return time.time() if now is None else now
