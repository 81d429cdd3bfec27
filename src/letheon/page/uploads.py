"""Rows that a form sends: checked by the library's own reader, stored beside the runs and nowhere else."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from letheon.core.errors import InputError
from letheon.core.rows.examples import read_examples

LARGEST = 5_000_000  # bytes of one file
MOST_ROWS = 100_000
LARGEST_UNPACKED = 50_000_000  # bytes of a Parquet file's columns once they are read
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
    if suffix == ".parquet":
        _check_parquet(data, kind)
    file = folder / f"{kind}{suffix}"
    file.write_bytes(data)
    try:
        return Rows(file, len(read_examples(file)))
    except InputError as error:
        raise InputError(error.problem.replace(str(file), f"{kind} rows"), error.remedy) from None
    except (ValueError, OSError) as error:  # a file that is not what its ending says
        raise InputError(f"the {kind} rows could not be read as {suffix}", "check the file") from error


def _check_parquet(data: bytes, kind: str) -> None:
    """Refuse a file that is small and becomes large once it is read, before it is read.

    Repeated texts are stored once: their columns are read as dictionaries, whose entries are counted by their uses.

    Raises:
        InputError: the file is no Parquet file, or has too many rows or bytes.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    large = InputError(
        f"the {kind} rows hold more than {MOST_ROWS:,} rows or {LARGEST_UNPACKED / 1e6:.0f} MB once unpacked",
        "use the command line for such files",
    )
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        declared = sum(group.total_byte_size for group in groups)
        if file.metadata.num_rows > MOST_ROWS or not 0 <= declared <= LARGEST_UNPACKED:
            raise large
        names = [file.schema.column(i).path for i in range(len(file.schema))]
        coded = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data), read_dictionary=names)
        unpacked = 0
        for batch in coded.iter_batches(batch_size=1000):
            unpacked += sum(map(_size, batch.columns))
            if unpacked > LARGEST_UNPACKED:
                raise large
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise InputError(f"the {kind} rows could not be read as .parquet", "check the file") from error


def _size(column: Any) -> int:
    """The bytes of a column [rows] with each entry of a dictionary counted by its uses."""
    import pyarrow
    import pyarrow.compute

    if isinstance(column, pyarrow.StructArray):
        return sum(map(_size, column.flatten()))
    if isinstance(column, pyarrow.ListArray | pyarrow.LargeListArray):
        return int(column.nbytes) + _size(column.flatten())
    if not isinstance(column, pyarrow.DictionaryArray):
        return int(column.nbytes)
    lengths = pyarrow.compute.binary_length(column.dictionary)
    return int(pyarrow.compute.sum(lengths.take(column.indices.drop_null())).as_py() or 0)


def new_folder(parent: Path) -> Path:
    """Make the folder of one request's uploads, which only this user can read."""
    folder = parent / "uploads" / secrets.token_hex(8)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def discard(folder: Path) -> None:
    """Delete a request's uploads."""
    shutil.rmtree(folder, ignore_errors=True)
