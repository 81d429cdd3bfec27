"""The command line: one verb a job; parse, call the library, print. No logic lives here.

A file holds the commands of one job; importing it registers them.
"""

from importlib import import_module

from letheon.cli.app import app, main

__all__ = ["app", "main"]

# In the order in which the help lists their commands.
JOBS = (
    "forgetting",
    "auditing",
    "reporting",
    "spillover",
    "bench",
    "ledger",
    "derivatives",
    "learning",
    "papers",
    "new",
    "about",
)
for job in JOBS:
    import_module(f"letheon.cli.{job}")
