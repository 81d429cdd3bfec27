"""A claim about a pretrained model is measured on the user's own; every other one says why it is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.papers.test_catalogue import an_outcome

from letheon.core.errors import InputError
from letheon.jobs.papers import PaperJob, PapersJob
from letheon.papers import catalogue, secondary_sinks
from letheon.papers.catalogue import FOLDER, Scale, paper, papers, record
from letheon.papers.page import run_paper

RUN = [entry for entry in papers() if not entry.planned]
SOURCES = {entry.key: (FOLDER / f"{entry.key.replace('-', '_')}.py").read_text(encoding="utf-8") for entry in RUN}


def test_the_catalogue_says_which_claims_take_a_model() -> None:
    honour = {key for key, source in SOURCES.items() if "scale.model" in source}
    assert honour == {entry.key for entry in papers() if entry.pretrained}
    # pavlovian measures one number beside its claim on it
    assert {key for key, source in SOURCES.items() if re.search(r'load\("', source)} == {"pavlovian"}
    assert all(set(entry.pretrained) <= ({"fast", "full"} if entry.full else {"fast"}) for entry in papers())


def test_a_claim_about_a_world_of_its_own_refuses_in_one_line() -> None:
    with pytest.raises(InputError, match="about models that it trains itself or about published data"):
        PaperJob("gu", model="tiny").plan()
    with pytest.raises(InputError, match="at the fast scale\nadd --full"):
        PaperJob("reglu", model="tiny").plan()
    assert PaperJob("reglu", full=True, model="tiny").plan()["model"] == "tiny"
    assert "model" not in PaperJob("gu").plan()
    with pytest.raises(InputError, match="not a folder"):
        PaperJob("negative-bias", model="./nowhere").plan()


def test_all_papers_are_those_that_take_the_model() -> None:
    keys = {job.key for job in PapersJob(["all"], model="tiny").jobs()}
    assert keys == {entry.key for entry in papers() if "fast" in entry.pretrained}
    assert len(PapersJob(["all"]).jobs()) == len(SOURCES)


def test_a_verdict_on_another_model_is_never_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "RESULTS", tmp_path / "results.json")
    with pytest.raises(InputError, match="is not the paper's recorded one"):
        run_paper("negative-bias", Scale(model="tiny"), record=True, out=tmp_path / "out")
    assert not (tmp_path / "out").exists(), "it is said before the work"
    with pytest.raises(InputError, match="is not the paper's recorded one"):
        PapersJob(["negative-bias"], record=True, out=tmp_path, model="tiny").plan()
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match="is not the paper's recorded one"):
        record(an_outcome(key="negative-bias", model="tiny"), Scale())


def test_a_claim_is_measured_on_a_model_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = secondary_sinks.pieces_of
    monkeypatch.setattr(secondary_sinks, "pieces_of", lambda model, text, count: cut(model, text, 64 * count)[:count])
    monkeypatch.setattr(secondary_sinks, "DRAWS", 1)
    outcome = paper("secondary-sinks").reproduce(Scale(seeds=(0,), model="tiny"))
    assert outcome.to_json()["model"] == "tiny"
    assert set(outcome.primary) == set(secondary_sinks.PRIMARY)
    assert outcome.verdict == "inconclusive", "one seed decides nothing"
