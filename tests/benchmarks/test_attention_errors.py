"""The benchmark of errors at long lengths: exact rows by torch's own attention, known errors, stretched angles."""

from __future__ import annotations

import copy
import math
import statistics
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks import attention_errors as bench
from letheon.attend.errors import attention_norms, local_window, operator_errors, perplexity, window_pairs
from letheon.attend.far import Settings
from letheon.attend.hyper import MODEL
from letheon.core.model.models import LanguageModel, load


@pytest.mark.parametrize("causal", [True, False])
def test_some_queries_get_the_rows_of_exact_attention(causal: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, 90, 8, generator=draw) for heads in (4, 2, 2))
    places = torch.tensor([0, 3, 40, *range(50, 89)])
    whole = scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), is_causal=causal)
    assert torch.allclose(bench.exact_at(q, k, v, places, causal), whole[:, :, places], atol=1e-6)


def test_short_texts_have_no_error_and_a_mean_has_one(tiny: LanguageModel) -> None:
    """Where all methods are exact their errors are rounding, in every layer; what is handed on is then exact too."""
    ids = torch.randint(3, 250, (120,), generator=torch.Generator().manual_seed(0))
    found, surprise = bench.errors(tiny, ids, queries=40, seed=0)
    assert {len(layers) for layers in found.values()} == {tiny.model.config.num_hidden_layers}
    for name in ("hyper", "far", "window, pairs as hyper", "window, pairs as far", "hyper, no mask"):
        assert max(found[name]) < 1e-5
    assert min(found["mean of values, no mask"]) > 1e-3
    assert surprise == pytest.approx(perplexity(tiny, ids, every=8, first=90), rel=1e-4)
    row = bench.row_of(120, found, surprise)
    assert row["methods"]["far"]["pairs"] == pytest.approx(1.0)


@pytest.mark.parametrize("causal", [True, False])
def test_errors_in_the_operator_norm_are_those_of_whole_matrices(causal: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    q, k, v = (2 * torch.randn(1, heads, 90, 8, generator=draw) for heads in (4, 2, 2))
    keys, values = (x.repeat_interleave(2, 1) for x in (k, v))
    scores = q @ keys.mT / 8**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(90, 90, dtype=torch.bool).triu(1), -torch.inf)
    weights = scores.softmax(-1)
    norms = attention_norms(q, k, causal)
    assert torch.allclose(norms, torch.linalg.svdvals(weights)[0, :, 0], rtol=1e-3)
    out = torch.zeros_like(q)
    out[:, 1] = (weights @ values)[:, 1] + 0.1 * q[:, 1]
    found = operator_errors(out, weights @ values, v, norms)
    for head, wrong in enumerate([weights[0, 0] @ v[0, 0], 0.1 * q[0, 1], weights[0, 2] @ v[0, 1]]):
        scale = torch.linalg.svdvals(weights[0, head])[0] * torch.linalg.svdvals(values[0, head])[0]
        assert float(found[head]) == pytest.approx(float(torch.linalg.svdvals(wrong)[0] / scale), rel=1e-3)
    assert float(bench.by_operator(q, k, v, causal)(out)) == pytest.approx(float(found.median()), rel=1e-3)
    assert float(found.max()) <= 1 + 1e-3, "an output of zeros has at most one"


def test_errors_in_the_operator_norm_are_asked_for(tiny: LanguageModel) -> None:
    ids = torch.randint(3, 250, (120,), generator=torch.Generator().manual_seed(0))
    operators: dict[str, list[float]] = {}
    short = replace(MODEL, min_seq_len=16, block_size=8, sample_size=8, pin_first=2, pin_recent=2)
    found, surprise = bench.errors(tiny, ids, 40, 0, hyper=short, operators=operators)
    assert max(operators["far"]) < 1e-5
    assert min(operators["hyper"]) > 1e-4
    assert {len(layers) for layers in operators.values()} == {tiny.model.config.num_hidden_layers}
    row = bench.row_of(120, found, surprise, short, operators)
    assert row["methods"]["hyper"]["operator_error"] == statistics.median(operators["hyper"])
    assert row["methods"]["hyper"]["pairs"] < 0.9


def test_windows_and_choices_are_counted_as_they_are_computed() -> None:
    """A window shows each key to the queries that see it; the chunks are those that are scored."""
    n, width, pinned = 90, 13, 32
    q, k = torch.zeros(1, 1, n, 4), torch.zeros(1, 1, n, 4)
    seen = 0
    for key in range(n):
        value = torch.zeros(1, 1, n, 4)
        value[..., key, 0] = 1
        seen += int((local_window(width, pinned)(q, k, value)[..., 0] > 0).sum())
    assert seen == window_pairs(n, width, pinned)
    few = Settings(window=8, block=4, chunk=4, chosen=2, pin_first=4)
    # exact up to 24; then stretches of 8, 8 and 2 queries, which score 3, 5 and 7 chunks
    assert few.exact_up_to == 24
    assert bench.choice(42, few) == pytest.approx((8 * 3 + 8 * 5 + 2 * 7) / (42 * 43 / 2))


def test_angles_are_stretched_only_beyond_the_trained_length() -> None:
    model = load("tiny", device="cpu")
    trained = model.model.config.max_position_embeddings
    before = copy.deepcopy(model.model.config)
    bench.stretched(model, trained)
    assert model.model.config.rope_parameters == before.rope_parameters
    plain = model.model.model.rotary_emb.inv_freq.clone()
    bench.stretched(model, 4 * trained)
    config = model.model.config
    assert (config.max_position_embeddings, config.rope_parameters["factor"]) == (4 * trained, 4.0)
    assert model.model.model.rotary_emb.attention_scaling == pytest.approx(0.1 * math.log(4) + 1), "of q and of k"
    slower = model.model.model.rotary_emb.inv_freq / plain
    assert float(slower.min()) == pytest.approx(0.25, rel=1e-3), "the slowest angles by the factor"
    assert float(slower.max()) <= 1.0 + 1e-6
