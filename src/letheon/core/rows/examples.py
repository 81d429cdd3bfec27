"""Examples (question, answer, annotations), read from files and from Hugging Face data sets.

Formats are JSON Lines, JSON, CSV, Parquet, and hub data sets as `org/name:config:split`. Field names are detected or
given. A bad row is refused before any model is loaded; the error names the file, row, field and value.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError

# The first pair that a row has is used. `messages` and `text` are handled separately.
FIELD_PAIRS = (
    ("question", "answer"),
    ("prompt", "completion"),
    ("prompt", "answer"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("query", "answer"),
)
# Values of the fields `relation` and `type`; other values are ignored.
RELATIONS = {
    "direct": "direct",
    "entity": "direct",
    "indirect": "indirect",
    "domain": "indirect",
    "general": "general",
}
VALUE_MARK = re.compile(r"<value>(.*?)</value>", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A prompt and its answer, with optional annotations.

    Attributes:
        prompt: the question; empty for running text.
        answer: the text that the model is (or was) trained to give.
        id: name of the row in reports.
        subject: the person or thing that the row is about, as written in prompt and answer.
        value: the part of the answer that carries the fact.
        paraphrased_prompts: paraphrases of the question.
        paraphrased_answer: a paraphrase of the answer (the truth ratio's right answer).
        perturbed_answers: false answers of the same form (the truth ratio's wrong answers).
        relation: a retain row's nearness to the forget rows: `direct`, `indirect` or `general`.
        neighbour_of: the subject of the forget rows that a retain row is near to.
        counterfactual: the question changed so that it has another answer.
    """

    prompt: str
    answer: str
    id: str = ""
    subject: str | None = None
    value: str | None = None
    paraphrased_prompts: tuple[str, ...] = ()
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()
    relation: str | None = None
    neighbour_of: str | None = None
    counterfactual: str | None = None


def read_examples(source: str | Path, fields: tuple[str, str] | None = None) -> list[Example]:
    """Read examples from a file or a hub data set (`org/name:config:split`).

    Args:
        source: `.jsonl`, `.json` (a list, or JSON lines as TOFU has), `.csv`, `.parquet`, or a hub id.
        fields: names of the prompt's and the answer's field; detected by default.

    Raises:
        InputError: a missing file, a bad row, or no rows; the message names file, row, field and value.
    """
    examples = _examples(_rows(str(source)), str(source), fields, Path(str(source)).stem)
    if not examples:
        raise InputError(f"{source} holds no rows", "give a file with at least one row")
    return examples


def read_rows(source: str | Path) -> list[tuple[int, Any]]:
    """Read the raw rows of a file or a hub data set, with their row (or line) numbers.

    Use it for data whose rows are no examples. Formats and errors are those of `read_examples`.
    """
    return list(_rows(str(source)))


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file without the white space around them; line n is at place n - 1.

    Raises:
        InputError: the file is missing or is not UTF-8.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read: {error}", "give a text file in UTF-8, one text per line") from None


def parse_rows(
    rows: Sequence[Any], where: str, fields: tuple[str, str] | None = None, prefix: str = "row"
) -> list[Example]:
    """Make examples from rows in memory; `where` names their source in errors."""
    return _examples(enumerate(rows, start=1), where, fields, prefix)


def _examples(
    rows: Iterable[tuple[int, Any]], source: str, fields: tuple[str, str] | None, prefix: str
) -> list[Example]:
    examples = []
    for number, row in rows:
        if not isinstance(row, dict):
            raise InputError(
                f"{source}, row {number}: found {short(row)}, not an object with fields",
                'write each row as {"question": ..., "answer": ...}',
            )
        examples.append(_example(row, f"{source}, row {number}", fields, f"{prefix}-{number}"))
    return examples


def _rows(source: str) -> Iterator[tuple[int, Any]]:
    path = Path(source)
    if not os.path.isfile(path):  # unlike Path.is_file, this raises no error for text that cannot be a path
        if ":" in source or (source.count("/") == 1 and not path.suffix):
            yield from enumerate(_hub_rows(source), start=1)
            return
        what = "is a folder or no regular file" if os.path.exists(path) else "does not exist"
        raise InputError(f"{source} {what}", "check the path; a hub data set is written org/name:config:split")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text (byte {error.start})", "save the file as UTF-8") from None
    if suffix == ".csv":
        yield from enumerate(_csv_rows(text, source), start=1)
    elif text.lstrip().startswith("["):
        yield from enumerate(_json(text, source, 0), start=1)
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield number, _json(line, source, number)


def _json(text: str, source: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {line or error.lineno}, column {error.colno}"
        raise InputError(f"{source}, {where}: not JSON ({error.msg})", "mend or remove that line") from None
    except (ValueError, RecursionError) as error:  # numbers with thousands of digits, thousands of nested brackets
        raise InputError(f"{source}, line {line or 1}: {error}", "mend or remove that line") from None


def _csv_rows(text: str, source: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        return list(reader)
    except csv.Error as error:
        raise InputError(
            f"{source}, line {reader.reader.line_num}: not CSV ({error})", "mend or remove that line"
        ) from None


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise InputError(f"{path}: not Parquet ({str(error).splitlines()[0]})", "give a Parquet file") from None
    return rows


def _hub_rows(source: str) -> list[dict[str, Any]]:
    import datasets

    name, config, split = [*source.split(":"), "", ""][:3]
    try:
        return datasets.load_dataset(name, config or None, split=split or "train").to_list()
    except Exception as error:  # the hub client raises many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"data set {source} could not be read: {reason}",
            "check the id (org/name:config:split), or give a local file",
        ) from None


def _example(row: dict[str, Any], where: str, fields: tuple[str, str] | None, default_id: str) -> Example:
    prompt, answer = _prompt_and_answer(row, where, fields)
    value = _text(row, "value", where)
    if value is None and (marked := VALUE_MARK.search(answer)):
        value, answer = marked.group(1), VALUE_MARK.sub(r"\1", answer)
    if value is not None and value not in answer:
        raise InputError(
            f"{where}, field 'value': {short(value)} does not occur in the answer {short(answer)}",
            "write the value as it stands in the answer, or leave the field out",
        )
    example = Example(
        prompt=prompt,
        answer=answer,
        id=str(row.get("id") or default_id),
        subject=_text(row, "subject", where),
        value=value,
        paraphrased_prompts=_texts(row, ("paraphrased_question", "paraphrased_prompts"), where),
        paraphrased_answer=next(iter(_texts(row, ("paraphrased_answer",), where)), None),
        perturbed_answers=_texts(row, ("perturbed_answer", "perturbed_answers"), where),
        relation=next(filter(None, (RELATIONS.get(str(row.get(name))) for name in ("relation", "type"))), None),
        neighbour_of=_text(row, "neighbour_of", where),
        counterfactual=_text(row, "counterfactual", where),
    )
    check_characters(_texts_of(example), where)
    return example


def check_characters(texts: Iterable[str], where: str) -> None:
    """Raise an `InputError` if texts hold half a surrogate pair; `where` names their row."""
    if any("\ud800" <= letter <= "\udfff" for letter in "".join(texts)):
        raise InputError(f"{where}: half a surrogate pair, which is no character", "mend the escape sequence")


def _texts_of(example: Example) -> Iterator[str]:
    """Yield every text of an example."""
    for found in vars(example).values():
        yield from (found,) if isinstance(found, str) else found or ()


def _prompt_and_answer(row: dict[str, Any], where: str, fields: tuple[str, str] | None) -> tuple[str, str]:
    if fields and not all(name in row for name in fields):
        fields = None  # another file of the same request may have other names
    if fields is None and "messages" in row:
        return _from_messages(row["messages"], where)
    pair = fields or next((pair for pair in FIELD_PAIRS if pair[0] in row and pair[1] in row), None)
    if pair is None and "text" in row:
        pair = ("", "text")
    if pair is None:
        known = ", ".join("/".join(pair) for pair in FIELD_PAIRS)
        raise InputError(
            f"{where}: no field pair found among {', '.join(map(str, row)) or 'no fields'}",
            f"use one of {known}, messages, text; or name them: --fields PROMPT,ANSWER",
        )
    for name in pair:
        found = row.get(name)
        if name and (not isinstance(found, str) or not found.strip()):
            raise InputError(
                f"{where}, field {name!r}: found {short(found)}, not a non-empty text",
                "fill it or remove the row",
            )
    return (row[pair[0]] if pair[0] else ""), row[pair[1]]


def _from_messages(messages: Any, where: str) -> tuple[str, str]:
    try:
        turns = [(message["role"], message["content"]) for message in messages]
    except (TypeError, KeyError):
        turns = []
    texts = all(isinstance(content, str) and content.strip() for _, content in turns[-2:])
    if [role for role, _ in turns[-2:]] != ["user", "assistant"] or not texts:
        raise InputError(
            f"{where}, field 'messages': found {short(messages)}",
            "the last two messages must be a user's and an assistant's, each with role and a non-empty text as content",
        )
    if len(turns) > 2:
        raise InputError(
            f"{where}, field 'messages': {len(turns)} messages; a row is one question and one answer",
            "split the conversation into rows",
        )
    return turns[0][1], turns[1][1]


def _text(row: dict[str, Any], name: str, where: str) -> str | None:
    found = row.get(name)
    if found is None or found == "":
        return None
    if not isinstance(found, str):
        raise InputError(f"{where}, field {name!r}: found {short(found)}, not text", "write it as text")
    return found


def _texts(row: dict[str, Any], names: tuple[str, ...], where: str) -> tuple[str, ...]:
    for name in names:
        found = row.get(name)
        if isinstance(found, str) and found:
            return (found,)
        if isinstance(found, list) and found and all(isinstance(item, str) for item in found):
            return tuple(found)
        if found:
            raise InputError(f"{where}, field {name!r}: found {short(found)}, not text or a list of texts", "mend it")
    return ()


def short(value: Any) -> str:
    """Format a value for an error message, in at most 60 characters."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
