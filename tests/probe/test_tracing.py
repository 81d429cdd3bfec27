"""Causal tracing: where subjects stand, the three runs against plain hooks, a planted fact, the window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks, mlp
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.probe.tracing import Fact, fact_of, mentions, select_window, trace_mlps

pytestmark = pytest.mark.oracle("traced")
ROWS = [
    Example("Where does Ann Lee live?", "Ann Lee lives in Oslo.", subject="Ann Lee", value="Oslo"),
    Example("Where does Egon Falk live?", "In Bern.", subject="Egon Falk"),
]


def text_of(model: LanguageModel, fact: Fact, span: tuple[int, int]) -> str:
    return model.tokenizer.decode(fact.row.ids[span[0] : span[1]])


def test_every_mention_of_the_subject_is_found(tiny: LanguageModel) -> None:
    fact = fact_of(tiny, ROWS[0])
    assert [text_of(tiny, fact, span) for span in fact.spans] == ["Ann Lee", "Ann Lee"]
    assert fact.spans[0][1] < fact.row.start < fact.spans[1][1]
    assert mentions(tiny, fact.row.ids, "Cid Fox") == []


def test_letters_of_several_tokens_are_found_whole(tiny: LanguageModel) -> None:
    ids = tiny.encoder().encode(Example("Wo wohnt Jörg Äl?", "In Köln.")).ids
    spans = mentions(tiny, ids, "Jörg Äl")
    assert [tiny.tokenizer.decode(ids[a:b]) for a, b in spans] == ["Jörg Äl"]


def test_without_a_subject_the_whole_prompt_stands_for_it(tiny: LanguageModel) -> None:
    for row in (Example("Where?", "In Oslo."), Example("Where?", "In Oslo.", subject="Nobody")):
        fact = fact_of(tiny, row)
        assert fact.spans == ((1, fact.row.start),)


def test_running_text_is_recalled_from_its_first_half(tiny: LanguageModel) -> None:
    fact = fact_of(tiny, Example("", "Ann Lee lives in Oslo with Ann Lee.", subject="Ann Lee"))
    assert fact.row.start == len(fact.row.ids) // 2
    assert [text_of(tiny, fact, span) for span in fact.spans] == ["Ann Lee"]  # what is recalled stays clean
    plain = fact_of(tiny, Example("", "It rains in Bergen."))
    assert plain.spans == ((1, plain.row.start),)


# The three runs, written a second time: one row a pass, the library's own hooks, full logits


def plain_trace(model: LanguageModel, fact: Fact, deviation: float, draws: int, seed: int) -> tuple[Tensor, ...]:
    base, ids = model.base(), torch.tensor([fact.row.ids])
    value = [fact.row.start + i for i, v in enumerate(fact.row.value) if v] if fact.row.value else None
    places = value or list(range(fact.row.start, len(fact.row.ids)))
    last = [end - 1 for _, end in fact.spans]
    generator = torch.Generator().manual_seed(seed)

    def probability(noise: Tensor | None = None, layer: int = -1, clean: list[Tensor] | None = None) -> float:
        kept: list[Tensor] = []

        def disturb(_: object, __: object, output: Tensor) -> Tensor:
            return output if noise is None else output + noise

        def restore(i: int, output: Tensor) -> Tensor:
            kept.append(output)
            if i == layer and clean is not None:
                output = output.clone()
                output[0, last] = clean[i][0, last]
            return output

        handles = [base.get_input_embeddings().register_forward_hook(disturb)]
        for i, block in enumerate(blocks(base)):
            handles.append(mlp(block).register_forward_hook(lambda _, __, output, i=i: restore(i, output)))
        logp = base(ids, use_cache=False).logits[0].log_softmax(-1)
        for handle in handles:
            handle.remove()
        recorded.append(kept)
        return float(torch.stack([logp[t - 1, ids[0, t]] for t in places]).mean().exp())

    recorded: list[list[Tensor]] = []
    known, clean = probability(), recorded[0]
    lost, restored = [], []
    for _ in range(draws):
        noise = torch.zeros(1, ids.shape[1], base.config.hidden_size)
        for start, end in fact.spans:
            noise[0, start:end] = deviation * torch.randn(end - start, noise.shape[-1], generator=generator)
        lost.append(probability(noise))
        restored.append([probability(noise, layer, clean) for layer in range(len(clean))])
    return torch.tensor(known), torch.tensor(lost).mean(), torch.tensor(restored).mean(0)


@torch.no_grad()
def test_tracing_equals_plain_runs_with_hooks(tiny: LanguageModel) -> None:
    for parameter in tiny.model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(4)  # far enough from zero for MLPs to matter
    facts = [fact_of(tiny, row) for row in ROWS]
    embedding = tiny.model.get_input_embeddings()
    subjects = [embedding(torch.tensor(fact.row.ids[a:b])).flatten() for fact in facts for a, b in fact.spans]
    deviation = 3 * float(torch.cat(subjects).std())
    found = trace_mlps(tiny, facts, noise=3.0, draws=2, seed=5)
    for i, fact in enumerate(facts):
        known, lost, restored = plain_trace(tiny, fact, deviation, 2, stream_seed(5, "tracing noise", i))
        # float32 products in batches; probabilities of a few hundredths and less
        assert torch.allclose(found.clean[i], known, rtol=1e-4)
        assert torch.allclose(found.corrupted[i], lost, rtol=1e-4)
        assert torch.allclose(found.restored[i], restored, rtol=1e-4)
        assert float(found.effect[i].abs().max()) > 1e-3 * float(known)
    assert tiny.frozen is None


def test_a_seed_is_repeated_whatever_the_batch(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [fact_of(tiny, row) for row in ROWS]
    first = trace_mlps(tiny, facts, seed=1)
    assert torch.equal(first.effect, trace_mlps(tiny, facts, seed=1).effect)
    assert not torch.equal(first.effect, trace_mlps(tiny, facts, seed=2).effect)
    monkeypatch.setattr("letheon.probe.tracing.ROWS", 1)
    assert torch.allclose(first.restored, trace_mlps(tiny, facts, seed=1).restored, rtol=1e-4)


@torch.no_grad()
def test_a_layer_without_an_mlp_has_no_effect(tiny: LanguageModel) -> None:
    for i in (0, 1, 3):
        blocks(tiny.model)[i].mlp.down_proj.weight.zero_()
    effect = trace_mlps(tiny, [fact_of(tiny, row) for row in ROWS]).effect
    assert float(effect[:, [0, 1, 3]].abs().max()) == 0
    assert float(effect[:, 2].abs().min()) > 0


@pytest.mark.parametrize(
    ("effect", "width", "expected"),
    [
        ([0.1, 0.5, 0.4, 0.0, 0.45], 2, [1, 2]),
        ([0.1, 0.5, 0.4, 0.0, 0.95], 1, [4]),
        ([0.5, -0.4, 0.3, 0.3], 3, [0, 1, 2]),
        ([0.25, 0.25, 0.25, 0.25], 2, [0, 1]),
    ],
)
def test_the_window_has_the_largest_sum(effect: list[float], width: int, expected: list[int]) -> None:
    assert list(select_window(torch.tensor(effect), width)) == expected


@pytest.mark.parametrize("width", [0, 5])
def test_a_window_that_does_not_fit_is_refused(width: int) -> None:
    with pytest.raises(InputError, match=f"a window of {width} layers, the model has 4"):
        select_window(torch.zeros(4), width)
