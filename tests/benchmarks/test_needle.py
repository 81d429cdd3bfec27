"""The benchmark of needles: how prompts are made, how answers are judged, and what the control computes."""

from __future__ import annotations

import pytest
import torch
from benchmarks.needle import Found, Prompt
from torch.nn.functional import scaled_dot_product_attention

from benchmarks import needle
from letheon.attend.errors import local_window, window_pairs
from letheon.attend.far import FAR, Settings, far_pairs
from letheon.core.model.models import LanguageModel


def test_needles_stand_between_sentences_at_their_depths() -> None:
    text = "".join(f"Sentence number {i:03}. " for i in range(100))
    hidden = needle.hidden(text, ["FIRST", "SECOND"], [0.1, 0.9])
    assert hidden.replace("\n\nFIRST\n\n", "").replace("\n\nSECOND\n\n", "") == text
    assert hidden.index("FIRST") / len(hidden) == pytest.approx(0.1, abs=0.02)
    assert hidden.index("SECOND") / len(hidden) == pytest.approx(0.9, abs=0.02)
    assert hidden[hidden.index("FIRST") - 4 :].startswith(". \n\n")


def test_a_code_counts_if_every_token_is_the_likeliest(tiny: LanguageModel) -> None:
    ids = torch.randint(3, 250, (60,), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        likely = tiny.model(ids[None]).logits[0].argmax(-1)
        ids[41] = likely[40]  # a token that the model itself would say; nothing before it changes
        logp = tiny.model(ids[None]).logits[0].log_softmax(-1)
    prompt = Prompt(ids, [[41], [41, 42]], [0.1, 0.9])
    assert int(likely[41]) != int(ids[42])
    for attend in (None, local_window(60)):
        found = needle.ask(tiny, prompt, attend)
        assert found.hits == [1.0, 0.0]
        assert found.logp[1] == pytest.approx(float(logp[40, ids[41]] + logp[41, ids[42]]) / 2, abs=1e-4)


def test_prompts_are_clusters() -> None:
    share, logp = needle.summary([Found([1, 1, 1, 1], [-0.1, -0.3]), Found([0, 0, 0, 0], [-1.0, -1.0])])
    assert (share.value, share.n) == (0.5, 8)
    assert logp.value == pytest.approx(-0.6)
    assert share.high is not None
    assert share.high > 0.85  # two prompts that say opposite things, not eight codes


def test_random_chunks_are_exact_attention_if_there_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (torch.randn(1, heads, 110, 8, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2))
    wanted = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    for chosen, near in ((19, True), (5, False)):
        monkeypatch.setattr(needle, "FAR", Settings(window=16, block=8, chunk=4, chosen=chosen, pin_first=4))
        assert torch.allclose(needle.random_chunks(q, k, v), wanted, atol=1e-5) is near


@pytest.mark.parametrize("n", [4036, 8111])
def test_the_window_computes_as_many_pairs_as_far_attention(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(needle, "local_window", lambda *given: made.append(given))
    needle.arm("window and sinks", n)
    assert window_pairs(n, *made[0]) == pytest.approx(far_pairs(n, FAR), rel=1e-3)
