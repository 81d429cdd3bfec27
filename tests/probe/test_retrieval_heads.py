"""Retrieval heads: scores by hand, a copy transformer with a known head, prompts, the cache, masks, the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.hooks import count_calls
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.papers.common.handmade import POSITION, TOKEN, Head, handmade
from letheon.papers.common.small_llama import word_tokenizer
from letheon.probe.attention_maps import head_mask
from letheon.probe.record import above_zero, render_probe, save_probe
from letheon.probe.retrieval_heads.needles import NEEDLES, Instance, build_instances, read_needles
from letheon.probe.retrieval_heads.report import RetrievalSettings, mask_top_and_random, probe_retrieval_heads
from letheon.probe.retrieval_heads.scoring import (
    Prompt,
    _decode_one,
    copied,
    count_score,
    recall_when_masked,
    score_instances,
    set_score,
)

SIZE = 40
COPY, SAME, FIRST = (0, 1), (0, 2), (0, 0)


@pytest.fixture
def copier() -> LanguageModel:
    """A model whose head 0-1 finds the successor of the current token and copies it; 0-2 finds the token itself."""
    words = " ".join(f"w{i}" for i in range(SIZE - 6))
    tokenizer = word_tokenizer([Example(words, "w0")])
    tokenizer.chat_template = None
    first = torch.zeros(SIZE, SIZE)
    first[:, 0] = 1.0  # whatever the position, ask for position 0
    heads = [
        Head(POSITION, POSITION, TOKEN, TOKEN, table=first, gain=0.0),
        Head(TOKEN, TOKEN, TOKEN, TOKEN, offset=1),
        Head(TOKEN, TOKEN, TOKEN, TOKEN, gain=0.0),
    ]
    model = handmade(SIZE, [heads])
    return LanguageModel(model, tokenizer, "copier")


def chain(model: LanguageModel, begin: int, place: int) -> Instance:
    """A prompt in which the tokens begin + 1 to begin + 4 stand as needle, and the last token is `begin`."""
    straw = [token for token in range(6, 6 + 12) if not begin <= token <= begin + 5]
    needle = [begin + 1, begin + 2, begin + 3, begin + 4]
    ids = (*straw[:place], *needle, *straw[place:], begin)
    return Instance(ids, (place, place + 4), model.tokenizer.decode(needle).strip(), insert=place)


@pytest.mark.oracle("retrieval-heads")
def test_a_copy_is_the_top_position_inside_the_needle_with_the_predicted_token() -> None:
    ids = torch.tensor([7, 8, 9, 8, 7])
    top = torch.tensor([[1, 2, 3], [0, 4, 1]])
    assert copied(top, ids, (1, 3), 8).tolist() == [[True, False, False], [False, False, True]]
    assert copied(top, ids, (1, 3), 9).tolist() == [[False, True, False], [False, False, False]]


@pytest.mark.oracle("retrieval-heads")
def test_scores_by_hand() -> None:
    steps = [torch.tensor([[True, False]]), torch.tensor([[True, True]]), torch.tensor([[True, False]])]
    assert set_score(steps, [5, 6, 5], [5, 6, 5]).tolist() == [[1.0, 0.5]]  # distinct tokens: 5 and 6
    assert set_score(steps, [5, 6, 5], [5, 6, 7, 8]).tolist() == [[0.5, 0.25]]
    assert set_score(steps, [9, 6, 9], [5, 6]).tolist() == [[0.5, 0.5]]
    torch.testing.assert_close(count_score([*steps, steps[0]], [5, 6]), torch.tensor([[2.0, 0.5]]))


@pytest.mark.oracle("retrieval-heads")
def test_the_known_head_of_a_copy_transformer_is_found_and_no_other(copier: LanguageModel) -> None:
    instances = [chain(copier, begin, place) for begin in (6, 8, 10) for place in (1, 3, 6)]
    scored = score_instances(copier, instances, budget=4)
    assert scored.recalls == [1.0] * 9
    mean = scored.mean()
    assert float(mean[COPY]) == 1.0
    assert float(mean[SAME]) <= 0.01, "a head that looks at the token just fed is no retrieval head"
    assert float(mean[FIRST]) <= 0.01, "a head that looks at the first token is none either"
    assert scored.ranking()[0] == COPY
    assert float(scored.shuffled.mean(0).max()) == 0.0


def test_masking_the_known_head_ruins_the_answers_and_masking_others_does_not(copier: LanguageModel) -> None:
    instances = [chain(copier, begin, place) for begin in (6, 8) for place in (0, 5)]
    for mode in ("uniform", "zero"):
        masks = torch.cat([head_mask(copier, heads) for heads in ([], [COPY], [SAME], [FIRST])])
        recall = recall_when_masked(copier, instances, masks, mode=mode, budget=4).mean(1).tolist()  # type: ignore[arg-type]
        assert recall[0] == recall[2] == recall[3] == 1.0
        assert recall[1] < 0.3
    scored = score_instances(copier, instances, budget=4)
    masking = mask_top_and_random(copier, instances, scored, RetrievalSettings(masked=1, draws=2, budget=4))
    assert masking is not None
    assert masking.heads == [COPY]
    assert masking.effect.value is not None
    assert masking.effect.value > 0.7
    assert masking.effect.n == 2, "two prompts choose the heads, the other two test them"


def test_a_mask_without_effect_passes_no_check(copier: LanguageModel) -> None:
    instances = [chain(copier, begin, place) for begin in (6, 7, 8, 9, 10, 11) for place in (1, 5)]
    scored = score_instances(copier, instances, budget=4)
    settings = RetrievalSettings(masked=1, draws=1, budget=4)
    blind = replace(scored, scores=scored.scores.roll(1, 2))  # ranks a head first that does nothing
    for one, passed in ((scored, True), (blind, False)):
        masking = mask_top_and_random(copier, instances, one, settings)
        assert masking is not None
        assert masking.effect.n == 6
        assert above_zero("masking", masking.effect).passed is passed
    alone = replace(scored, recalls=[1.0] + [0.0] * 11)
    assert mask_top_and_random(copier, instances, alone, settings) is None


@torch.no_grad()
def test_a_reused_cache_gives_the_scores_of_a_fresh_one(tiny: LanguageModel) -> None:
    instances = build_instances(tiny, "A short text. It goes on. " * 8, NEEDLES[:2], (420,), (0, 50, 100))
    together = score_instances(tiny, instances, budget=4)
    alone = [score_instances(tiny, [one], budget=4) for one in instances]
    assert together.responses == [one.responses[0] for one in alone]
    torch.testing.assert_close(together.scores, torch.cat([one.scores for one in alone]))


def test_prompts_have_the_length_the_depth_and_the_answer_where_they_say(tiny: LanguageModel) -> None:
    text = "One sentence here. Another one follows. " * 30
    for one in build_instances(tiny, text, NEEDLES[:2], (500, 700), (0, 50, 100)):
        assert len(one.ids) == one.length
        assert tiny.tokenizer.decode(one.ids[slice(*one.span)]).strip() == one.answer
        before = tiny.tokenizer.decode(one.ids[: one.insert])
        assert one.depth in (0, 100) or before.endswith(".")
        assert tiny.tokenizer.decode(one.ids).rstrip().endswith("assistant")
    depths = {one.depth: one.insert for one in build_instances(tiny, text, NEEDLES[:1], (700,), (0, 50, 100))}
    assert depths[0.0] < depths[50.0] < depths[100.0]


def test_bad_prompts_are_refused(tiny: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leaves no room"):
        build_instances(tiny, "text", NEEDLES, (64,))
    with pytest.raises(InputError, match="length 5000 asked for"):
        build_instances(tiny, "text", NEEDLES, (5000,))
    with pytest.raises(InputError, match="haystack is empty"):
        build_instances(tiny, "   ", NEEDLES, (500,))
    file = tmp_path / "needles.jsonl"
    file.write_text('{"needle": "A is B.", "question": "What is A?", "real_needle": "C"}\n')
    with pytest.raises(InputError, match="not a part of the needle"):
        read_needles(file)
    file.write_text('{"needle": "A is B."}\n')
    with pytest.raises(InputError, match="row 1"):
        read_needles(file)


def test_the_report_says_what_was_found_and_how_far_to_trust_it(tiny: LanguageModel, tmp_path: Path) -> None:
    settings = RetrievalSettings(lengths=(420,), depths=(0, 100), budget=2)
    report = probe_retrieval_heads(tiny, "A text. " * 20, NEEDLES[:2], settings)
    assert "0 of 4 prompts were answered" in report.headline
    assert report.notes
    save_probe(report, tmp_path)
    assert json.loads((tmp_path / "retrieval-heads.json").read_text())["checks"][0]["passed"] is False
    assert "<svg" in render_probe(report)


def test_guessed_tokens_are_those_of_decoding_one_by_one(copier: LanguageModel, tiny: LanguageModel) -> None:
    made = [(copier, chain(copier, begin, place)) for begin in (6, 9) for place in (0, 5)]
    made += [(tiny, one) for one in build_instances(tiny, "A short text. It goes on. " * 8, NEEDLES[:2], (420,), (50,))]
    for model, one in made:
        plain, guessed = Prompt(model), Prompt(model)
        sources = (one.ids[one.insert : one.span[1] + 1], one.ids, (one.ids[-1], 7, 7, 7))
        for budget, source in zip((1, 4, 9), sources, strict=True):
            tokens, tops = _decode_one(model, plain, one.ids, budget)
            again, seen = _decode_one(model, guessed, one.ids, budget, source)
            assert again == tokens
            assert all(a.equal(b) for a, b in zip(tops, seen, strict=True))
            assert guessed.ids[: len(plain.ids)] == plain.ids
            assert guessed.cache.get_seq_length() == len(guessed.ids) <= len(plain.ids) + 1


def test_a_needle_that_is_copied_takes_two_passes(copier: LanguageModel) -> None:
    one, prompt = chain(copier, 6, 3), Prompt(copier)
    with count_calls({"model": copier.base()}) as calls:
        tokens, _ = _decode_one(copier, prompt, one.ids, 4, one.ids[one.insert : one.span[1]])
    assert tokens == list(one.ids[slice(*one.span)])
    assert calls["model"] == 3, "the prompt, the first token, and the rest at once"
