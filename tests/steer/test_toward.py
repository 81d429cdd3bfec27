"""Every method moves toward the wanted texts and not away from them, and controls and judges are what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.rows.examples import Example
from letheon.jobs.steer import BakeSteering, Chat, ExportSteering, FitSteering
from letheon.probe.linear_probes import site_states, token_states
from letheon.steer.apply import steered
from letheon.steer.bake import bake
from letheon.steer.curve import CurveSettings, measure_curve, state_classifier, text_perplexity, word_classifier
from letheon.steer.maps import OFF, ON, Displacement, Switch
from letheon.steer.method import fit
from letheon.steer.methods.austeer import chance_level, signed_scores
from letheon.steer.methods.lineas import transport_loss
from letheon.steer.methods.logistic import regression_direction
from letheon.steer.methods.moral_direction import MoralDirection, MoralFilter, encoder_of
from letheon.steer.methods.mote import expert_maps
from letheon.steer.methods.pca import principal_direction
from letheon.steer.methods.refusal_tokens import calibrate
from letheon.steer.steering import Shape, Steering
from letheon.steer.texts import Contrast, token_rows
from tests.steer.models import contrast, family


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Files of the texts of both kinds."""
    paths = tmp_path / "good.txt", tmp_path / "bad.txt"
    for path, rows in zip(paths, (contrast().toward, contrast().away), strict=True):
        path.write_text("\n".join(row.answer for row in rows))
    return paths


def test_the_files_of_the_command_line_are_not_exchanged(
    tiny: LanguageModel, files: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "made.safetensors"
    FitSteering("tiny", *files, out, "mean_difference:layers=1", device="cpu").work()
    site = Site(1)
    good, bad = (site_states(tiny, token_rows(tiny, rows), [site])[0] for rows in (contrast().toward, contrast().away))
    shift = Steering.load(out).maps[site].shift
    torch.testing.assert_close(shift, good.mean(0) - bad.mean(0), atol=1e-5, rtol=1e-4)
    pairs = [float(one @ shift) > float(other @ shift) for one in good for other in bad]
    assert fit(tiny, contrast(), "mean_difference:layers=1").facts["separation"] == {"1": sum(pairs) / len(pairs)}


def test_directions_point_to_the_wanted_texts_before_they_are_scaled() -> None:
    draw = torch.Generator().manual_seed(0)
    good, bad = torch.randn(2, 20, 6, generator=draw).unbind()
    good[:, 3] += 4
    assert float(principal_direction(good, bad)[3]) > 0.8
    direction = regression_direction(good, bad, 0.1)
    assert float(direction[3]) == float(direction.abs().max())


@pytest.mark.oracle("linear_act")
@pytest.mark.oracle("lineas")
@pytest.mark.parametrize("method", ["linear_act", "linear_act:causal=false", "lineas:steps=20,learning_rate=0.02"])
def test_affine_maps_carry_the_unwanted_texts_to_the_wanted_ones(method: str, tiny: LanguageModel) -> None:
    texts, sites = contrast(), [Site(layer, "mlp_input") for layer in range(4)]
    states = site_states(tiny, token_rows(tiny, texts.toward), sites, position="mean")
    target = dict(zip(sites, states, strict=True))
    made = fit(tiny, texts, method)
    nothing = {site: (torch.zeros(64), torch.zeros(64)) for site in sites}
    maps = {site: (one.gain, one.shift) for site, one in made.maps.items()}
    rows = token_rows(tiny, texts.away)
    assert float(transport_loss(tiny, maps, target, rows)) < 0.7 * float(transport_loss(tiny, nothing, target, rows))


@pytest.mark.oracle("linear_act")
def test_maps_that_see_the_maps_below_give_every_layer_the_wanted_mean(tiny: LanguageModel) -> None:
    texts, sites = contrast(), [Site(layer, "mlp_input") for layer in range(4)]
    wanted = site_states(tiny, token_rows(tiny, texts.toward), sites, position="mean").mean(1)
    with steered(tiny, fit(tiny, texts, "linear_act")):
        given = site_states(tiny, token_rows(tiny, texts.away), sites, position="mean").mean(1)
    torch.testing.assert_close(given, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.oracle("austeer")
def test_units_grow_whose_activation_is_larger_in_the_wanted_text(tiny: LanguageModel) -> None:
    sites = [Site(layer, "heads") for layer in range(4)]
    good, bad = (site_states(tiny, token_rows(tiny, rows), sites) for rows in (contrast().toward, contrast().away))
    signed = signed_scores(good, bad)
    made = fit(tiny, contrast(), "austeer:k=5,alpha=2")
    for site, one in made.maps.items():
        chosen = one.gain != 0
        torch.testing.assert_close(one.gain[chosen], 2 * signed[site.layer][chosen])


def test_the_chance_level_is_that_of_exchanged_pairs() -> None:
    positive, negative = torch.ones(2, 12, 3), torch.zeros(2, 12, 3)
    assert float(signed_scores(positive, negative).abs().max()) == 1.0
    assert 0.5 <= chance_level(positive, negative) < 0.9, "every unit differs alike: chance is the share of exchanges"


@pytest.mark.oracle("mote")
@pytest.mark.parametrize("action", ["off", "on"])
def test_experts_of_the_unwanted_texts_go_off_and_those_of_the_wanted_ones_on(action: str) -> None:
    model, texts = family("Mixtral"), contrast()
    good, bad = (expert_maps(model, token_rows(model, rows)).mean(0) for rows in (texts.toward, texts.away))
    difference = bad - good if action == "off" else good - bad
    made = fit(model, texts, f"mote:experts=2,action={action}")
    best = difference.flatten().topk(2).values.tolist()
    chosen = made.facts["experts"]
    assert [one["difference"] for one in chosen] == pytest.approx(best)
    for one in chosen:
        assert float(difference[one["layer"], one["expert"]]) == pytest.approx(one["difference"])
        assert int(made.switches[one["layer"]].table[one["expert"]]) == (OFF if action == "off" else ON)


def letters(texts: Sequence[str]) -> np.ndarray:
    """A toy encoder: the number of a's less that of z's."""
    return np.array([[text.count("a") - text.count("z")] for text in texts], dtype=float)


@pytest.mark.oracle("moral-direction")
def test_the_filter_scores_the_whole_text_and_drops_the_low_ones(tiny: LanguageModel) -> None:
    direction = MoralDirection(np.zeros(1), np.ones((1, 1)), 1.0, 1.0, np.ones(1))
    before, after = (tiny.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("zz", "abz"))
    scores = torch.full((1, tiny.vocabulary), -9.0)
    scores[0, after] = 1.0
    filtered = MoralFilter(direction, letters, tiny.tokenizer, -1.5, top_k=3, top_p=1.1, least=0)
    left = filtered(torch.tensor([before]), scores)[0].isfinite().nonzero().flatten().tolist()
    assert left == [after[0]], "zza has -1, zzb -2 and zzz -3; alone, b would pass"


def test_an_encoder_leaves_the_first_token_out(tiny: LanguageModel) -> None:
    ids = tiny.tokenizer("kind", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        states = tiny.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[3][0]
    torch.testing.assert_close(torch.from_numpy(encoder_of(tiny, 2)(["kind"])[0]), states[1:].mean(0))
    torch.testing.assert_close(token_states(tiny, [ids])[2, 0], states[-1])


def test_random_switches_are_as_many_in_other_places() -> None:
    table = torch.tensor([OFF, OFF, 0, 0, 0, ON])
    made = Steering({}, Shape.of(family("Mixtral")), "by hand", {1: Switch(table)})
    drawn = [made.random_like(seed).switches[1].table for seed in range(6)]
    assert all(sorted(one.tolist()) == sorted(table.tolist()) for one in drawn)
    assert sum(torch.equal(one, table) for one in drawn) < 3


def test_a_curve_s_judge_is_unsteered_its_perplexity_steered_and_its_random_arms_random(tiny: LanguageModel) -> None:
    made, prose = fit(tiny, contrast(), "mean_difference"), ["A cat sat."]
    settings = CurveSettings((40.0,), random=1, max_new_tokens=4)
    curve = measure_curve(tiny, [made], contrast(), prompts=["Hi", "Why?"], neutral=prose, settings=settings)
    plain, moved = curve.points
    classify, _ = state_classifier(tiny, contrast())
    assert moved.rates == pytest.approx(tuple(classify(moved.answers)))
    assert plain.perplexity == pytest.approx(text_perplexity(tiny, prose))
    with steered(tiny, made, 40.0):
        assert moved.perplexity == pytest.approx(text_perplexity(tiny, prose))
        assert classify(moved.answers) != pytest.approx(list(moved.rates)), "a steered judge would say something else"
    assert curve.random[0][1].kl != pytest.approx(moved.kl)


def test_a_judge_is_tested_on_texts_that_it_was_not_fitted_on() -> None:
    texts = Contrast(*([Example("", f"{kind}{one}x {one}{kind}") for one in "abcdefgh"] for kind in "pq"))
    classify, accuracy = word_classifier(texts)
    assert min(classify([row.answer for row in texts.toward])) > 0.5 > max(classify([r.answer for r in texts.away]))
    assert accuracy <= 0.6, "no word of a text occurs in another"


def test_a_wanted_rate_of_refusals_of_none_or_all() -> None:
    probabilities, refusals = [0.1, 0.2, 0.6, 0.9], [False, False, True, True]
    shares = [np.mean(np.array(probabilities) >= calibrate(probabilities, refusals, rate=rate)) for rate in (0, 0.5, 1)]
    assert shares == [0.0, 0.5, 1.0]


def test_strengths_that_are_not_one_or_one_per_file_are_refused(
    tiny: LanguageModel, files: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "made.safetensors"
    FitSteering("tiny", *files, out, "pca:layers=1", device="cpu").work()
    for job in (BakeSteering("tiny", (out,), tmp_path / "m", (1.0, 2.0)).plan, Chat("tiny", (out,), (1.0, 2.0)).open):
        with pytest.raises(InputError, match="2 strengths for 1 steerings"):
            job()
    with pytest.raises(InputError, match="2 strengths for 1 steerings"):
        bake(tiny, [Steering.load(out)], [1.0, 2.0])
    first = Steering({Site(0): Displacement(shift=torch.ones(64))}, Shape.of(tiny), "by hand")
    first.save(tmp_path / "first.safetensors")
    with pytest.raises(InputError, match="layer 0"):
        ExportSteering(tmp_path / "first.safetensors", tmp_path / "first.gguf").plan()
