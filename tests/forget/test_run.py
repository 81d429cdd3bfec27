"""A forgetting run: what it checks, when it stops, what it refuses, what it keeps."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import letheon
from letheon.core.atomic import read_json, write_json
from letheon.core.errors import InputError, TrainingError
from letheon.core.model.families import family_model
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.runs import Run
from letheon.core.training.checkpoints import checkpoints
from letheon.core.training.settings import TrainSettings
from letheon.forget import recipe_job
from letheon.forget import run as running
from letheon.forget.recipe import Recipe
from letheon.forget.recipe_job import COLLAPSED, collapsed, make_pairs
from letheon.forget.request import Request
from letheon.forget.run import default_method, forget, resume
from letheon.forget.saving import model_card
from letheon.forget.settings import ForgetSettings, resolve
from letheon.forget.updates.joint import Joint
from letheon.testing.kills import Killed, killed_before_step
from tests import naive

QUICK: dict[str, Any] = {"device": "cpu", "precision": "float32", "learning_rate": 1e-3, "batch_size": 4}


def test_the_room_can_be_called(deletion: Request) -> None:
    assert letheon.forget("tiny", deletion, "gradient_ascent", steps=1, **QUICK).outcome.steps == 1


def test_a_run_leaves_its_settings_metrics_request_model_and_result(deletion: Request, tmp_path: Path) -> None:
    result = forget("tiny", deletion, "npo", out=tmp_path / "run", steps=2, **QUICK)
    folder = tmp_path / "run"
    assert result.folder == folder
    stored = json.loads((folder / "config.json").read_text())
    assert stored["config"]["recipe"]["objective"]["beta"] == 0.1
    assert stored["config"]["training"]["learning_rate"] == 1e-3
    assert "torch" in stored["versions"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line.get("stopped")) for line in lines] == [(1, None), (2, "all steps done")]
    assert lines[0]["forget_nll"] == result.outcome.history[0]["forget_nll"]
    assert Request.read(folder / "request.json").forget == deletion.forget
    assert json.loads((folder / "result.json").read_text())["moved"] == result.moved
    assert load(folder / "model").parameters_hash() == result.model.parameters_hash()
    assert "Approximate unlearning is not proof of erasure" in (folder / "model" / "README.md").read_text()


def test_the_default_drops_the_null_space_where_it_cannot_work(
    deletion: Request, caplog: pytest.LogCaptureFixture
) -> None:
    def chosen(model: Any, request: Request | None, **options: Any) -> str:
        return str(default_method(model, request, options=options))

    for request in (deletion, None):  # None: the model writes the retain rows
        assert chosen("tiny", request) == "alternates+null_space@mlp"
    assert chosen("tiny", replace(deletion, retain=())) == "alternates@mlp"
    assert chosen("tiny", deletion, optimizer="adamw8bit") == "alternates@mlp"  # whose states are not left alone
    assert chosen("tiny", deletion, shard="on") == "alternates+null_space@mlp"
    assert chosen(family_model("gpt2"), deletion, shard="on") == "alternates@mlp"  # whose matrices lie the other way
    assert "the default here is alternates@mlp: " in caplog.text
    assert str(default_method("tiny", deletion, tokens="value")) == "alternates:tokens=value+null_space@mlp"
    assert chosen(family_model("mixtral"), deletion) == "alternates@mlp"


def test_a_run_without_a_method_is_one_of_the_default(deletion: Request, tmp_path: Path) -> None:
    given = forget("tiny", deletion, out=tmp_path / "run", steps=1, **QUICK)
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["method"] == "alternates+null_space@mlp"
    named = forget("tiny", deletion, "alternates+null_space@mlp", steps=1, **QUICK)
    assert given.model.parameters_hash() == named.model.parameters_hash()


def test_without_a_folder_nothing_is_written(deletion: Request, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    forget("tiny", deletion, "npo", steps=1, **QUICK)
    assert not list(tmp_path.iterdir())


def test_the_model_that_was_given_is_changed_and_every_weight_can_train_again(
    tiny: LanguageModel, deletion: Request
) -> None:
    result = forget(tiny, deletion, "npo@layers=2-", steps=1, **QUICK)
    assert result.model is tiny
    assert tiny.frozen is None
    assert all(parameter.requires_grad for parameter in tiny.model.parameters())


def test_frozen_layers_give_the_weights_of_a_run_without_them(
    deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights() -> list[torch.Tensor]:
        model = forget("tiny", deletion, "npo@layers=2-", steps=1, **QUICK).model
        return [parameter.detach() for parameter in model.model.parameters()]

    cached = weights()
    monkeypatch.setattr(recipe_job, "LARGEST_CACHE", 0)
    plain = weights()
    # Adam's first step is +-lr whatever the gradient's size: entries near zero may flip under rounding
    agree = [float(((a - b).abs() < 1e-6).float().mean()) for a, b in zip(cached, plain, strict=True)]
    assert min(agree) > 0.99


def test_epochs_become_steps(deletion: Request) -> None:
    assert forget("tiny", deletion, "gradient_ascent", epochs=2, **QUICK).outcome.steps == 4
    rounded_up = {**QUICK, "batch_size": 5}
    assert forget("tiny", deletion, "gradient_ascent", epochs=2, **rounded_up).outcome.steps == 4


# Stopping -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "verdict"),
    [
        ([{"retain_loss": 1.0}] * 2 + [{"retain_loss": 9.0}] * 3, True),
        ([{"retain_loss": 1.0}] * 2 + [{"retain_loss": 9.0}] * 2, False),  # two steps are no collapse
        ([{"retain_loss": 1.0}] + [{"retain_loss": 3.9}] * 3, False),  # below 4 nats
        ([{"retain_loss": 6.0}] + [{"retain_loss": 8.9}] * 3, False),  # bad from the start, not 3 worse
        ([{"forget_nll": 11.1}] * 3, True),  # above twice a uniform guess
        ([{"forget_nll": 10.9}] * 3, False),
        ([{}] * 3, False),
        ([{"forget_nll": 20.0, "retain_loss": 0.1, "forget_rows": 1}] * 3, False),
    ],
)
def test_collapse_is_three_steps_of_a_broken_model(history: list[dict[str, float]], verdict: bool) -> None:
    assert collapsed(history, uniform=5.5) is verdict


def test_a_run_that_collapses_stops_and_says_so(deletion: Request) -> None:
    options = {**QUICK, "learning_rate": 0.05, "batch_size": 8}
    result = forget("tiny", deletion, "gradient_ascent", steps=60, **options)
    assert result.outcome.stopped == COLLAPSED
    assert result.outcome.steps < 60
    assert any("damaged, not forgotten" in warning for warning in result.warnings)
    whole = forget("tiny", deletion, "gradient_ascent", steps=result.outcome.steps + 1, collapse=False, **options)
    assert whole.outcome.steps == result.outcome.steps + 1


def test_control_ends_once_the_facts_are_as_improbable_as_under_unknown_subjects(
    deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe_job, "control_probability", lambda model, rows: [0.5, None, 0.9])
    result = forget("tiny", deletion, "npo:tokens=value", steps=20, stop="control", least_steps=3, **QUICK)
    assert result.outcome.steps == 3  # at random weights every fact is improbable, but three steps were asked for
    assert result.outcome.stopped.startswith("control level reached")
    assert all(row.value for row in result.request.forget)


def test_control_without_a_level_takes_all_steps_and_says_so(deletion: Request) -> None:
    bare = Request(forget=(Example("What is it?", "A thing.", value="thing"),), retain=deletion.retain)
    result = forget("tiny", bare, "npo:tokens=value", steps=2, stop="control", **QUICK)
    assert result.outcome.steps == 2
    assert any("no control level" in warning for warning in result.warnings)


def test_the_words_that_carry_the_fact_can_be_all_that_is_forgotten(deletion: Request) -> None:
    """With `tokens=words` a row without a value is masked word by word, with one it is the value's tokens."""
    bare = Request(tuple(replace(row, value=None) for row in deletion.forget), deletion.retain)
    by_words = forget("tiny", bare, "npo:tokens=words", steps=1, **QUICK).outcome.history[0]
    whole = forget("tiny", bare, "npo", steps=1, **QUICK).outcome.history[0]
    assert by_words["forget_nll"] != whole["forget_nll"]
    assert by_words["keep_nll"] > 0
    given = [forget("tiny", deletion, f"npo:tokens={name}", steps=1, **QUICK) for name in ("words", "value")]
    assert given[0].outcome.history == given[1].outcome.history


def test_control_without_fact_spans_is_refused(deletion: Request) -> None:
    for recipe in ("npo", "rmu:layer=2"):
        with pytest.raises(InputError, match="tokens that carry the fact"):
            forget("tiny", deletion, recipe, steps=2, stop="control", **QUICK)


def test_settings_that_would_do_nothing_are_refused(deletion: Request) -> None:
    for wrong in ({"epochs": 0}, {"steps": -3}, {"stop": "nonsense"}, {"schedule": "bogus"}, {"learning_rate": 1e400}):
        with pytest.raises(InputError):
            forget("tiny", deletion, "npo", **wrong)


def test_what_is_found_out_late_is_refused_before_anything_is_written(deletion: Request, tmp_path: Path) -> None:
    for recipe in ("npo@layers=20-", "rmu:layer=30"):
        with pytest.raises(InputError):
            forget("tiny", deletion, recipe, out=tmp_path / "run", steps=2, **QUICK)
        assert not (tmp_path / "run").exists()


def test_a_run_leaves_the_hidden_folders_of_its_place_alone(deletion: Request, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    forget("tiny", deletion, "npo", out=tmp_path, steps=1, **QUICK)
    assert (tmp_path / ".git").is_dir()


def test_a_model_with_other_weights_is_not_resumed(deletion: Request, tmp_path: Path) -> None:
    forget("tiny", deletion, "npo", out=tmp_path / "run", steps=2, checkpoint_steps=1, **QUICK)
    other = load("tiny", device="cpu")
    with torch.no_grad():
        next(iter(other.model.parameters())).add_(1e-3)
    settings = resume_settings(tmp_path / "run")
    with pytest.raises(InputError, match="other weights"):
        forget(other, deletion, "npo", out=tmp_path / "run", resume=True, **settings)


def resume_settings(folder: Path) -> dict[str, object]:
    """The stored settings of a run, as `forget` takes them."""
    config = Run.open(folder).config
    return {"settings": ForgetSettings(**config["settings"]), "training": TrainSettings(**config["training"])}


# No silent failures -------------------------------------------------------------------------------------------------


def test_a_run_that_moves_nothing_is_an_error(deletion: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Joint, "step", lambda self, loop, objective, pairs: {"loss": 0.0})
    with pytest.raises(TrainingError, match="no weight moved"):
        forget("tiny", deletion, "npo", steps=2, **QUICK)


def test_no_retain_rows_is_a_warning(deletion: Request) -> None:
    result = forget("tiny", Request(forget=deletion.forget), "npo", steps=1, **QUICK)
    assert any("no retain rows" in warning for warning in result.warnings)


def poison(monkeypatch: pytest.MonkeyPatch, number: int, from_step: int) -> None:
    """Make a row's loss NaN from a step on."""
    from letheon.forget.objectives import npo

    original = npo.NPO.terms

    def terms(self: Any, model: LanguageModel, pair: Any) -> Any:
        found = original(self, model, pair)
        if pair.step >= from_step and pair.forget is not None and number in pair.forget.index.tolist():
            found.forget = found.forget * math.nan
        return found

    monkeypatch.setattr(npo.NPO, "terms", terms)


@pytest.mark.parametrize("update", ["joint", "geometric"])
def test_a_loss_that_is_not_finite_names_its_row_and_keeps_the_last_good_state(
    update: str, deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = forget("tiny", deletion, f"npo+{update}%cyclic", steps=3, **QUICK).model.parameters_hash()
    poison(monkeypatch, number=5, from_step=3)
    with pytest.raises(TrainingError, match=r"loss is not finite at step 3 \(forget row forget-5\)"):
        forget("tiny", deletion, f"npo+{update}%cyclic", out=tmp_path / "run", steps=6, **QUICK)
    kept = checkpoints(Run(tmp_path / "run"))
    assert [folder.name for folder in kept] == ["step-000003"]
    monkeypatch.undo()
    run_config = Run(tmp_path / "run").config
    assert run_config["settings"]["steps"] == 6
    from safetensors.torch import load_file

    model = load("tiny", device="cpu")
    model.model.load_state_dict(load_file(kept[0] / "weights.safetensors"), strict=False)
    assert model.parameters_hash() == good


def test_a_gradient_that_is_not_finite_moves_nothing(deletion: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    from letheon.forget.objectives import npo

    original = npo.NPO.terms

    def terms(self: Any, model: LanguageModel, pair: Any) -> Any:
        found = original(self, model, pair)
        if found.forget is not None:
            found.forget = found.forget + (0 * found.forget).abs().sqrt()  # zero, with an infinite slope
        return found

    monkeypatch.setattr(npo.NPO, "terms", terms)
    model = load("tiny", device="cpu")
    before = model.parameters_hash()
    with pytest.raises(TrainingError, match="gradient's norm is not finite at step 0"):
        forget(model, deletion, "npo", steps=2, **QUICK)
    assert model.parameters_hash() == before


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("npo", {"stepz": 3}, "stepz"),
        ("npo", {"learning_rate": -1.0}, "learning_rate: found -1.0"),
        ("npo", {"batch_size": 0}, "batch_size: found 0"),
    ],
)
def test_options_that_cannot_be_are_refused_before_a_model_is_loaded(
    method: str, options: dict[str, Any], message: str, deletion: Request
) -> None:
    with pytest.raises(InputError, match=message):
        forget("no/such/model", deletion, method, **options)


@pytest.mark.parametrize("method", ["rmu", "npo+geometric"])
def test_methods_that_need_retain_rows_say_so_before_a_model_is_loaded(method: str, deletion: Request) -> None:
    with pytest.raises(InputError, match=r"needs? retain rows"):
        forget("no/such/model", Request(forget=deletion.forget), method)


def test_rows_longer_than_the_context_are_refused(deletion: Request) -> None:
    long = Request(forget=(Example("long?", "x" * 2000, id="endless"),), retain=deletion.retain)
    with pytest.raises(InputError, match=r"forget row endless: \d+ tokens, the model's context has 1024"):
        forget("tiny", long, "npo", steps=1, **QUICK)


def test_a_value_that_is_not_in_its_answer_is_refused(deletion: Request) -> None:
    wrong = Request(forget=(Example("q?", "answer", id="odd", value="else"),), retain=deletion.retain)
    with pytest.raises(InputError, match="row odd: value 'else' is not in the answer"):
        forget("tiny", wrong, "npo", steps=1, **QUICK)


def test_a_used_folder_is_refused_and_a_bad_resume_says_what_differs(deletion: Request, tmp_path: Path) -> None:
    out = tmp_path / "run"
    forget("tiny", deletion, "npo", out=out, steps=1, **QUICK)
    with pytest.raises(InputError, match="already holds a run"):
        forget("tiny", deletion, "npo", out=out, steps=1, **QUICK)
    with pytest.raises(InputError, match="another method"):
        forget("tiny", deletion, "simnpo", out=out, steps=1, resume=True, **QUICK)
    with pytest.raises(InputError, match="another settings"):
        forget("tiny", deletion, "npo", out=out, steps=2, resume=True, **QUICK)
    with pytest.raises(InputError, match="another training"):
        forget("tiny", deletion, "npo", out=out, steps=1, resume=True, **{**QUICK, "batch_size": 2})
    with pytest.raises(InputError, match="another model"):
        forget("smollm2", deletion, "npo", out=out, steps=1, resume=True, **QUICK)
    other = Request(forget=deletion.forget[:4], retain=deletion.retain)
    with pytest.raises(InputError, match="other rows"):
        forget("tiny", other, "npo", out=out, steps=1, resume=True, **QUICK)
    with pytest.raises(InputError, match="holds no run"):
        resume(tmp_path)


def test_a_finished_run_resumes_to_the_same_weights(deletion: Request, tmp_path: Path) -> None:
    first = forget("tiny", deletion, "npo", out=tmp_path / "run", steps=3, checkpoint_steps=1, **QUICK)
    again = resume(tmp_path / "run", device="cpu")
    assert again.model.parameters_hash() == first.model.parameters_hash()
    assert again.outcome.steps == first.outcome.steps
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 3, "nothing is trained again"


def test_a_run_of_an_earlier_version_resumes_with_the_defaults_of_what_came_later(
    deletion: Request, tmp_path: Path
) -> None:
    unbroken = forget("tiny", deletion, "npo", steps=3, **QUICK)
    with killed_before_step(2), pytest.raises(Killed):
        forget("tiny", deletion, "npo", out=tmp_path / "run", steps=3, checkpoint_steps=1, **QUICK)
    config = read_json(tmp_path / "run/config.json")
    for name in ("shard", "gradient_checkpointing"):
        del config["config"]["training"][name]
    write_json(tmp_path / "run/config.json", config)
    assert resume(tmp_path / "run", device="cpu").model.parameters_hash() == unbroken.model.parameters_hash()


def test_a_run_that_is_killed_while_the_model_loads_has_written_nothing(
    deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(running, "load_placed", kill)
        with pytest.raises(Killed):
            forget("tiny", deletion, "npo", out=tmp_path / "run", steps=2, **QUICK)
    assert not (tmp_path / "run").exists()
    assert forget("tiny", deletion, "npo", out=tmp_path / "run", steps=2, **QUICK).outcome.steps == 2


def test_a_run_of_a_version_with_other_defaults_is_not_resumed(deletion: Request, tmp_path: Path) -> None:
    """It would go on with the new ones, to weights of neither version."""
    with killed_before_step(2), pytest.raises(Killed):
        forget("tiny", deletion, "npo", out=tmp_path / "run", steps=3, checkpoint_steps=1, **QUICK)
    config = read_json(tmp_path / "run/config.json")
    objective = config["config"]["recipe"]["objective"]
    for changed, refused in (({**objective, "beta": 0.3}, True), ({"name": objective["name"]}, False)):
        config["config"]["recipe"]["objective"] = changed
        write_json(tmp_path / "run/config.json", config)
        if refused:
            with pytest.raises(InputError, match=r"defaults were others: npo:beta=0\.3"):
                resume(tmp_path / "run", device="cpu")
        else:
            assert resume(tmp_path / "run", device="cpu").outcome.steps == 3, "an option that came later"


def test_rows_that_name_no_id_still_resume(tmp_path: Path) -> None:
    request = Request(forget=(Example("Who?", "She."),), retain=(Example("", "Running text stays."),))
    forget("tiny", request, "npo", out=tmp_path / "run", steps=1, **QUICK)
    assert resume(tmp_path / "run", device="cpu").outcome.steps == 1


# Pieces -------------------------------------------------------------------------------------------------------------


def test_every_micro_batch_knows_the_counts_of_the_whole(tiny: LanguageModel, deletion: Request) -> None:
    rows = naive.rows_of(tiny, deletion)
    pairs = make_pairs(rows, ([0, 1, 2], [3, 4, 5, 6]), size=2, processes=1, step=7)
    assert [len(pair.forget or []) for pair in pairs] == [2, 1]
    assert {pair.forget.totals["rows"] for pair in pairs if pair.forget} == {3}
    assert {pair.retain.totals["rows"] for pair in pairs if pair.retain} == {4}
    assert {pair.step for pair in pairs} == {7}


def test_the_model_card_tells_the_method_and_not_the_rows(tiny: LanguageModel, deletion: Request) -> None:
    card = model_card(tiny, Recipe.parse("npo"), deletion)
    assert "`npo`" in card
    assert not any(row.prompt in card or row.answer in card for row in deletion.forget)


def test_single_options_settings_and_defaults_have_that_order() -> None:
    settings, training = resolve(Recipe.parse("npo"), ForgetSettings(steps=9), None, {"steps": 4, "seed": 2})
    assert (settings.steps, settings.epochs, training.seed) == (4, 10, 2)
