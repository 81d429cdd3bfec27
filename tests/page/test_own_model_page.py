"""A paper is run on the reader's own model where its claim allows it, and the verdict on record stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from letheon.core.model.models import load
from letheon.page.queue import Queue
from letheon.papers.catalogue import read_results

KEY = "negative-bias"


@pytest.fixture
def queue(client: TestClient) -> Queue:
    """The site's queue, which starts nothing."""
    queue: Queue = client.app.state.site.queue  # type: ignore[attr-defined]
    queue.close()
    return queue


def test_the_form_offers_models_where_the_claim_is_about_a_pretrained_one(client: TestClient) -> None:
    assert 'name="model"' not in client.get("/papers/gu").text
    page = client.get(f"/papers/{KEY}").text
    assert '<option value="smollm2">' in page
    assert "at the full scale; the fast one trains" not in page
    assert "at the full scale; the fast one trains" in client.get("/papers/reglu").text


def test_a_run_on_another_model_names_it(client: TestClient, token: str, queue: Queue, tmp_path: Path) -> None:
    model = load("tiny")
    (tmp_path / "mine").mkdir()
    model.save(tmp_path / "mine" / "small")
    client.app.state.site.folders = [tmp_path / "mine"]  # type: ignore[attr-defined]
    form = {"token": token, "seeds": "1", "model": "0/small"}
    assert client.post(f"/papers/{KEY}/run", data=form, follow_redirects=False).headers["location"] == "/runs/1"
    run = queue.run(1)
    assert run.command[-2:] == ["--model", str(tmp_path / "mine" / "small")]
    assert run.model == str(tmp_path / "mine" / "small")
    client.post(f"/papers/{KEY}/run", data={**form, "model": "smollm2"})
    assert "--model" not in queue.run(2).arguments
    assert queue.run(2).model == ""


@pytest.mark.parametrize(
    ("key", "form", "said"),
    [
        ("gu", {"model": "tiny"}, "trains models of its own"),
        ("reglu", {"model": "tiny"}, "At the fast scale this paper trains models of its own"),
        (KEY, {"model": "0/../../secret"}, "not offered"),
        (KEY, {"model": "someone/some-model"}, "not offered"),
        (KEY, {"model": "x" * 501}, "cannot be read"),
    ],
)
def test_a_model_that_has_no_place_is_refused(
    client: TestClient, token: str, queue: Queue, key: str, form: dict[str, str], said: str
) -> None:
    answer = client.post(f"/papers/{key}/run", data={"token": token, **form})
    assert (answer.status_code, queue.runs()) == (400, [])
    assert said in answer.text


def test_its_verdict_is_shown_as_on_that_model(client: TestClient, queue: Queue, tmp_path: Path) -> None:
    outcome = {**read_results()["uer"], "key": KEY, "verdict": "fails", "model": "my<model>"}
    number = queue.add("paper", KEY, ["papers", "run", KEY, "--model", "my<model>"])
    queue._set(number, state="done", started=1.0, ended=31.0)
    for folder in (queue.folder / str(number) / "out", tmp_path / "runs" / KEY):
        folder.mkdir(parents=True)
        (folder / "outcome.json").write_text(json.dumps(outcome))
    client.app.state.site.folders = [tmp_path / "runs"]  # type: ignore[attr-defined]
    page = client.get(f"/runs/{number}").text
    assert "on model <code>my&lt;model&gt;</code>" in page
    assert "The verdict differs" not in page
    assert "stays as it is" in page
    history = client.get(f"/papers/{KEY}").text.partition("Runs on this machine")[2]
    assert history.count("on model <code>my&lt;model&gt;</code>") == 2
