"""Log-probabilities: every saving gives the value of a plain forward pass, and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from letheon.core.model.families import byte_tokenizer
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import FrozenLayers
from letheon.core.rows.examples import Example
from letheon.core.scoring import likelihood, token_trees
from letheon.core.scoring.answer_trees import score_answers, score_tokens
from letheon.core.scoring.likelihood import score
from tests import naive

# float32 products in another order, summed over a width of 64 in four layers
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SAME_START = [
    Example("Where does Ann live?", "In Oslo."),
    Example("Where does Bob live now?", "Rome, since long ago."),
    Example("Where does Cid?", "B"),
]
OTHER_START = [*SAME_START, Example("", "Running text begins otherwise.")]


@pytest.mark.parametrize("rows", [SAME_START, OTHER_START, SAME_START[:1]], ids=["prefix", "none", "one row"])
def test_labelled_logits_equal_a_full_forward_pass(
    rows: list[Example], tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes = []
    original = likelihood.common_prefix
    monkeypatch.setattr(likelihood, "common_prefix", lambda *a: prefixes.append(original(*a)) or prefixes[-1])
    encoded = [tiny.encoder().encode(row) for row in rows]
    scores = score(tiny, tiny.encoder().collate(encoded))
    assert (prefixes[0] >= 17) == (rows is SAME_START)  # "<|im_start|>user\nWhere does " is run once
    expected = [naive.row_logits(tiny, row) for row in encoded]
    assert torch.allclose(scores.logits, torch.cat([logits for logits, _ in expected]), **CLOSE)
    assert torch.equal(scores.labels, torch.cat([labels for _, labels in expected]))
    sums = torch.stack([naive.row_logp(tiny, row).sum() for row in encoded])
    assert torch.allclose(scores.sequence_logp(), sums, rtol=1e-5)
    assert scores.lengths().tolist() == [len(labels) for _, labels in expected]


@pytest.mark.parametrize("rows", [SAME_START, OTHER_START])
def test_gradients_flow_through_the_shared_prefix(rows: list[Example], tiny: LanguageModel) -> None:
    encoded = [tiny.encoder().encode(row) for row in rows]
    found = naive.gradients(-score(tiny, tiny.encoder().collate(encoded)).logp.mean(), tiny)
    expected = naive.gradients(naive.nll_of_tokens(tiny, encoded), tiny)
    assert naive.largest_difference(found, expected) < 1e-5


def test_all_positions_are_those_that_predict_a_real_token(tiny: LanguageModel) -> None:
    encoded = [tiny.encoder().encode(row) for row in OTHER_START]
    scores = score(tiny, tiny.encoder().collate(encoded), "all")
    assert torch.allclose(scores.logits, torch.cat([naive.all_logits(tiny, row) for row in encoded]), **CLOSE)
    assert torch.equal(scores.labels, torch.cat([torch.tensor(row.ids[1:]) for row in encoded]))


def test_layers_that_do_not_move_come_from_their_cache(tiny: LanguageModel) -> None:
    encoded = [tiny.encoder().encode(row) for row in OTHER_START]
    batch = tiny.encoder().collate(encoded)
    plain = score(tiny, batch).logits
    tiny.frozen = FrozenLayers(below=2)
    assert torch.allclose(score(tiny, batch).logits, plain, **CLOSE)
    short = tiny.encoder().collate(encoded[:1], [0])  # from the cache alone, in a narrower batch
    tiny.model.model.layers[0].forward = None
    assert torch.allclose(score(tiny, short).logits, plain[: len(score(tiny, short).logits)], **CLOSE)


def test_a_batch_without_labels_has_no_logits_and_a_zero_gradient(tiny: LanguageModel) -> None:
    batch = tiny.encoder().collate([tiny.encoder().encode(SAME_START[0])])
    batch.labels[:] = -100
    scores = score(tiny, batch)
    assert scores.logits.shape == (0, 259)
    assert scores.sequence_logp().tolist() == [0.0]
    scores.logp.sum().backward()


def test_parts_and_selections_keep_rows_and_labels_together(tiny: LanguageModel) -> None:
    encoded = [tiny.encoder().encode(row) for row in SAME_START]
    scores = score(tiny, tiny.encoder().collate(encoded))
    part = scores.part(1, 3)
    assert part.rows == 2
    assert torch.equal(part.sequence_logp(), scores.sequence_logp()[1:])
    chosen = scores.select(scores.row == 2)
    assert torch.equal(chosen.labels, scores.labels[scores.row == 2])
    assert torch.equal(chosen.logp, scores.logp[scores.row == 2])
    assert chosen.sequence_logp().tolist()[:2] == [0.0, 0.0]


# Many answers to one prompt -----------------------------------------------------------------------------------------

QUESTIONS = [
    ("Where does Ann live?", ["In Oslo.", "In Oslo, I think.", "In Rome.", "In Oslo."]),
    ("Where does Bob live?", ["Bern"]),
    ("Where?", ["I", "In", "", "never"]),
]
TEXTS = ["Running text.", "Run away.", "Go away."]


@pytest.mark.parametrize("tokens", [4096, 1])
@pytest.mark.parametrize(
    "questions", [QUESTIONS, QUESTIONS[:1], [*QUESTIONS, ("", ["Running text.", "Run away.", "Go away."])]]
)
def test_a_tree_of_answers_scores_each_as_one_forward_pass_would(
    questions: list[tuple[str, list[str]]], tokens: int, tiny: LanguageModel
) -> None:
    found = score_answers(tiny, questions, tokens_per_batch=tokens)
    for (prompt, answers), scores in zip(questions, found, strict=True):
        assert len(scores) == len(answers)
        for answer, answer_score in zip(answers, scores, strict=True):
            row = tiny.encoder().encode(Example(prompt, answer))
            logits, labels = naive.row_logits(tiny, row)
            logp = torch.log_softmax(logits, -1).gather(-1, labels[:, None])[:, 0].detach().numpy()
            np.testing.assert_allclose(answer_score.logp, logp, atol=2e-5)
            assert answer_score.correct.tolist() == (logits.argmax(-1) == labels).tolist()
            if len(logp):
                assert answer_score.probability == pytest.approx(float(np.exp(logp.mean())), rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gpt_neo", {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8}),
        ("mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4}),  # attention is biased by places in the row
        ("bloom", {"n_layer": 2, "n_head": 4}),
    ],
)
def test_where_a_mask_is_not_all_that_keeps_answers_apart_each_is_a_row(kind: str, options: dict[str, Any]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=300, **({"hidden_size": 32} if kind != "mpt" else {}), **options)
    model = LanguageModel(AutoModelForCausalLM.from_config(config).float().eval(), byte_tokenizer(), kind)
    for parameter in model.model.parameters():
        parameter.data.mul_(4)  # far enough from zero for attention to matter
    prompt, answers = list(range(40, 60)), [[3, 4, 5, 6], [4, 4, 5, 6]]
    for answer, found in zip(answers, score_tokens(model, [(prompt, answers)])[0], strict=True):
        logits = model.model(torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0, 19:-1].log_softmax(-1)
        assert np.allclose(found.logp, logits[torch.arange(4), torch.tensor(answer)].detach(), atol=1e-4)


def run_tokens(model: LanguageModel, questions: list[tuple[str, list[str]]]) -> int:
    """Count the tokens that enter the model while questions are scored."""
    seen: list[int] = []
    handle = model.base().get_input_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].numel()))
    encoder = model.encoder()
    score_tokens(model, [(encoder.prompt(p), [encoder.answer(a, end=False)[0] for a in own]) for p, own in questions])
    handle.remove()
    return sum(seen)


def test_equal_beginnings_of_answers_are_run_once_and_last_tokens_never(tiny: LanguageModel) -> None:
    prompt, answers = "Where?", ["In Oslo.", "In Oslo now.", "In Rome."]
    distinct = {text[:i] for text in answers for i in range(1, len(text))}  # one token per byte
    assert run_tokens(tiny, [(prompt, answers)]) == len(tiny.encoder().prompt(prompt)) + len(distinct)


def test_choices_of_one_token_need_no_more_than_their_question(tiny: LanguageModel) -> None:
    assert run_tokens(tiny, [("Where?", ["A", "B", "C", "D"])]) == len(tiny.encoder().prompt("Where?"))


def test_very_many_answers_to_one_prompt_are_several_trees(tiny: LanguageModel) -> None:
    rows: list[int] = []
    handle = tiny.base().register_forward_pre_hook(
        lambda _, __, given: rows.append(given["attention_mask"].shape[-1]), with_kwargs=True
    )
    answers = [f"{number} and so on" for number in range(60)]
    whole, few = (score_answers(tiny, [("Where?", answers)], tokens_per_batch=most)[0] for most in (4096, 100))
    handle.remove()
    assert rows[0] > 600
    assert max(rows[1:]) < 150  # a mask of the square of this
    assert all(np.allclose(a.logp, b.logp, atol=2e-5) for a, b in zip(whole, few, strict=True))


def test_prompts_that_begin_alike_are_one_tree(tiny: LanguageModel) -> None:
    stories = "Ann came home late and saw the lamp in the hall.", "Bob went out early and left his coat in the bus."
    questions = [(f"Answer by a letter. {story} {n}?", ["A", "B"]) for story in stories for n in range(3)]
    distinct = {text[:i] for text, _ in questions for i in range(1, len(text) + 1)}
    around = len(tiny.encoder().prompt("x")) - 1  # the template begins all prompts, and its end stands behind each
    assert run_tokens(tiny, questions) <= len(distinct) + len(questions) * around + 2


def test_unlike_prompts_stay_apart_and_no_tree_exceeds_the_limit() -> None:
    story = list(range(100, 150))
    alike = [([*story, i, i], [[1], [2]]) for i in range(9)]
    assert token_trees.in_trees(alike, 0, 1024) == [list(range(9))]
    assert max(map(len, token_trees.in_trees(alike, 0, 60))) == 5  # 52 + 2 for each further one
    assert len(token_trees.in_trees(alike, 50, 1024)) == 9  # they share nothing beyond the prefix
    assert len(token_trees.in_trees([([i] * 50, [[1]]) for i in range(9)], 0, 1024)) == 9
