"""The verbs of the command line, in the order of the help, and how a verb's file is found.

A verb has three files of its name: `cli/VERB.py` holds its options, `jobs/VERB.py` its plan and its work,
`printing/VERB.py` shows the result. The docstring of `cli/VERB.py` is the help of the verb; its object with the
verb's name is the command. A new verb is its files and its name here.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING

import typer.main

if TYPE_CHECKING:
    from typer.core import TyperCommand, TyperGroup

# heading in the help -> verbs
VERBS = {
    "Forget, and show that it is forgotten": (
        "demo",
        "forget",
        "audit",
        "report",
        "compare",
        "baselines",
        "sisa",
        "prune-images",
        "selftest",
        "spillover",
    ),
    "Remember conversations": ("chat", "memory", "serve"),
    "Steer without training": ("steer",),
    "Look inside a model": ("probe",),
    "Benchmarks and papers": ("bench", "measure", "papers", "page"),
    "The record of deletion requests": ("ledger",),
    "Learn without forgetting": ("learn", "compare-strategies"),
    "Methods, and this installation": ("methods", "new", "doctor", "version"),
}


def load_verb(verb: str) -> TyperCommand | TyperGroup:
    """Import a verb's file and return its command."""
    command = typer.main.get_command(getattr(import_module(f"letheon.cli.{_name(verb)}"), _name(verb)))
    command.name = verb
    return command  # type: ignore[return-value]


@cache
def help_of(verb: str) -> str:
    """Read a verb's help from its file's docstring without importing it, so that the list of verbs loads nothing."""
    source = (files("letheon.cli") / f"{_name(verb)}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


def _name(verb: str) -> str:
    return verb.replace("-", "_")
