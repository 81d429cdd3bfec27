"""Earlier requests are asked again on a later model; what came back is said, and what cannot be asked too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from letheon.audit.ledger import recording
from letheon.audit.ledger.cases import cases
from letheon.audit.ledger.entry import ModelRef
from letheon.audit.ledger.ledger_action import Deed
from letheon.audit.ledger.recheck import DESTROYED, plan, recheck, returned
from letheon.audit.ledger.store import Ledger
from letheon.audit.record.evidence import Value
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request

GONE = {"recall": Value(value=0.0, low=0.0, high=0.66, n=2), "probability": Value(value=0.01, low=0.0, high=0.05, n=2)}


def deleted(ledger: Ledger, case: Request, before: ModelRef, after: ModelRef, folder: Path) -> None:
    """A request whose outcome is in the ledger; its rows lie in a file of the user's."""
    recording.begin(ledger, case, before, "npo", {})
    recording.finish(Deed("forget", case, before, after, measured=GONE), ledger, folder)
    case.write(folder / f"request-{case.id}.json")


@pytest.fixture
def two(ledger: Ledger, case: Request, before: ModelRef, after: ModelRef, tmp_path: Path) -> Path:
    """The folder of the request files of `case` and of another one."""
    folder = tmp_path / "requests"
    folder.mkdir()
    deleted(ledger, case, before, after, folder)
    deleted(ledger, replace(case, id="case-8", forget=case.retain, retain=()), before, after, folder)
    return folder


@pytest.mark.parametrize(
    ("then", "now", "outcome"),
    [
        ((0.0, 0.66), 1.0, "came back"),
        ((0.0, 0.66), 0.5, "higher, within the interval"),
        ((0.0, 0.66), 0.0, "still gone"),
        ((0.3, 0.5), 0.5, "higher, within the interval"),
        ((0.3, 0.5), 0.305, "still gone"),
        ((0.3, None), 0.41, "came back"),
        ((0.3, None), 0.39, "higher, within the interval"),
    ],
)
def test_came_back_is_above_the_interval_of_what_was_recorded(
    then: tuple[float, float | None], now: float, outcome: str
) -> None:
    recorded = Value(value=then[0], low=None if then[1] is None else 0.0, high=then[1], n=2)
    assert returned(recorded, Value(value=now, n=2)) == outcome


def test_what_a_later_model_knows_again_has_come_back(
    ledger: Ledger, case: Request, two: Path, tiny: LanguageModel
) -> None:
    settings = TrainSettings(learning_rate=5e-3, batch_size=2, precision="float32", schedule="linear")
    finetune(tiny, case.forget, settings, 60)
    entry = recheck(ledger, tiny, plan(ledger, two), device="cpu")
    assert entry.asked is not None
    first, second = entry.asked
    assert (first.request, first.outcome, first.rows, first.of) == ("case-7", "came back", 2, 2)
    assert first.now["recall"].value == 1.0
    assert first.then == GONE
    assert second.outcome == "still gone"
    assert ledger.entries()[-1] == entry
    assert cases(ledger.entries())["case-7"].returned == "came back"
    assert ledger.verify().whole


def test_a_request_whose_key_was_destroyed_is_said_to_be_out_of_reach(
    ledger: Ledger, two: Path, tiny: LanguageModel
) -> None:
    recording.close(ledger, "case-7")
    chosen = plan(ledger, two)
    assert chosen.not_asked == {"case-7": DESTROYED}
    entry = recheck(ledger, tiny, chosen, device="cpu")
    assert entry.not_asked == {"case-7": DESTROYED}
    recording.close(ledger, "case-8")
    with pytest.raises(InputError, match="no request can be asked again"):
        recheck(ledger, tiny, plan(ledger, two))


def test_a_sample_is_drawn_by_the_seed(ledger: Ledger, two: Path) -> None:
    drawn = {tuple(plan(ledger, two, sample=1, seed=seed).rows) for seed in range(12)}
    assert drawn == {("case-7",), ("case-8",)}
    assert plan(ledger, two, sample=1, seed=3).rows == plan(ledger, two, sample=1, seed=3).rows
    assert set(plan(ledger, two, sample=5).rows) == {"case-7", "case-8"}


def test_rows_are_found_whatever_the_files_are_called_and_some_may_be_missing(
    ledger: Ledger, case: Request, two: Path
) -> None:
    for file in two.iterdir():
        file.unlink()
    replace(case, id="another name", forget=case.forget[1:]).write(two / "deep" / "request.json")
    found = plan(ledger, two)
    assert {name: [row.id for row in rows] for name, rows in found.rows.items()} == {"case-7": ["f-2"]}
    assert found.not_asked == {"case-8": "none of its rows is in the given files"}


def test_what_cannot_be_planned_is_refused(ledger: Ledger, tmp_path: Path, two: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no request"):
        plan(ledger, empty)
    fresh = Ledger.open(tmp_path / "fresh", create=True)
    with pytest.raises(InputError, match="no request whose outcome was measured"):
        plan(fresh, two)
    fresh.close()
