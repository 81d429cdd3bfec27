"""The process of one task (`letheon.core.parallel`): read the task, call its function, answer with one JSON object.

Whatever the function prints goes to standard error. When standard input ends, the process that started this one is
gone, and this one ends at once; run folders survive that.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from typing import Any

from letheon.core.errors import LetheonError
from letheon.core.progress import be_quiet


def main() -> None:
    """Do the task that standard input names."""
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    be_quiet(task["quiet"])
    code = 0
    try:
        said: dict[str, Any] = {"value": call(task["function"], task["arguments"])}
    except LetheonError as error:
        said, code = {"problem": error.problem, "remedy": error.remedy}, error.exit_code
    answer.write(json.dumps(said))
    answer.close()
    sys.exit(code)


def call(function: str, arguments: dict[str, Any]) -> Any:
    """Call the function that `module:name` names."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments)


def _end_with_the_caller() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
