"""Where data sets lie that a paper needs and the package cannot carry: in the folder that LETHEON_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

from letheon.core.errors import InputError


def data_folder(name: str, get: str) -> Path:
    """The folder of a data set.

    Args:
        name: of the data set's own folder in the one that LETHEON_DATA names.
        get: where to get it, and what shall be in the folder.

    Raises:
        InputError: it is not there; says what was looked for and where to get it.
    """
    root = os.environ.get("LETHEON_DATA", "")
    if not root:
        raise InputError(
            f"this needs the data set {name!r}, and the environment variable LETHEON_DATA is not set",
            f"{get}; then set LETHEON_DATA to the folder that {name!r} lies in",
        )
    folder = Path(root) / name
    if not folder.is_dir():
        raise InputError(f"this needs the data set {name!r}, and {folder} is not there", get)
    return folder
