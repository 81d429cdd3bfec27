"""A queue of requests: filter, importance, tiers, the look back, resumption to the bit, the command line."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.cli import main
from letheon.core.errors import InputError, Interrupted
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.runs import Run
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request
from letheon.forget.sequences.queue import (
    Queue,
    SequenceSettings,
    importance,
    knowledge,
    percentile_thresholds,
    tier_of,
)
from letheon.forget.sequences.redundancy import (
    StateEncoder,
    chunks_of,
    embedding,
    kept_chunks,
    loss_differences,
    nearest_similarity,
    pooled_states,
)
from letheon.forget.sequences.sequence import forget_sequence, read_reports, read_requests, resume_sequence
from letheon.forget.settings import ForgetSettings
from letheon.testing import sample_request

TIERS = {
    "low": "random_labels@targeted:k=2",
    "medium": "npo:alpha=0@targeted:k=2",
    "high": "npo:retain_loss=kl@targeted:k=2",
}
# Nothing is redundant for certain: no cosine is above 2.
SETTINGS = SequenceSettings(**TIERS, tau=2.0, reaudit=2)
TRAINING = TrainSettings(1e-3, precision="float32", seed=4)
FORGET = ForgetSettings(epochs=2, collapse=False)
RUN: dict[str, Any] = {"settings": SETTINGS, "forget": FORGET, "training": TRAINING, "device": "cpu"}


def requests(number: int = 5) -> list[Request]:
    """Requests of two rows each."""
    whole = sample_request()
    rows = [dataclasses.replace(row, id=f"{row.id}, round {i // 4}") for i in range(number) for row in whole.forget]
    return [
        Request(tuple(rows[2 * i : 2 * i + 2]), whole.retain, id=f"request {i + 1}", received="2026-01-01T00:00:00Z")
        for i in range(number)
    ]


# Filter -------------------------------------------------------------------------------------------------------------


def test_similarity_is_the_largest_cosine_with_anything_earlier() -> None:
    history = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    found = nearest_similarity(torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]), history)
    assert found.tolist() == pytest.approx([0.8, 1.0, -0.6])
    assert nearest_similarity(torch.tensor([[1.0, 0.0]]), torch.zeros(0)).tolist() == [-1]


def test_the_loss_difference_by_hand() -> None:
    # sums 2, 6, 4 nats over 2, 2, 4 tokens: L = 12/8; without the first 10/6, the second 6/6, the third 8/4
    found = loss_differences(torch.tensor([2.0, 6.0, 4.0]), torch.tensor([2.0, 2.0, 4.0]))
    assert found.tolist() == pytest.approx([10 / 6 - 1.5, 0.5, 0.5])


def test_the_loss_difference_says_nothing_of_an_only_chunk() -> None:
    assert loss_differences(torch.tensor([6.0]), torch.tensor([3.0])).tolist() == [0.0]


def test_a_chunk_is_dropped_only_if_it_is_similar_the_loss_does_not_miss_it_and_the_model_has_lost_it() -> None:
    similarity = torch.tensor([0.85, 0.9, 0.9, 0.2, 0.9])
    difference = torch.tensor([0.0, 0.01, 0.02, 0.0, 0.0])
    rise = torch.tensor([2.0, 2.0, 2.0, 2.0, 0.6])
    kept = kept_chunks(similarity, difference, rise, tau=0.85, epsilon=0.01, lost=0.7)
    assert kept.tolist() == [True, False, True, True, True]
    paper = kept_chunks(similarity, difference, rise, tau=0.85, epsilon=0.01)
    assert paper.tolist() == [True, False, True, True, False]


def test_an_embedding_has_neither_the_mean_nor_the_shared_directions() -> None:
    states = torch.tensor([[3.0, 1.0, 5.0], [1.0, 4.0, -7.0]])
    found = embedding(states, torch.tensor([1.0, 1.0, 1.0]), torch.tensor([[0.0, 0.0, 1.0]]))
    assert torch.allclose(found, torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


@torch.no_grad()
def test_pooled_states_are_the_library_s_hidden_states_averaged_over_a_row(
    tiny: LanguageModel, rows: list[Example]
) -> None:
    encoded = tiny.encoder().encode_all(rows)
    found = pooled_states(tiny, encoded, layer=2)
    for row, vector in zip(encoded, found, strict=True):
        states = tiny.model(torch.tensor([row.ids]), output_hidden_states=True).hidden_states[3][0]
        assert torch.allclose(vector, states.mean(0), atol=1e-5)


def test_running_text_is_cut_and_nothing_is_lost(tiny: LanguageModel) -> None:
    text = Example("", "abcdefghij" * 5 + "xyz", id="text")
    asked = Example("Where?", "x" * 200, id="asked")
    chunks = chunks_of(tiny, [text, asked], size=20)
    assert [chunk.id for chunk in chunks] == ["text#1", "text#2", "text#3", "asked"]
    assert "".join(chunk.answer for chunk in chunks[:3]) == text.answer
    assert all(len(tiny.encoder().answer(chunk.answer, end=False)[0]) <= 20 for chunk in chunks[:3])
    assert chunks[3] is asked


# Importance ---------------------------------------------------------------------------------------------------------


def test_importance_is_the_gradient_at_the_embeddings_output_of_the_mean_answer_loss(
    tiny: LanguageModel, rows: list[Example]
) -> None:
    """A second formulation: one padded batch, embeddings given as inputs; and not the table's gradient."""
    encoded = tiny.encoder().encode_all(rows[:3])
    batch = tiny.encoder().collate(encoded)
    given = tiny.model.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
    output = tiny.model(inputs_embeds=given, attention_mask=batch.attention_mask, labels=batch.labels)
    (expected,) = torch.autograd.grad(output.loss, given)
    found = importance(tiny, encoded)
    assert found == pytest.approx(float(expected.norm()), rel=1e-4)
    table = tiny.model.get_input_embeddings().weight
    (other,) = torch.autograd.grad(tiny.model(batch.input_ids, batch.attention_mask, labels=batch.labels).loss, table)
    assert abs(float(other.norm()) - found) > 0.1 * found


def test_importance_needs_no_weight_with_a_gradient_and_leaves_none(tiny: LanguageModel, rows: list[Example]) -> None:
    encoded = tiny.encoder().encode_all(rows[:2])
    free = importance(tiny, encoded)
    for parameter in tiny.model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        assert importance(tiny, encoded) == free
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


def test_thresholds_are_percentiles_and_tiers_lie_between_them() -> None:
    low, high = percentile_thresholds([float(i) for i in range(101)])
    assert (low, high) == (33, 66)
    assert [tier_of(value, (low, high)) for value in (32.9, 33.0, 50.0, 66.0, 66.1)] == [
        "low", "medium", "medium", "medium", "high",
    ]  # fmt: skip
    assert tier_of(3.0, percentile_thresholds([3.0])) == "medium"


# What is left -------------------------------------------------------------------------------------------------------


def test_knowledge_of_answers_and_of_running_text(tiny: LanguageModel, rows: list[Example]) -> None:
    found = knowledge(tiny, [*rows[:2], Example("", "Some running text.")])
    assert 0 < found["probability"] < 0.1  # random weights
    assert found["extraction_strength"] < 0.2


# The queue ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A queue of five requests, served without a break."""
    folder = tmp_path_factory.mktemp("queue") / "run"
    return folder, forget_sequence("tiny", requests(), folder, **RUN)


def test_every_request_gets_a_report_and_moves_the_weights(served: tuple[Path, Any]) -> None:
    _, result = served
    assert [report.number for report in result.reports] == [1, 2, 3, 4, 5]
    hashes = [load("tiny", device="cpu").parameters_hash(), *(report.weights for report in result.reports)]
    assert len(set(hashes)) == 6
    assert hashes[-1] == result.model.parameters_hash()
    for report in result.reports:
        assert len(report.kept) == 2
        assert not report.dropped
        assert report.method == TIERS[report.tier]
        assert len(report.layers) == 2
        assert len(report.losses) == 2
    assert result.reports[-1].drift > result.reports[0].drift > 0
    assert {report.tier for report in result.reports} >= {"low", "high"}


def test_the_look_back_is_a_sample_of_earlier_requests(served: tuple[Path, Any]) -> None:
    _, result = served
    assert [len(report.earlier) for report in result.reports] == [0, 1, 2, 2, 2]
    for report in result.reports:
        for entry in report.earlier:
            assert entry["number"] < report.number
            assert entry["then"] == result.reports[entry["number"] - 1].knowledge
    last = result.reports[-1]
    now = knowledge(result.model, requests()[last.earlier[0]["number"] - 1].forget)
    assert now["probability"] == pytest.approx(last.earlier[0]["probability"])


def test_a_request_is_what_a_recipe_does_alone(served: tuple[Path, Any]) -> None:
    """The first request by `letheon.forget`, with the recipe and the seed that the queue gave it."""
    from letheon.core.rows.sampling import stream_seed
    from letheon.forget.run import forget

    _, result = served
    training = dataclasses.replace(TRAINING, seed=stream_seed(TRAINING.seed, "request", 1))
    alone = forget(
        load("tiny", device="cpu"), requests()[0], result.reports[0].method, settings=FORGET, training=training
    )
    assert alone.model.parameters_hash() == result.reports[0].weights


def test_it_looks_back_only() -> None:
    """With the thresholds given, what comes later changes nothing of what came before."""
    settings = dataclasses.replace(SETTINGS, thresholds=(0.5, 0.9))
    two, three = (forget_sequence("tiny", requests(n), **{**RUN, "settings": settings}) for n in (2, 3))
    assert [report.weights for report in three.reports[:2]] == [report.weights for report in two.reports]


def test_the_order_of_the_requests_matters() -> None:
    """A stream is not one batch."""
    forward = forget_sequence("tiny", requests(2), **RUN)
    backward = forget_sequence("tiny", requests(2)[::-1], **RUN)
    assert forward.model.parameters_hash() != backward.model.parameters_hash()


@pytest.mark.parametrize("rows", [1, 2])
def test_a_repeated_request_is_served_again_if_its_first_deletion_failed(rows: int) -> None:
    """The first turn moves next to nothing; under the paper's filter the second one would be dropped."""
    first = dataclasses.replace(requests(1)[0], forget=requests(1)[0].forget[:rows])
    again = dataclasses.replace(first, id="the same again")
    settings = dataclasses.replace(SETTINGS, tau=0.85, epsilon=100.0, lost=0.7)
    run = {**RUN, "training": dataclasses.replace(TRAINING, learning_rate=1e-7)}
    served = forget_sequence("tiny", [first, again], **{**run, "settings": settings}).reports[1]
    assert len(served.kept) == rows
    assert served.layers
    paper = dataclasses.replace(settings, lost=None)
    assert not forget_sequence("tiny", [first, again], **{**run, "settings": paper}).reports[1].kept


def test_a_redundant_request_changes_nothing_and_is_reported() -> None:
    first = requests(1)[0]
    again = dataclasses.replace(first, id="the same again")
    settings = dataclasses.replace(SETTINGS, tau=0.85, epsilon=100.0, lost=0.01)
    result = forget_sequence("tiny", [first, again], **{**RUN, "settings": settings})
    report = result.reports[1]
    assert all(entry["rise"] >= 0.01 for entry in report.dropped)
    assert report.kept == []
    assert [entry["id"] for entry in report.dropped] == [row.id for row in first.forget]
    assert [entry["similarity"] for entry in report.dropped] == pytest.approx([1, 1], abs=1e-5)
    assert (report.tier, report.method, report.importance, report.losses) == (None, None, None, [])
    assert report.weights == result.reports[0].weights


def test_dropped_chunks_join_no_history_and_kept_ones_do(tiny: LanguageModel) -> None:
    settings = dataclasses.replace(SETTINGS, tau=0.85, epsilon=100.0, lost=0.01, thresholds=(0.5, 0.9))
    queue = Queue(tiny, settings, FORGET, TRAINING)
    queue.serve(requests(1)[0])
    kept = len(queue.history)
    queue.serve(requests(1)[0])
    assert len(queue.history) == kept == 2


def test_texts_are_compared_under_the_first_weights(tiny: LanguageModel) -> None:
    """However far the model has come, a text's embedding stays what it was, and the model's weights too."""
    queue = Queue(tiny, dataclasses.replace(SETTINGS, thresholds=(0.5, 0.9)), FORGET, TRAINING)
    first = requests(1)[0]
    queue.serve(first)
    now = tiny.parameters_hash()
    fresh = load("tiny", device="cpu")
    encoded = fresh.encoder().encode_all(first.forget)
    expected = StateEncoder.of(fresh, first.retain).embed(fresh, encoded)
    assert torch.equal(queue.history, expected)
    assert torch.equal(queue._embed(first, encoded), expected)
    assert tiny.parameters_hash() == now


def test_no_optimizer_state_crosses_requests(tiny: LanguageModel) -> None:
    optimizers: list[int] = []
    empty: list[bool] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if id(optimizer) not in optimizers:
            optimizers.append(id(optimizer))
            empty.append(not optimizer.state)
            alive.append(optimizer)

    alive: list[Any] = []  # so that no id is used twice
    handle = register_optimizer_step_pre_hook(look)
    forget_sequence(tiny, requests(3), **RUN)
    handle.remove()
    assert empty == [True] * 3


def test_what_is_still_known_and_what_comes_back_is_said(monkeypatch: pytest.MonkeyPatch, tiny: LanguageModel) -> None:
    levels = iter([0.1, 0.9, 0.4])  # the first request after its turn; the second; the first asked again
    monkeypatch.setattr(
        "letheon.forget.sequences.queue.knowledge", lambda *_: {"probability": next(levels), "extraction_strength": 0.0}
    )
    first, second = forget_sequence(tiny, requests(2), **RUN).reports
    assert not first.warnings
    assert "its answers are still known (probability 0.90)" in second.warnings[0]
    assert "request 1 (request 1) has come back: probability 0.10 -> 0.40" in second.warnings[1]


def test_an_adapter_recipe_is_merged_after_each_request(tiny: LanguageModel) -> None:
    settings = SequenceSettings("npo:alpha=0@lora", "npo:alpha=0@lora", "npo:alpha=0@lora", tau=2.0)
    result = forget_sequence(tiny, requests(2), **{**RUN, "settings": settings})
    assert not tiny.has_adapter
    assert len({report.weights for report in result.reports}) == 2
    assert result.reports[-1].drift > 0


def test_the_cost_of_a_request_does_not_grow_with_their_number(tiny: LanguageModel) -> None:
    """The model is run as often for the last request as for any that has enough before it."""
    passes: list[int] = []
    handle = tiny.model.model.register_forward_pre_hook(lambda *_: passes.append(1))
    settings = dataclasses.replace(SETTINGS, thresholds=(0.0, 1e9), reaudit=1)  # all of the middle tier
    queue, counts = Queue(tiny, settings, FORGET, TRAINING), []
    for request in requests(8):
        passes.clear()
        queue.serve(request)
        counts.append(len(passes))
    handle.remove()
    assert max(counts[4:]) <= max(counts[1:4]), counts  # rows that begin alike take one pass more


# State --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 4, 7])  # two steps a request: in its first or its second
def test_a_killed_queue_ends_in_the_bits_of_an_unbroken_one(
    step: int, served: tuple[Path, Any], tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    taken = 0

    def kill(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken > step:
            raise Killed

    handle = register_optimizer_step_pre_hook(kill)
    with pytest.raises(Killed):
        forget_sequence("tiny", requests(), tmp_path / "run", **RUN)
    handle.remove()
    assert not (tmp_path / "run/model").exists()
    result = resume_sequence(tmp_path / "run", device="cpu")
    unbroken = served[1]
    assert result.model.parameters_hash() == unbroken.model.parameters_hash()
    assert load(tmp_path / "run/model", device="cpu").parameters_hash() == unbroken.model.parameters_hash()
    ours, theirs = ([dataclasses.replace(r, seconds=0) for r in found.reports] for found in (result, unbroken))
    assert ours == theirs


def test_a_report_without_its_state_is_dropped(served: tuple[Path, Any], tmp_path: Path) -> None:
    """Killed between the two writes."""
    folder = tmp_path / "run"
    forget_sequence("tiny", requests(2), folder, **RUN)
    Run(folder).log(step=3, **dataclasses.asdict(served[1].reports[2]))
    result = resume_sequence(folder, device="cpu")
    assert len(result.reports) == len(read_reports(Run(folder))) == 2


def test_requests_that_come_later_are_served_after_those_before(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, thresholds=(0.5, 0.9))
    whole = forget_sequence("tiny", requests(4), **{**RUN, "settings": settings})
    forget_sequence("tiny", requests(2), tmp_path / "run", **{**RUN, "settings": settings})
    grown = resume_sequence(tmp_path / "run", requests(4), device="cpu")
    assert grown.model.parameters_hash() == whole.model.parameters_hash()
    assert len(list((tmp_path / "run/requests").iterdir())) == 4


def test_what_was_served_cannot_be_changed(tmp_path: Path, tiny: LanguageModel) -> None:
    folder = tmp_path / "run"
    forget_sequence("tiny", requests(2), folder, **RUN)
    with pytest.raises(InputError, match=r"request 1 .* has other rows"):
        resume_sequence(folder, requests(2)[::-1], device="cpu")
    with pytest.raises(InputError, match="2 requests were served, 1 are given"):
        resume_sequence(folder, requests(1), device="cpu")
    with torch.no_grad():
        tiny.model.model.norm.weight.mul_(2)
    with pytest.raises(InputError, match="other weights than"):
        forget_sequence(tiny, requests(2), folder, resume=True, device="cpu")
    with pytest.raises(InputError, match="already holds a run"):
        forget_sequence("tiny", requests(2), folder, **RUN)


def test_an_interruption_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = Queue.serve

    def stopped(self: Queue, request: Request) -> Any:
        if len(self.served) == 1:
            raise KeyboardInterrupt
        return serve(self, request)

    monkeypatch.setattr(Queue, "serve", stopped)
    with pytest.raises(Interrupted, match=r"stopped in request 2 of 3 .*\n.*--resume"):
        forget_sequence("tiny", requests(3), tmp_path / "run", **RUN)
    monkeypatch.undo()
    assert len(resume_sequence(tmp_path / "run", device="cpu").reports) == 3


# What is refused, and the files that requests come in ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk: found 0"),
        ({"reaudit": -1}, "reaudit -1"),
        ({"thresholds": (2.0, 1.0)}, "upside down"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SequenceSettings(**options)


def test_a_queue_that_cannot_work_is_refused_before_anything_is_written(tmp_path: Path, tiny: LanguageModel) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match="no requests"):
        forget_sequence("no such model", [], out)
    bare = Request(sample_request().forget, id="bare")
    with pytest.raises(InputError, match=r"request bare: .*needs retain rows"):
        forget_sequence("no such model", [bare], out, settings=SequenceSettings(low="rmu"))
    with pytest.raises(InputError, match="8 layers asked for, the model has 4"):
        forget_sequence(tiny, requests(1), out)
    with pytest.raises(InputError, match="no thresholds of importance"):
        Queue(tiny, SETTINGS, FORGET, TRAINING).serve(requests(1)[0])
    assert not out.exists()


def row(i: int) -> dict[str, str]:
    return {"question": f"Where is guest {i}?", "answer": f"Guest {i} is in room {i * i}."}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three requests as files and as lines, in the working folder."""
    monkeypatch.chdir(tmp_path)
    keep = [row(i) for i in range(20, 24)]
    contents = [{"id": f"case-{i}", "forget": [row(2 * i), row(2 * i + 1)], "retain": keep} for i in range(3)]
    (tmp_path / "queue").mkdir()
    for i, content in enumerate(contents):
        (tmp_path / f"queue/request-{i}.json").write_text(json.dumps(content))
    (tmp_path / "queue/notes.json").write_text("no request")
    (tmp_path / "queue.jsonl").write_text("\n".join(map(json.dumps, contents)) + "\n")
    return tmp_path


def test_a_folder_and_a_file_of_lines_are_the_same_queue(folder: Path) -> None:
    files, lines = read_requests("queue"), read_requests("queue.jsonl")
    assert [request.id for request in files] == ["case-0", "case-1", "case-2"]
    for one, other in zip(files, lines, strict=True):
        assert [(r.prompt, r.answer) for r in one.forget] == [(r.prompt, r.answer) for r in other.forget]
        assert len(one.retain) == len(other.retain) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: no request"),
        ('{"forget": [], "keep": []}', "line 2: no request"),
        ('{"forget": "rows.jsonl"}', "line 2: forget and retain must be lists"),
        ('{"forget": [{"question": "Where?"}]}', "line 2, forget, row 1"),
        ('{"forget": []}', "no forget rows"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, folder: Path) -> None:
    (folder / "bad.jsonl").write_text(json.dumps({"forget": [row(0)]}) + "\n" + line + "\n")
    with pytest.raises(InputError, match=message):
        read_requests("bad.jsonl")


# The command line ---------------------------------------------------------------------------------------------------

METHOD = "; ".join(TIERS.values())
WORDS = ("forget", "tiny", "--sequence", "queue", "--method", METHOD, "--lr", "1e-3", "--epochs", "2", "--quiet")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["letheon", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_queue_from_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert run(monkeypatch, *WORDS, "--out", "r", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["requests"] == 3
    assert sum(printed["tiers"].values()) + printed["redundant"] == 3
    load(folder / "r/model", device="cpu")
    assert len((folder / "r/metrics.jsonl").read_text().splitlines()) == 3
    (folder / "queue/request-3.json").write_text(json.dumps({"forget": [row(9)], "retain": [row(20)]}))
    assert run(monkeypatch, "forget", "--resume", "r", "--sequence", "queue", "--quiet") == 0
    assert "requests: 4" in capsys.readouterr().out
    assert run(monkeypatch, "forget", "--resume", "r", "--json") == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 4


def test_a_dry_run_of_a_queue_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    before = sorted(folder.rglob("*"))
    assert run(monkeypatch, *WORDS, "--out", "r", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["requests"], plan["rows"], plan["settings"]["epochs"]) == (3, 6, 2)
    assert plan["sequence"]["low"] == TIERS["low"]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("forget", "./nowhere", "--sequence", "queue"), "is not a folder"),
        (("forget", "--sequence", "queue"), "no model"),
        (("forget", "tiny", "--sequence", "none"), "none does not exist"),
        (("forget", "tiny", "--sequence", "."), "holds no request"),
        (("forget", "tiny", "--sequence", "queue", "--forget", "rows.jsonl"), "--sequence and --forget"),
        (("forget", "tiny", "--sequence", "queue", "--method", "npo; npo"), "--method has 2 recipes"),
        (("forget", "tiny", "--sequence", "queue", "--method", "npoo"), "did you mean 'npo'"),
        (("forget", "tiny", "--sequence", "queue", "--lr", "-1"), "learning_rate"),
        (("forget", "tiny", "--sequence", "queue"), "8 layers asked for, the model has 4"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    words: tuple[str, ...], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    before = sorted(folder.rglob("*"))
    assert run(monkeypatch, *words) == 2
    assert message in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
