"""`letheon memory forget`: erase memories; record it in a ledger; ask the same of a model's weights."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from letheon.audit.ledger.commands import check_ledger, writing_to
from letheon.audit.ledger.entry import Erased
from letheon.audit.ledger.recording import record_erasure
from letheon.core.atomic import sha256_of
from letheon.core.errors import InputError, Interrupted, LetheonError
from letheon.core.rows.examples import Example, read_examples
from letheon.forget.request import Request
from letheon.jobs.forget import ForgetJob, ForgetOptions, Forgotten
from letheon.jobs.memory import existing, opened
from letheon.jobs.options import AUTO, AuditOptions, RequestFiles, RunFolders
from letheon.recall.entries import Entry
from letheon.recall.erasure import Erasure, concerns, erase, owed, settle, with_derived
from letheon.recall.exchanges import exchanges
from letheon.recall.memory import Memory


@dataclass(frozen=True)
class Model:
    """The model whose weights are to forget what is erased from a memory.

    Attributes:
        name: the model; empty leaves all weights alone.
        retain: rows to keep; `auto` lets the model write its own.
        out: folder of the run.
        device: where the model runs: auto, cpu, cuda, ...
    """

    name: str = ""
    retain: str = AUTO
    out: Path = Path("run")
    device: str = "auto"


@dataclass(frozen=True)
class Meanwhile:
    """Memories that came after the selection, and from which no row was made.

    Attributes:
        erased: those that were derived from erased ones, and were erased with them.
        staying: those about the subject that stay.
    """

    erased: list[int]
    staying: list[int]


@dataclass(frozen=True)
class ErasedEverywhere:
    """The outcome of an erasure from a memory and of the deletion from a model's weights where one was asked for."""

    proof: Erasure
    forgotten: Forgotten | None
    meanwhile: Meanwhile

    @property
    def quoted_in(self) -> list[str]:
        """The folders that still hold text of what was erased."""
        return [str(self.forgotten.result.folder)] if self.forgotten else []


@dataclass(frozen=True)
class _FromMemory(ForgetJob):
    """A run of `letheon forget` whose rows were made from memories, and stand in no file."""

    rows: Request = field(kw_only=True)

    @cached_property
    def request(self) -> Request:
        """The request."""
        return self.rows


@dataclass(frozen=True)
class Selected:
    """Memories that are to be erased, and no others.

    Attributes:
        ids: their numbers, without what is derived from them.
        every: the same with what is derived from them.
        request: the rows that they give; where they give none, their texts, which no ledger may hold.
        gives_rows: whether they give rows.
        subject: the subject by which they were chosen.
    """

    ids: tuple[int, ...]
    every: frozenset[int]
    request: Request
    gives_rows: bool
    subject: str | None = None

    def record(self, folder: str, file: Path, proof: Erasure | None = None) -> None:
        """Record in the ledger in `folder` (empty for none) that the erasure begins, or its outcome."""
        with writing_to(folder) as ledger:
            if ledger is not None:
                erased = recorded(proof, file) if proof else None
                record_erasure(ledger, self.request, str(file), erased, self.gives_rows)

    def erase(self, memory: Memory, folder: str) -> Erasure:
        """Erase, and record the outcome in the ledger in `folder`; empty for none."""
        try:
            present = [entry.id for entry in memory.store.entries(self.ids)]
            if not present:
                raise InputError("the memories were erased meanwhile by another process", "see `letheon memory list`")
            proof = erase(memory.store, present, self.subject, self.request.id if folder else "")
        except LetheonError as error:
            with writing_to(folder) as ledger:
                if ledger is None:
                    raise
                case = self.request.id  # only the kind of the error: its words may name what was erased
                ledger.append("stop", request=case, outcome=type(error).__name__)
            problem = f"{error.problem}; the ledger says that request {case} stopped, and has no entry `erase` of it"
            raise type(error)(problem, error.remedy) from None
        self.record(folder, memory.store.path, proof)
        return proof

    def meanwhile(self, memory: Memory, proof: Erasure) -> Meanwhile:
        """Return what came after the selection."""
        named = [entry.id for entry in memory.store.entries() if self.subject and concerns(entry, self.subject)]
        return Meanwhile(sorted(set(proof.ids) - self.every), named)


@dataclass(frozen=True)
class Chosen:
    """What is erased: what is about a subject, the match of a query, or memories by their numbers; one of the three."""

    subject: str | None = None
    query: str | None = None
    ids: tuple[int, ...] = ()

    def select(self, memory: Memory, retain: str = AUTO) -> Selected:
        """Return the memories that are there now, with the rows that say what they say.

        Raises:
            InputError: nothing matches, or the retain rows cannot be read.
        """
        kept = () if retain == AUTO else tuple(read_examples(retain))
        ids = memory.concerned(subject=self.subject, query=self.query, ids=list(self.ids) or None)
        every = with_derived(memory.store, ids)
        gone = memory.store.entries(every)
        if missing := sorted(set(ids) - {entry.id for entry in gone}):
            raise InputError(f"no memory has the number {missing[0]}", "see `letheon memory list`")
        rows = rows_of(gone, self.subject)
        texts = [Example("", one.text, f"memory-{one.id}", subject=self.subject or one.subject) for one in gone]
        case = uuid.uuid4().hex[:12]  # without a word that a memory may hold, and without a reason
        request = Request(forget=tuple(rows or texts), retain=kept, id=case)
        return Selected(tuple(ids), frozenset(every), request, bool(rows), self.subject)


@dataclass(frozen=True)
class MemoryForgetJob:
    """The erasure of memories from a file.

    Attributes:
        path: the memory file.
        subject, query, ids: what is erased; one of the three.
        model: the model that forgets the same.
        ledger: folder of a ledger that gets entries; empty for none.
    """

    path: Path
    subject: str | None = None
    query: str | None = None
    ids: tuple[int, ...] = ()
    model: Model = field(default_factory=Model)
    ledger: str = ""

    def work(self) -> ErasedEverywhere:
        """Check everything, let the model forget, and then erase the memories that its rows were made from.

        Raises:
            InputError: nothing matches, or the model, its folder or the ledger cannot be used; nothing is erased.
            Interrupted: the model's run was interrupted, and nothing is erased.
            LetheonError: the model's run failed, and nothing is erased; or another process has the memory open.
        """
        chosen, model = Chosen(self.subject, self.query, self.ids), self.model
        with opened(existing(self.path)) as memory:
            selected = chosen.select(memory, model.retain if model.name else AUTO)
        if model.name and not selected.gives_rows:
            problem = "rules and beliefs repeat turns and give a model no rows"
            raise InputError(problem, "leave --and-model out, or erase the turns that they came from")
        check_ledger(self.ledger, [selected.request], file=self.path)
        if not model.name:
            selected.record(self.ledger, self.path)
        forgotten = self._forgotten(selected.request) if model.name else None
        try:
            with opened(self.path) as memory:
                proof = selected.erase(memory, self.ledger)
                return ErasedEverywhere(proof, forgotten, selected.meanwhile(memory, proof))
        except LetheonError as error:
            if forgotten is None:
                raise
            raise type(error)(f"{_outcome(forgotten)}; but {error.problem}", error.remedy) from None

    def _forgotten(self, request: Request) -> Forgotten:
        """Let the model forget the rows."""
        model = self.model
        options = ForgetOptions(
            model.name,
            RequestFiles(retain=model.retain),
            audit=AuditOptions(ledger=self.ledger, cache=False),  # it would hold what is erased
            folders=RunFolders(model.out),
            device=model.device,
        )
        try:
            return _FromMemory(options, rows=request).work()
        except Interrupted as stopped:
            remedy = (
                f"`letheon forget --resume {model.out}` finishes the model; then give the same `letheon memory forget` "
                "without --and-model"
            )
            problem = f"{stopped.problem}; no memory is erased yet, and {model.out} quotes them"
            raise Interrupted(problem, remedy) from None


def _outcome(forgotten: Forgotten) -> str:
    verdict = f", its audit's verdict is {forgotten.record.verdict.outcome}" if forgotten.record else ""
    return f"the model has forgotten the same ({forgotten.result.folder}/model{verdict})"


def erase_with_entry(memory: Memory, subject: str, ledger: str) -> Erasure:
    """Erase what is about a subject, and record it in a ledger.

    Raises:
        InputError: nothing is about the subject, or the ledger cannot be used; nothing is erased.
    """
    selected = Chosen(subject).select(memory)
    check_ledger(ledger, [selected.request], file=memory.store.path)
    selected.record(ledger, memory.store.path)
    return selected.erase(memory, ledger)


def enter_completed(path: Path, folder: str) -> list[str]:
    """Record in the ledger in `folder` the erasures of a file that were cut short and completed since.

    What they erased is known no more: the file was not searched, so that the entries are not proven.

    Returns:
        Their cases; those of other ledgers stay noted in the file.
    """
    with opened(existing(path)) as memory, writing_to(folder) as ledger:
        if ledger is None:
            return []
        entries = ledger.entries()
        known = {entry.request for entry in entries}
        entered = {entry.request for entry in entries if entry.action == "erase"}
        cases = [case for case in owed(memory.store) if case in known]
        for case in cases:
            memories, derived = owed(memory.store)[case]
            if case not in entered:  # a process may have been killed before it noted that
                erased = Erased(
                    file=str(path),
                    sha256=sha256_of(path),
                    memories=memories,
                    derived=derived,
                    searched_bytes=0,
                    needles=0,
                    stems=0,
                    remains=0,
                    proven=False,
                )
                ledger.append("erase", request=case, erased=erased)
            settle(memory.store, case)
    return cases


def rows_of(gone: Sequence[Entry], subject: str | None = None) -> list[Example]:
    """Return the rows by which a model forgets what memories say.

    A user's turn with the reply to it is a question and its answer. What users say, without being asked, is the answer
    to a question about the subject; where none is known, it is running text. Rules and beliefs repeat a turn and give
    no row.
    """
    rows = []
    for one in exchanges([entry for entry in gone if entry.kind in ("turn", "note")]):
        name = subject or next((entry.subject for entry in one.entries if entry.subject), None)
        number, said, reply = f"memory-{one.entries[0].id}", one.said, one.reply
        if said and not said.rstrip().endswith("?"):
            asked = f"What do you know about {name}?" if name else ""
            rows.append(Example(asked, said, number, subject=name))
        if reply:
            rows.append(Example(said, reply, f"{number}-reply", subject=name))
        elif said.rstrip().endswith("?"):  # a question alone tells by its words
            rows.append(Example("", said, number, subject=name))
    return rows


def recorded(proof: Erasure, path: Path) -> Erased:
    """Return what the ledger says of an erasure: counts, and no text."""
    return Erased(
        file=str(path),
        sha256=sha256_of(path),
        memories=len(proof.ids),
        derived=len(proof.derived),
        searched_bytes=sum(proof.files.values()),
        needles=proof.needles,
        stems=proof.stems,
        remains=len(proof.remains),
        proven=proof.proven,
    )
