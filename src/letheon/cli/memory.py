"""A memory for conversations: one file that stores, finds again, and erases completely.

letheon memory add me.sqlite "The meeting is on Friday."; letheon chat smollm2 --memory me.sqlite
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.shared import Json, exit_with
from letheon.core.errors import InputError, LetheonError
from letheon.core.progress import be_quiet
from letheon.printing.cells import show_facts
from letheon.recall.exchange_formats import Shape
from letheon.recall.ranking import Search

memory = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

File = Annotated[Path, typer.Argument(help="The memory file.")]
Subject = Annotated[str | None, typer.Option(help="The person or thing that it is about.")]
Embedder = Annotated[
    str, typer.Option(help="minilm, words, model:NAME or a folder; by default the file's own, minilm for a new file.")
]


@memory.command()
def add(
    file: File,
    text: Annotated[str, typer.Argument(help="What is to be remembered.")],
    subject: Subject = None,
    embedder: Embedder = "",
    as_json: Json = False,
) -> None:
    """Store a note.

    letheon memory add me.sqlite "Ilse's meeting is on Friday." --subject Ilse
    """
    from letheon.jobs.memory import add_note

    show_facts(add_note(file, text, subject, embedder), as_json)


@memory.command()
def search(
    file: File,
    query: Annotated[str, typer.Argument(help="What is looked for.")],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Number of memories.")] = 10,
    by: Annotated[Search, typer.Option(help="Rank by meaning, by words, or by both.")] = "fused",
    as_json: Json = False,
) -> None:
    """Find memories by meaning and words.

    letheon memory search me.sqlite "when do we meet?"
    """
    from letheon.jobs.memory import search_file
    from letheon.printing.memory import show_entries

    show_entries(search_file(file, query, k, by), as_json)


@memory.command("list")
def list_entries(file: File, subject: Subject = None, as_json: Json = False) -> None:
    """List all memories, or those about a subject.

    letheon memory list me.sqlite --subject Ilse
    """
    from letheon.jobs.memory import list_file
    from letheon.printing.memory import show_entries

    show_entries(list_file(file, subject), as_json)


@memory.command()
def forget(
    file: File,
    subject: Annotated[str | None, typer.Option(help="Erase what is about, or names, this person or thing.")] = None,
    query: Annotated[str | None, typer.Option(help="Erase the best match of a query; with --yes.")] = None,
    ids: Annotated[
        list[int] | None, typer.Option("--id", help="Erase a memory by its number; may be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase the match of --query, not only show it.")] = False,
    and_model: Annotated[
        str, typer.Option(help="A model that forgets the same, with the default method; it is audited.")
    ] = "",
    retain: Annotated[str, typer.Option(help="With --and-model, rows to keep; auto lets the model write its own.")] = (
        "auto"
    ),
    out: Annotated[Path, typer.Option(help="With --and-model, the folder of the run.")] = Path("run"),
    ledger: Annotated[
        str, typer.Option(envvar="LETHEON_LEDGER", show_envvar=False, help="Folder of a ledger that gets an entry.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Erase memories with everything derived from them, and search the raw file for what is left.

    An erasure of the file that was cut short is completed first; a ledger then gets an entry of it.

    letheon memory forget me.sqlite --subject Ilse

    letheon memory forget me.sqlite --subject Ilse --and-model my-model/ --out run/
    """
    from letheon.jobs.memory import complete_erasure, finds, forget_in_file, matches_in_file
    from letheon.printing.memory import show_completed, show_entries, show_erasure

    completed = complete_erasure(file)
    if ledger:
        from letheon.jobs.memory_forget import enter_completed

        enter_completed(file, ledger)
    if completed:
        more = finds(file, subject, query, ids)
        show_completed(file, more, as_json)
        if not more:
            return
    if query is not None and not yes and subject is None and not ids:
        show_entries(matches_in_file(file, query), as_json)
        raise InputError("nothing is erased yet: this is the query's match", "give --yes to erase it")
    if not (and_model or ledger):
        proof = forget_in_file(file, subject, query, ids)
        show_erasure(proof, as_json)
        record = None
    else:  # loads what trains and audits models
        from letheon.jobs.memory_forget import MemoryForgetJob, Model
        from letheon.printing.memory_forget import show_both

        be_quiet(as_json)
        model = Model(and_model, retain, out)
        done = MemoryForgetJob(file, subject, query, tuple(ids or ()), model, ledger).work()
        show_both(done, as_json)
        proof, record = done.proof, done.forgotten and done.forgotten.record
    if not proof.proven:
        raise typer.Exit(LetheonError.exit_code)
    exit_with(record)


@memory.command()
def reindex(
    file: File, embedder: Annotated[str, typer.Option(help="minilm, words, model:NAME or a folder.")] = "minilm",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compute all vectors anew with another embedder.

    letheon memory reindex me.sqlite --embedder minilm
    """
    from letheon.jobs.memory import reindex_file

    show_facts(reindex_file(file, embedder), as_json)


@memory.command("import")
def import_entries(
    file: File,
    source: Annotated[Path, typer.Argument(help="JSON Lines of Letheon, Mem0 or LangChain.")],
    embedder: Embedder = "",
    own: Annotated[
        bool, typer.Option("--own", help="The file is your own export: sessions keep their names, rules hold again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Store the memories of a file in sessions of their own; a broken line stores none.

    letheon memory import me.sqlite memories.jsonl
    """
    from letheon.jobs.memory import import_file

    show_facts(import_file(file, source, embedder, own), as_json)


@memory.command()
def export(
    file: File,
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    shape: Annotated[Shape, typer.Option(help="All fields, Mem0's shape or LangChain's.")] = "letheon",
    as_json: Json = False,
) -> None:
    """Write all memories as JSON Lines.

    letheon memory export me.sqlite memories.jsonl
    """
    from letheon.jobs.memory import export_file

    show_facts(export_file(file, out, shape), as_json)
