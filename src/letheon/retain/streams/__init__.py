"""The package's own streams, and reading a stream from a name or a file.

Imports retain and the packages below it.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from letheon.core.errors import InputError, nearest
from letheon.retain.stream import Scenario, Stream

NAMES = ("split-digits", "permuted-digits", "rotated-digits", "split-mnist=FILE", "stream.toml")


def read_stream(source: str | Path) -> Stream:
    """Read a stream by name (`split-digits`, `split-mnist=FILE`, with `/task` or `/domain` for the scenario) or file.

    Raises:
        InputError: no such name or file, or a fault in the file: names file, task and field.
    """
    from letheon.retain.streams import digits, images, mnist, texts

    text = str(source)
    if text.endswith(".toml"):
        content = texts.read_toml(Path(text))
        read = images.image_stream if "images" in content else texts.read_text_stream
        return read(Path(text), content)
    head, _, path = text.partition("=")
    name, _, given = head.partition("/")
    scenario = next((one for one in get_args(Scenario) if one == given), None)
    if given and scenario is None:
        raise InputError(f"stream {text!r}: scenario {given!r}", "write class, task or domain after the slash")
    makers = {
        "split-digits": lambda: digits.split_digits(scenario=scenario or "class"),
        "permuted-digits": lambda: digits.permuted_digits(),
        "rotated-digits": lambda: digits.rotated_digits(),
        "split-mnist": lambda: mnist.split_mnist(path, scenario=scenario or "class"),
    }
    if name not in makers:
        raise InputError(f"no stream is called {name!r}", nearest(name, list(NAMES)))
    if (name == "split-mnist") != bool(path):
        raise InputError(f"stream {text!r}", "only split-mnist takes a file, and it needs one: split-mnist=FILE")
    if scenario and name in ("permuted-digits", "rotated-digits") and scenario != "domain":
        raise InputError(f"stream {text!r}: every task has all classes", f"write {name}, which is domain-incremental")
    return makers[name]()
