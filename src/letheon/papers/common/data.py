"""Finds data sets that the package does not contain, in the folder that the variable LETHEON_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

from letheon.core.errors import InputError


def data_folder(name: str, get: str) -> Path:
    """The folder of a data set.

    Args:
        name: name of the data set's folder within the folder that LETHEON_DATA names.
        get: where to get the data set, and which files the folder must have.

    Raises:
        InputError: LETHEON_DATA is not set, or the folder does not exist.
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
