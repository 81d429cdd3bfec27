"""Paper `hyperattention`: passages, the reading of one, the timing of both sides, and how parts make a verdict."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.papers import hyperattention
from letheon.papers.hyperattention import (
    APART,
    CHARACTERS,
    LENGTHS,
    WINDOW,
    Reading,
    Seconds,
    contenders,
    passage,
    read,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale

ROOT = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
PROSE = ROOT / "public_domain_text"
needs_prose = pytest.mark.skipif(not PROSE.is_dir(), reason=f"prose not found in {PROSE}: set LETHEON_DATA")


def timed(*ratios: tuple[float, float, float]) -> dict[int, dict[int, Seconds]]:
    """A seed for each: how often ours fits into exact attention at each length."""
    lengths = [dict(zip(LENGTHS, one, strict=True)) for one in ratios]
    return {seed: {n: Seconds(r, 1.0, 1.0) for n, r in one.items()} for seed, one in enumerate(lengths)}


def reading(error: float, worse: float, window: float = 0.09) -> Reading:
    errors = {"hyper": [error, error / 2, 2 * error], WINDOW: [window] * 3, "mean of V": [1.0, 1.0, 1.0]}
    return Reading(errors, 20.0, 20.0 * worse)


GOOD = timed((1.5, 4.5, 15.0), (1.6, 4.9, 16.0), (1.4, 4.4, 14.0))
TRUE = {0: reading(0.06, 1.02), 1: reading(0.07, 1.03), 2: reading(0.065, 1.02)}


@pytest.mark.parametrize(
    ("times", "readings", "verdict"),
    [
        (GOOD, TRUE, "holds"),
        (timed((1.5, 4.5, 4.0), (1.6, 4.9, 4.2), (1.4, 4.4, 3.8)), TRUE, "fails"),  # slower than claimed
        (timed((0.5, 4.5, 15.0), (0.6, 4.9, 16.0), (0.4, 4.4, 14.0)), TRUE, "fails"),  # slower where the error is known
        (GOOD, {i: reading(0.06 + i / 1000, 1.02 + i / 1000, window=0.04) for i in range(3)}, "fails"),  # window better
        (GOOD, {0: reading(0.2, 1.02), 1: reading(0.22, 1.03), 2: reading(0.21, 1.02)}, "fails"),
        (GOOD, {0: reading(0.06, 1.3), 1: reading(0.07, 1.4), 2: reading(0.06, 1.5)}, "fails"),
        (GOOD, {0: reading(0.06, 1.02)}, "inconclusive"),
    ],
)
def test_the_claim_needs_speed_growth_error_and_perplexity(times: object, readings: object, verdict: str) -> None:
    result = Findings()
    hyperattention.judge(times, readings, result)  # type: ignore[arg-type]
    assert len(result.parts) == 5
    assert result.verdict == verdict
    assert set(result.parts) == set(hyperattention.PRIMARY) <= set(result.measured)


def test_figures_and_rows_name_every_contender() -> None:
    drawn = hyperattention.figures(GOOD, TRUE)
    assert set(drawn) == {"seconds", "errors"}
    assert all(svg.startswith("<svg") for svg in drawn.values())
    assert "mean of V" in drawn["errors"]
    found = hyperattention.rows(GOOD, TRUE)
    assert len(found) == 3 * 3 + 3 * 3
    assert found[0] == {"seed": 0, "tokens": 8192, "exact_s": 1.5, "hyper_s": 1.0, "ratio": 1.5, "window_s": 1.0}


def test_both_sides_are_timed_on_the_same_tensors_and_ours_is_approximate() -> None:
    both = hyperattention.seconds(256, seed=0)
    assert both.exact > 0
    assert both.ratio == both.exact / both.hyper
    assert both.window > 0
    q, k, v = (torch.randn(1, 1, 4096, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert not torch.allclose(hyperattention.hyper_attend(0)(q, k, v), exact, atol=1e-4)


@needs_prose
def test_passages_of_different_seeds_do_not_overlap_nor_meet_the_one_that_settings_were_chosen_on(
    tiny: LanguageModel,
) -> None:
    assert APART >= CHARACTERS
    assert hyperattention.STARTS[1] >= 60_000
    found = [passage(tiny, PROSE, seed) for seed in range(5)]
    assert {len(ids) for ids in found} == {tiny.context_length}
    assert len({tuple(ids[:100].tolist()) for ids in found}) == 5


def test_a_reading_has_every_contender_and_leaves_the_model_exact(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hyperattention, "FIRST", 8)
    ids = torch.randint(3, 250, (300,), generator=torch.Generator().manual_seed(0))
    found = read(tiny, ids, 0, beside=True)
    assert list(found.errors) == list(contenders(300, 0, True))
    assert {len(layers) for layers in found.errors.values()} == {4}
    # 300 tokens are below min_seq_len: exact, in the error and in the model
    assert max(found.errors["hyper"]) < 1e-6
    assert found.patched == pytest.approx(found.exact)
    assert min(found.errors["mean of V"]) > 1e-3
    assert tiny.model.config._attn_implementation == "sdpa"


def test_without_the_texts_it_says_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LETHEON_DATA", raising=False)
    with pytest.raises(InputError, match="LETHEON_DATA"):
        hyperattention.reproduce(Scale(), Findings())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@needs_prose
def test_one_passage_is_measured_in_smollm2() -> None:
    from letheon.core.model.models import load

    model = load("smollm2", device="cpu")
    found = read(model, passage(model, PROSE, 0), 0, beside=False)
    assert len(found.errors["hyper"]) == 30
    assert found.patched / found.exact < hyperattention.PERPLEXITY
