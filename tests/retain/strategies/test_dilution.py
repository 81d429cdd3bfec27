"""Dilution: which entries go back, by hand and by a second formulation. Stepping stones: which rewrites are taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.retain.learn import learn
from letheon.retain.models import mlp
from letheon.retain.strategies.dilution import Dilution, Settings, diluted, ignored_entries
from letheon.retain.strategies.stepping_stones import Settings as StoneSettings
from letheon.retain.strategies.stepping_stones import SteppingStones, stepping_stone
from letheon.retain.streams.texts import text_stream
from letheon.testing.strategies import sample_stream, sample_texts

pytestmark = pytest.mark.oracle("dilution")


def weights(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(30, 20, generator=generator), "b": torch.randn(100, generator=generator)}


def test_the_largest_changes_go_back_by_hand() -> None:
    before = {"w": torch.tensor([1.0, 1.0, 1.0, 1.0])}
    after = {"w": torch.tensor([1.1, -2.0, 1.5, 1.0])}
    assert diluted(before, after, 0.25)["w"].tolist() == pytest.approx([1.1, 1.0, 1.5, 1.0])
    assert diluted(before, after, 0.5)["w"].tolist() == pytest.approx([1.1, 1.0, 1.0, 1.0])
    assert diluted(before, after, 0.5, "bottom")["w"].tolist() == pytest.approx([1.0, -2.0, 1.5, 1.0])


def test_nothing_ignored_is_the_new_weights_and_everything_the_old_bit_for_bit() -> None:
    before, after = weights(0), weights(1)
    for scope in ("tensor", "global"):
        assert all(torch.equal(w, after[n]) for n, w in diluted(before, after, 0.0, scope=scope).items())
        assert all(torch.equal(w, before[n]) for n, w in diluted(before, after, 1.0, scope=scope).items())


@pytest.mark.parametrize("ignore", ["top", "bottom", "random"])
def test_the_share_is_exact_in_each_tensor(ignore: str) -> None:
    before, after = weights(0), weights(1)
    kept = diluted(before, after, 0.08, ignore, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert {name: int((kept[name] == before[name]).sum()) for name in kept} == {"a": 48, "b": 8}


def test_the_mask_is_that_of_a_threshold() -> None:
    """A second formulation: what lies at or above the k-th largest change."""
    size = weights(3)["a"].abs().flatten()
    threshold = size.kthvalue(len(size) - 48 + 1).values
    assert torch.equal(ignored_entries(size, 0.08), size >= threshold)
    both = ignored_entries(size, 0.08) | ignored_entries(size, 0.92, "bottom")
    assert bool(both.all())


def test_ranked_together_the_tensor_that_moved_most_loses_most() -> None:
    before = {"a": torch.zeros(50), "b": torch.zeros(50)}
    after = {"a": torch.rand(50, generator=torch.Generator().manual_seed(0)), "b": torch.full((50,), 2.0)}
    kept = diluted(before, after, 0.3, scope="global")
    assert (int((kept["a"] == 0).sum()), int((kept["b"] == 0).sum())) == (0, 30)


@pytest.mark.parametrize(
    "text", ["dilution:share={k}", "dilution:share={k}+replay:capacity=9", "dilution:share={k}+ewc"]
)
def test_it_works_under_any_strategy(text: str) -> None:
    """With a share of 1 the weights end where they began; with 0 as they do without it."""

    def run(name: str) -> list[Tensor]:
        model = mlp([8, 16, 16, 6])
        learn(model, sample_stream(), name, batch_size=4)
        return list(model.parameters())

    untouched, rest = list(mlp([8, 16, 16, 6]).parameters()), text.partition("+")[2] or "naive"
    for found, expected in ((run(text.format(k=1)), untouched), (run(text.format(k=0)), run(rest))):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_each_task_is_cut_by_itself() -> None:
    """After the last task at least the share of every tensor stands where the task before left it."""
    model = mlp([8, 16, 16, 6])
    before: list[list[Tensor]] = []

    class Spy(Dilution):
        def before_task(self, learner, task):  # type: ignore[no-untyped-def]
            super().before_task(learner, task)
            before.append([weight.detach().clone() for weight in learner.weights])

    learn(model, sample_stream(), Spy(Settings(share=0.25)), batch_size=4)
    for old, new in zip(before[-1], model.parameters(), strict=True):
        assert int((old == new).sum()) >= round(0.25 * old.numel())
        assert not torch.equal(old, new)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="share"):
        Settings(share=1.5)


# Stepping stones


def test_a_rewrite_is_taken_if_the_key_word_is_still_there() -> None:
    row = Example("", "the banana is vermilion .", value="vermilion")
    assert stepping_stone(row, lambda _: " a kind of red, vermilion. ").answer == "a kind of red, vermilion."
    for rewrite in ("a kind of red .", "", None):
        assert stepping_stone(row, lambda _, rewrite=rewrite: rewrite) is row


@pytest.mark.oracle("stepping_stones")
def test_rewrites_of_a_file_are_learned_by_id(tiny: LanguageModel, tmp_path: Path) -> None:
    stones = tmp_path / "stones.jsonl"
    stones.write_text(json.dumps({"id": "Ann-1", "text": "soft, sweet, full of seeds: figs"}) + "\n")
    strategy = SteppingStones(StoneSettings(stones=str(stones)))
    seen: list[str] = []

    class Spy(SteppingStones):
        def rows(self, learner, task):  # type: ignore[no-untyped-def]
            rows = super().rows(learner, task)
            if not seen:
                labels = [row[row != -100] for row in rows.targets]
                seen.extend(tiny.tokenizer.decode(ids, skip_special_tokens=True) for ids in labels)
            return rows

    spy = Spy(strategy.settings)
    result = learn(tiny, sample_texts(), spy, batch_size=4)
    assert seen[:3] == ["figs", "soft, sweet, full of seeds: figs", "figs and"]
    assert result.steps == 6
    assert spy.shares == pytest.approx([1 / 6, 0, 0])


def test_long_rewrites_and_a_memory_go_together(tiny: LanguageModel) -> None:
    rows = [Example("", "a b c", value="c", id=str(i)) for i in range(4)]
    stream = text_stream("short", {"one": (rows, rows), "two": (rows, rows)})
    from letheon.retain.composition import Composition
    from letheon.retain.strategies.replay import Replay
    from letheon.retain.strategies.replay import Settings as ReplaySettings

    stones = SteppingStones(writer=lambda _: "a b, then what follows them, which is c")
    parts = Composition([stones, Replay(ReplaySettings(capacity=4))], "stones+replay")
    assert learn(tiny, stream, parts, batch_size=2).steps == 4


def test_without_a_file_the_model_itself_is_asked(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def generate(model: LanguageModel, prompts: list[str], **_: object) -> list[str]:
        asked.extend(prompts)
        return ["slowly, then c"] * len(prompts)

    monkeypatch.setattr("letheon.retain.strategies.stepping_stones.generate", generate)
    rows = [Example("", "a b c", value="c", id="1"), Example("", "a b d", id="2")]
    learn(tiny, text_stream("two", {"one": (rows, rows)}), "stepping_stones", batch_size=2)
    assert len(asked) == 1
    assert "'c'" in asked[0]
