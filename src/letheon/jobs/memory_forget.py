"""`letheon memory forget`: erase memories; record it in a ledger; ask the same of a model's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.audit.ledger.commands import check_ledger, writing_to
from letheon.audit.ledger.entry import Erased
from letheon.audit.ledger.recording import record_erasure
from letheon.core.atomic import sha256_of
from letheon.core.errors import LetheonError
from letheon.core.rows.examples import Example, read_examples
from letheon.forget.request import Request
from letheon.jobs.forget import ForgetJob, ForgetOptions, Forgotten
from letheon.jobs.memory import existing, opened
from letheon.jobs.options import AUTO, AuditOptions, RequestFiles, RunFolders
from letheon.recall.entries import Entry
from letheon.recall.erasure import Erasure, with_derived
from letheon.recall.memory import Memory
from letheon.recall.policies import exchanges


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
class ErasedEverywhere:
    """The outcome of an erasure from a memory and of the deletion from a model's weights where one was asked for."""

    proof: Erasure
    forgotten: Forgotten | None

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
class Chosen:
    """What is erased: what is about a subject, the match of a query, or memories by their numbers; one of the three."""

    subject: str | None = None
    query: str | None = None
    ids: tuple[int, ...] = ()

    @property
    def words(self) -> dict[str, Any]:
        """The same as arguments of `Memory.forget`."""
        return {"subject": self.subject, "query": self.query, "ids": list(self.ids) or None}

    def request(self, memory: Memory, retain: str = AUTO) -> Request:
        """Return the request whose rows say what the memories say.

        Raises:
            InputError: nothing matches, or the retain rows cannot be read.
        """
        kept = () if retain == AUTO else tuple(read_examples(retain))
        gone = memory.store.entries(with_derived(memory.store, memory.concerned(**self.words)))
        return Request(forget=tuple(rows_of(gone, self.subject)), retain=kept, reason="erasure from a memory")

    def erase(self, memory: Memory, request: Request, folder: str) -> Erasure:
        """Erase, and record the outcome in the ledger in `folder`; empty for none."""
        try:
            proof = memory.forget(**self.words)
        except LetheonError as error:
            with writing_to(folder) as ledger:
                if ledger is not None:  # only the kind of the error: its words may name what was erased
                    ledger.append("stop", request=request.id, outcome=type(error).__name__)
            raise
        with writing_to(folder) as ledger:
            if ledger is not None:
                record_erasure(ledger, request, recorded(proof, memory.store.path))
        return proof


@dataclass(frozen=True)
class MemoryForgetJob:
    """The erasure of memories from a file.

    Attributes:
        path: the memory file.
        subject, query, ids: what is erased; one of the three.
        model: the model that forgets the same.
        ledger: folder of a ledger that gets an entry; empty for none.
    """

    path: Path
    subject: str | None = None
    query: str | None = None
    ids: tuple[int, ...] = ()
    model: Model = field(default_factory=Model)
    ledger: str = ""

    def work(self) -> ErasedEverywhere:
        """Check everything, let the model forget, and then erase the memories, whose rows are needed until then.

        Raises:
            InputError: nothing matches, or the model, its folder or the ledger cannot be used; nothing is erased.
            LetheonError: the model's run failed, and nothing is erased; or another process has the memory open.
        """
        chosen = Chosen(self.subject, self.query, self.ids)
        with opened(existing(self.path)) as memory:
            request = chosen.request(memory, self.model.retain if self.model.name else AUTO)
        check_ledger(self.ledger, [request], file=self.path)
        forgotten = self._forgetting(request).work() if self.model.name else None
        with opened(self.path) as memory:
            proof = chosen.erase(memory, request, self.ledger)
        return ErasedEverywhere(proof, forgotten)

    def _forgetting(self, request: Request) -> ForgetJob:
        model = self.model
        options = ForgetOptions(
            model.name,
            RequestFiles(retain=model.retain),
            audit=AuditOptions(ledger=self.ledger, cache=False),  # it would hold what is erased
            folders=RunFolders(model.out),
            device=model.device,
        )
        return _FromMemory(options, rows=request)


def erase_with_entry(memory: Memory, subject: str, ledger: str) -> Erasure:
    """Erase what is about a subject, and record it in a ledger.

    Raises:
        InputError: nothing is about the subject, or the ledger cannot be used; nothing is erased.
    """
    chosen = Chosen(subject)
    request = chosen.request(memory)
    check_ledger(ledger, [request], file=memory.store.path)
    return chosen.erase(memory, request, ledger)


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
