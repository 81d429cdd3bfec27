"""Rows that a form sends: checked by the library's own reader, stored beside the runs and nowhere else."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import BinaryIO, NamedTuple

from letheon.core.errors import InputError
from letheon.core.rows.examples import read_examples

LARGEST = 5_000_000  # bytes of one file
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


class Rows(NamedTuple):
    """A stored file and the number of its rows."""

    file: Path
    number: int


def store_rows(folder: Path, kind: str, name: str, content: BinaryIO) -> Rows:
    """Store an uploaded file of rows under a name of this site's own.

    Args:
        folder: an existing folder.
        kind: `forget` or `retain`; the stored file's name.
        name: the name that the browser gives; only its ending is used.
        content: the bytes.

    Raises:
        InputError: the file is too large, has another ending, or a row is bad; the message names row and field.
    """
    suffix = Path(name.replace("\\", "/")).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"the {kind} rows: ending {suffix[:12]!r} is not known", f"upload {', '.join(SUFFIXES)}")
    data = content.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InputError(
            f"the {kind} rows have more than {LARGEST / 1e6:.0f} MB", "use the command line for such files"
        )
    file = folder / f"{kind}{suffix}"
    file.write_bytes(data)
    try:
        return Rows(file, len(read_examples(file)))
    except InputError as error:
        raise InputError(error.problem.replace(str(file), f"{kind} rows"), error.remedy) from None
    except (ValueError, OSError) as error:  # a file that is not what its ending says
        raise InputError(f"the {kind} rows could not be read as {suffix}", "check the file") from error


def new_folder(parent: Path) -> Path:
    """Make the folder of one request's uploads, which only this user can read."""
    folder = parent / "uploads" / secrets.token_hex(8)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def discard(folder: Path) -> None:
    """Delete a request's uploads."""
    shutil.rmtree(folder, ignore_errors=True)
