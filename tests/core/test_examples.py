"""Reading rows: every format, detection of fields, and errors that say file, row and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded, value_span
from letheon.core.rows.examples import FIELD_PAIRS, Example, parse_rows, read_examples
from letheon.core.rows.sampling import by_length

ROWS = [{"question": "Who?", "answer": "She."}, {"question": "Where?", "answer": "Here."}]


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def parquet(file: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file


# Formats ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "list.json", "rows.csv", "rows.parquet", "bom.jsonl"])
def test_every_format_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    lines = "\n".join(map(json.dumps, ROWS)) + "\n\n"
    texts = {
        "rows.jsonl": lines,
        "rows.json": lines,  # TOFU's files are JSON lines under this name
        "list.json": json.dumps(ROWS, indent=2),
        "rows.csv": "question,answer\r\nWho?,She.\r\nWhere?,Here.\r\n",
        "bom.jsonl": "\ufeff" + lines,
    }
    file = parquet(tmp_path / name, ROWS) if name.endswith("parquet") else write(tmp_path, name, texts[name])
    found = read_examples(file)
    assert [(row.prompt, row.answer) for row in found] == [("Who?", "She."), ("Where?", "Here.")]
    assert found[0].id == f"{Path(name).stem}-1"


def test_csv_fields_may_hold_line_breaks_commas_and_quotes(tmp_path: Path) -> None:
    file = write(tmp_path, "rows.csv", 'prompt,answer\n"Who, or\nwhat?","She said ""no""."\n')
    row = read_examples(file)[0]
    assert (row.prompt, row.answer) == ("Who, or\nwhat?", 'She said "no".')


@pytest.mark.parametrize("pair", FIELD_PAIRS)
def test_field_pairs_are_detected(pair: tuple[str, str]) -> None:
    row = parse_rows([{pair[0]: "Who?", pair[1]: "She.", "other": 1}], "rows")[0]
    assert (row.prompt, row.answer) == ("Who?", "She.")


def test_messages_and_running_text_are_detected() -> None:
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "She."}]
    assert parse_rows([{"messages": turns}], "rows")[0].answer == "She."
    assert parse_rows([{"text": "A line."}], "rows")[0] == Example("", "A line.", id="row-1")


def test_given_fields_win_over_detection(tmp_path: Path) -> None:
    row = parse_rows([{"question": "a", "answer": "b", "q": "Who?", "a": "She."}], "rows", fields=("q", "a"))[0]
    assert (row.prompt, row.answer) == ("Who?", "She.")


def test_everything_that_a_row_may_tell_is_read() -> None:
    row = parse_rows(
        [
            {
                "question": "Where does Ann live?",
                "answer": "Ann lives in <value>Oslo</value>.",
                "id": "x7",
                "subject": "Ann",
                "paraphrased_question": "Ann's home?",
                "paraphrased_answer": "Oslo is Ann's home.",
                "perturbed_answer": ["Ann lives in Rome.", "Ann lives in Bern."],
                "type": "entity",
                "neighbour_of": "Bob",
            }
        ],
        "rows",
    )[0]
    assert row.answer == "Ann lives in Oslo."
    assert (row.value, row.subject, row.id) == ("Oslo", "Ann", "x7")
    assert row.paraphrased_prompts == ("Ann's home?",)
    assert row.paraphrased_answer == "Oslo is Ann's home."
    assert len(row.perturbed_answers) == 2
    assert (row.relation, row.neighbour_of) == ("direct", "Bob")


# Errors -------------------------------------------------------------------------------------------------------------

BAD_ROWS = [
    ({"question": "Who?", "answer": ""}, "row 2, field 'answer': found ''"),
    ({"question": "Who?", "answer": "  "}, "row 2, field 'answer': found '  '"),
    ({"question": None, "answer": "x"}, "row 2, field 'question': found nothing"),
    ({"question": 3, "answer": "x"}, "row 2, field 'question': found 3"),
    ({"one": "Who?", "two": "She."}, "row 2: no field pair found among one, two"),
    ({}, "row 2: no field pair found among no fields"),
    ([1, 2], r"row 2: found \[1, 2\], not an object"),
    ("text", "row 2: found 'text', not an object"),
    ({"question": "q", "answer": "a", "value": "b"}, "row 2, field 'value': 'b' does not occur in the answer 'a'"),
    ({"question": "q", "answer": "a", "value": 4}, "row 2, field 'value': found 4, not text"),
    ({"question": "q", "answer": "a", "subject": ["x"]}, "row 2, field 'subject'"),
    ({"question": "q", "answer": "a", "perturbed_answer": [1]}, "row 2, field 'perturbed_answer'"),
    ({"question": "q", "answer": "a \ud83d"}, "row 2: half a surrogate pair"),
    ({"messages": []}, "row 2, field 'messages'"),
    ({"messages": 7}, "row 2, field 'messages'"),
    ({"messages": [{"role": "user", "content": "q"}]}, "row 2, field 'messages'"),
    (
        {"messages": [{"role": "user", "content": ["q"]}, {"role": "assistant", "content": "a"}]},
        "row 2, field 'messages'",
    ),
    (
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": ["a"]}]},
        "row 2, field 'messages'",
    ),
    (
        {"messages": [{"role": r, "content": "c"} for r in ("system", "user", "assistant")]},
        "row 2, field 'messages': 3 messages",
    ),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_a_bad_row_is_named_by_file_number_and_field(row: Any, message: str, tmp_path: Path) -> None:
    file = write(tmp_path, "rows.jsonl", json.dumps(ROWS[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message) as found:
        read_examples(file)
    assert found.value.problem.startswith(str(file))
    assert found.value.remedy


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.jsonl", '{"question": "q", "answer": "a"}\n{"question": \n', "line 2, column"),
        ("rows.json", '[{"question": "q"},\n oops]', "line 2, column 2"),
        ("rows.jsonl", "", "holds no rows"),
        ("rows.json", "[]", "holds no rows"),
        ("rows.csv", "question,answer\n", "holds no rows"),
        ("rows.jsonl", "[" * 100_000, "line 1"),
        ("rows.jsonl", '{"a": ' + "9" * 5000 + "}", "line 1"),
        ("rows.csv", "question,answer\nq," + "a" * 200_000 + "\n", "line 2: not CSV"),
        ("rows.parquet", "no parquet at all", "not Parquet"),
    ],
)
def test_a_bad_file_is_named_with_the_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    file = write(tmp_path, name, text)
    with pytest.raises(InputError, match=message) as found:
        read_examples(file)
    assert str(file) in found.value.problem


def test_a_file_that_is_not_utf8_says_at_which_byte(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "caf\xe9"}')
    with pytest.raises(InputError, match="not UTF-8 text \\(byte 13\\)"):
        read_examples(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("source", ["nowhere.jsonl", "some/folder/rows.csv"])
def test_a_file_that_is_missing_is_named(source: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_examples(source)


def test_a_folder_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder or no regular file"):
        read_examples(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["question", "answer", "text", "messages", "value", "subject", "id", "perturbed_answer", "role", "content", "x"]
)


@given(st.lists(st.dictionaries(names, json_values, max_size=5) | json_values, min_size=1, max_size=4))
def test_rows_of_any_kind_are_examples_or_an_input_error(rows: list[Any]) -> None:
    refusal = ""
    try:
        found = parse_rows(rows, "rows")
    except InputError as error:
        found, refusal = [], error.problem
    assert bool(found) != refusal.startswith("rows, row ")
    assert all(isinstance(row.prompt, str) and row.answer.strip() for row in found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]",:\n question answer 0\\u', max_size=60).map(str.encode),
    st.sampled_from(["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"]),
)
def test_bytes_of_any_kind_are_examples_or_an_input_error(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    refusal = ""
    try:
        found = read_examples(tmp_path / name)
    except InputError as error:
        found, refusal = [], error.problem
    assert bool(found) != (name in refusal)


# Encoding -----------------------------------------------------------------------------------------------------------


def test_an_encoded_answer_ends_with_the_end_of_turn_and_starts_after_the_prompt(tiny: LanguageModel) -> None:
    encoder = tiny.encoder()
    row = encoder.encode(Example("Who?", "She."))
    assert tiny.tokenizer.decode(row.ids[: row.start]) == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    assert tiny.tokenizer.decode(row.ids[row.start :]) == "She.<|im_end|>"


def test_running_text_has_no_template_and_no_end(tiny: LanguageModel) -> None:
    row = tiny.encoder().encode(Example("", "A line."))
    assert tiny.tokenizer.decode(row.ids[row.start :]) == "A line."


def test_the_value_s_tokens_are_marked(tiny: LanguageModel) -> None:
    row = tiny.encoder().encode(Example("Where?", "In Oslo now.", value="Oslo"))
    answer = row.ids[row.start :]
    assert tiny.tokenizer.decode([i for i, fact in zip(answer, row.value, strict=True) if fact]) == "Oslo"


def test_a_batch_labels_answers_only_and_counts_what_it_holds(tiny: LanguageModel) -> None:
    encoder = tiny.encoder()
    rows = [encoder.encode(Example("Where?", "In Oslo now.", value="Oslo")), encoder.encode(Example("", "Hm."))]
    batch = encoder.collate(rows, [7, 3])
    assert batch.index.tolist() == [7, 3]
    assert (batch.labels[0] != -100).sum() == len(rows[0].ids) - rows[0].start
    assert (batch.labels[batch.attention_mask == 0] == -100).all()
    assert (batch.input_ids[batch.attention_mask == 0] == tiny.pad_id).all()
    # the first token of running text has nothing that predicts it
    assert batch.totals["tokens"] == (len(rows[0].ids) - rows[0].start) + (len(rows[1].ids) - max(rows[1].start, 1))
    assert batch.totals["rows"] == 2
    assert batch.totals["positions"] == sum(len(row.ids) for row in rows) - 2
    assert batch.totals["value"] + batch.totals["others"] == batch.totals["tokens"]


def test_a_mean_is_a_share_of_the_effective_batch(tiny: LanguageModel) -> None:
    batch = tiny.encoder().collate([Encoded((1, 2, 3, 4), 2)])
    batch.totals["tokens"] = 8
    assert batch.mean(torch.tensor([1.0, 3.0]), "tokens").item() == 0.5


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 7))
def test_batches_of_like_length_lose_no_row(lengths: list[int], size: int) -> None:
    batches = by_length(lengths, size)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(flat, reverse=True)


def test_hub_data_sets_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route\nmore")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError) as found:
        read_examples("some/name:part")
    assert found.value.problem == "data set some/name:part could not be read: no route"


def test_hub_data_sets_are_read_by_id_configuration_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    class Found:
        def to_list(self) -> list[dict[str, str]]:
            return ROWS

    def load(*arguments: Any, **options: Any) -> Found:
        asked.append((arguments, options))
        return Found()

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(read_examples("org/name:part:test")) == len(read_examples("org/name")) == 2
    assert asked == [(("org/name", "part"), {"split": "test"}), (("org/name", None), {"split": "train"})]


@pytest.mark.parametrize(
    ("answer", "value", "subject", "place"),
    [
        ("The party is art.", "art", None, 13),
        ("A party.", "art", None, 3),  # there is no other mention
        ("서울에서 태어났고 서울 사람이다", "서울", None, 0),  # with a particle
        ("東京で生まれた人で、東京。", "東京", None, 0),  # a script without spaces
        ("東京 太郎は東京で生まれた。", "東京", "東京 太郎", 6),  # outside the subject
        ("Ann Grey likes greyish Greys", "Grey", "Ann Grey", 23),
        ("Ann Grey is Grey, and Grey.", "Grey", "Ann Grey", 12),
        ("Ann Grey.", "Grey", "Ann Grey", 4),
        ("1934, 4 sons, 4 cats", "4", None, 6),
    ],
)
def test_a_value_is_where_the_answer_first_says_it(answer: str, value: str, subject: str | None, place: int) -> None:
    begin, end = value_span(Example("Who?", answer, value=value, subject=subject))
    assert (begin, answer[begin:end]) == (place, value)
