"""Every family of models: scored right, forgotten by every method or refused first, read by plain transformers.

The default tests meet every family, every objective and every scope at least once; `--slow` runs all pairs of
docs/families.md, the default and the named recipes among them.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from letheon.audit.run import audit
from letheon.core.errors import InputError
from letheon.core.model import models as loading
from letheon.core.model.adapters import attach_lora
from letheon.core.model.families import FAMILIES, family_model
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.passes import FrozenLayers
from letheon.core.model.sites import fused_experts
from letheon.core.registry import methods
from letheon.core.rows.encoding import Encoded
from letheon.core.scoring.answer_trees import branches, score_answers, score_tokens
from letheon.core.scoring.likelihood import score
from letheon.forget.recipe import read_method
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.jobs.methods import asked_methods
from letheon.testing import sample_request

# Options for models of two layers, and for speed.
OPTIONS = {
    "sae": "sae:layer=0,sae_steps=5,allow_poor=True",
    "layers": "layers=1-",
    "targeted": "targeted:k=1",
    "reinforce": "reinforce:group=2,max_new_tokens=2,steering_steps=1,blanks=False",
    "bilevel": "bilevel:epsilon=0.001",
    "gauss_newton": "gauss_newton:cache=False",
    "traced": "traced:width=1,rows=2,draws=1",
    "kuda": "kuda+null_space@traced:width=1,rows=2,draws=1",
    "retrain": "retrain:base=BASE",
    # named recipes
    "sae-unlearning": "sae-unlearning:layer=0,sae_steps=5,allow_poor=True",
    "ofmu": "ofmu+bilevel:epsilon=0.001",
    "k-fade": "k-fade+gauss_newton:cache=False",
    "rule": "rule:group=2,max_new_tokens=2,steering_steps=1,blanks=False",
}
OBJECTIVES = [OPTIONS.get(record.name, record.name) for record in methods("objective")]
SCOPES = [OPTIONS.get(record.name, record.name) for record in methods("scope")]
TRAINING: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 3, "precision": "float32", "device": "cpu"}
CLOSE = {"atol": 5e-6, "rtol": 1e-4}  # float32 sums in another order


def request() -> Request:
    whole = sample_request()
    return dataclasses.replace(whole, forget=whole.forget[:6], retain=whole.retain[:4])


def spread(model: LanguageModel) -> LanguageModel:
    """Move the weights far enough from zero for attention and experts to matter."""
    with torch.no_grad():
        for parameter in model.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


@pytest.fixture(params=list(FAMILIES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@torch.no_grad()
def alone(model: LanguageModel, row: Encoded) -> torch.Tensor:
    """The log-probabilities of an answer's tokens, by the plain model on the row alone."""
    logp = model.model(torch.tensor([row.ids]), use_cache=False).logits[0].float().log_softmax(-1)
    return torch.stack([logp[i - 1, row.ids[i]] for i in range(row.start, len(row.ids))])


@torch.no_grad()
def test_batches_trees_and_frozen_layers_score_what_the_plain_model_does(kind: str) -> None:
    model, rows = spread(family_model(kind)), request().forget
    encoded = model.encoder().encode_all(rows)
    expected = torch.cat([alone(model, row) for row in encoded])
    batch = model.encoder().collate(encoded)
    assert torch.allclose(score(model, batch).logp, expected, **CLOSE)
    answers = [(row.prompt, [*row.perturbed_answers, row.answer]) for row in rows]
    in_trees = [torch.from_numpy(found[-1].logp) for found in score_answers(model, answers)]
    assert torch.allclose(torch.cat(in_trees), expected, **CLOSE)
    model.frozen = FrozenLayers(1)
    assert torch.allclose(score(model, batch).logp, expected, **CLOSE)


@torch.no_grad()
def test_choices_score_what_the_plain_model_does(kind: str) -> None:
    model = spread(family_model(kind))
    options = [[7], [8], [9, 10, 11], [9, 10, 12, 13], [9]]
    instruction, story = [3, 5, 6, 3, 5, 4, 6, 3, 4, 3], [20, 22, 21, 24, 25, 30, 31, 29, 26, 25, 24, 23]
    prompts = [[*instruction, *story, n, n + 1] for n in range(14, 17)] + [[*instruction, n, 33] for n in (40, 41)]
    expected = [alone(model, Encoded((*prompt, *ids), len(prompt))) for prompt in prompts for ids in options]
    found = [one.logp for scores in score_tokens(model, [(prompt, options) for prompt in prompts]) for one in scores]
    assert torch.allclose(torch.from_numpy(np.concatenate(found)), torch.cat(expected), **CLOSE)


def test_answers_share_a_row_only_where_a_mask_can_keep_them_apart() -> None:
    apart = {kind for kind in FAMILIES if not branches(family_model(kind), 128)}
    assert apart == {"gemma2", "gemma3_text", "gemma3", "jamba", "qwen3_next"}
    assert branches(family_model("gemma2"), 64)


def check(start: str | LanguageModel, text: str, folder: Path, plain: Any) -> None:
    """Forget by a method, or see it refused before a weight is read; read what was saved with plain transformers.

    Args:
        plain: reads the saved folder.
    """
    recipe = read_method(text)
    if message := refusals(recipe, start):
        with pytest.raises(InputError, match=re.escape(message)):
            forget(start, request(), recipe, steps=1, out=folder / "run", **TRAINING)
        return
    result = forget(start, request(), recipe, steps=1, out=folder / "run", **TRAINING)
    assert result.moved > 0
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        mine = result.model.model(ids, use_cache=False).logits
        theirs = plain(folder / "run/model")(ids, use_cache=False).logits
    assert torch.equal(mine, theirs)


def refusals(recipe: Any, start: str | LanguageModel) -> str:
    """The refusal by the structure alone; empty if the method works."""
    from letheon.forget.run import check_model

    try:
        check_model(recipe, start)
    except InputError as error:
        return str(error)
    return ""


def plainly(base: Path) -> Any:
    """A reader of saved models that knows transformers and PEFT alone."""

    def read(folder: Path) -> Any:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        adapter = (folder / "adapter_config.json").is_file()
        model = AutoModelForCausalLM.from_pretrained(base if adapter else folder, dtype=torch.float32)
        return (PeftModel.from_pretrained(model, str(folder)) if adapter else model).eval()

    return read


@pytest.fixture
def saved(kind: str, tmp_path: Path) -> Path:
    return family_model(kind).save(tmp_path / "base")


def test_every_family_objective_and_scope_meet_once(kind: str, saved: Path, tmp_path: Path) -> None:
    number = list(FAMILIES).index(kind)
    objective, scope = OBJECTIVES[number % len(OBJECTIVES)], SCOPES[number % len(SCOPES)]
    if "@" in objective:  # a named recipe, with its scope
        scope = ""
    check(str(saved), f"{objective}@{scope}" if scope else objective, tmp_path, plainly(saved))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(asked_methods()))
def test_every_method_meets_every_family(name: str, kind: str, saved: Path, tmp_path: Path) -> None:
    record = name.split()[-1]
    text = asked_methods()[name].replace(record, OPTIONS.get(record, record)).replace("BASE", str(saved))
    start: str | LanguageModel = str(saved)
    if record in ("attenuation", "u-can"):  # they edit an adapter
        model = load(saved, device="cpu")
        with torch.no_grad():
            for parameter in attach_lora(model, 4, 8).values():
                parameter.normal_(0, 0.1)
        start = str(model.save(tmp_path / "adapter"))
    check(start, text, tmp_path, plainly(saved))


@pytest.mark.parametrize(
    ("kind", "method", "message"),
    [
        ("mixtral", "k-fade", r"no Kronecker factors.*gauss_newton:layers=all@layers=0-:parameters=attn"),
        ("qwen2_moe", "npo+null_space@lora", r"no null space.*parameters=attn"),
        ("deepseek_v3", "npo@traced:width=1", r"traced: a mixture.*traced:matrices=all"),
        ("gpt_oss", "selective_pruning", r"single last matrix.*task_vector"),
        ("jamba", "npo@circuit", r"blocks without them.*@targeted"),
        ("llama", "npo@layers=2-", r"the model has 0-1"),
        ("llama", "npo@targeted", r"8 layers asked for, the model has 2"),
        ("llama", "rmu:layer=2", r"layer 2 asked for, the model has 2"),
        ("gpt2", "npo@lora:targets=q_proj", r"no matrix is called q_proj.*c_attn"),
    ],
)
def test_what_cannot_work_is_refused_before_loading(
    kind: str, method: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = family_model(kind).save(tmp_path / "base")
    monkeypatch.setattr(loading, "_from_pretrained", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(InputError, match=f"(?s){message}"):
        forget(str(folder), request(), method, device="cpu", steps=1)


@pytest.mark.parametrize("text", ["gradient_ascent+gauss_newton:layers=all,cache=False", "npo+null_space"])
@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe", "deepseek_v3"], indirect=True)
def test_what_a_refusal_recommends_works(kind: str, text: str, saved: Path, tmp_path: Path) -> None:
    check(str(saved), f"{text}@layers=0-:parameters=attn", tmp_path, plainly(saved))


@pytest.mark.parametrize("kind", [k for k in FAMILIES if fused_experts(family_model(k).model)], indirect=True)
def test_a_lora_adapter_reaches_fused_experts_or_says_no(kind: str) -> None:
    model, ids = family_model(kind), torch.arange(3, 30)[None]
    before = model.model(ids).logits
    weights = attach_lora(model, 4, 8)
    assert any(".experts." in name for name in weights)
    assert torch.equal(model.model(ids).logits, before)
    with torch.no_grad():
        for name, parameter in weights.items():
            if ".experts." in name:
                parameter.normal_(0, 0.1)
        moved = model.model(ids).logits
        model.merge_adapter()
        assert torch.allclose(model.model(ids).logits, moved, **CLOSE)
    assert not torch.allclose(moved, before, atol=1e-4)
    assert not any(".experts." in name for name in attach_lora(family_model(kind), 4, 8, experts=False))


def test_a_model_that_sees_images_gets_no_adapter_on_its_vision_tower() -> None:
    names = attach_lora(family_model("gemma3"), 4, 8)
    assert names
    assert not any("vision" in name or "projector" in name for name in names)


@pytest.mark.parametrize(
    "kind", ["gemma3_text", *(pytest.param(kind, marks=pytest.mark.slow) for kind in FAMILIES)], indirect=True
)
def test_a_family_s_model_is_audited(kind: str) -> None:
    small = dataclasses.replace(request(), forget=request().forget[:2], retain=request().retain[:2])
    result = forget(family_model(kind), small, "npo", steps=1, **TRAINING)
    record = audit(family_model(kind), result.model, small, profile="standard", quick=True, device="cpu")
    assert record.verdict
