"""UNDO: the student before its first step, the loss, its direction, what is copied, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.errors import InputError
from letheon.core.model.families import family_model
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.sampling import stream_seed
from letheon.forget.auto_retain import GENERAL_QUESTIONS
from letheon.forget.procedure import ProcedureContext
from letheon.forget.procedures.undo import Settings, Undo, add_noise, distillation_loss, near_teacher, noised
from letheon.forget.recipe import read_method
from letheon.forget.request import Request
from letheon.forget.run import check_model, forget
from letheon.forget.settings import ForgetSettings, resolve
from letheon.testing.samples import save_random_adapter

pytestmark = pytest.mark.oracle("undo")
QUICK: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 4, "precision": "float32", "device": "cpu", "steps": 1}
RETAIN_ALONE = "undo:forget=none,general=none"


def student_of(teacher: LanguageModel, alpha: float, beta: float, seed: int) -> dict[str, Tensor]:
    """(1 - α) θ + α β N in plain torch, N by torch's own Xavier initialisation; each tied weight once."""
    found = {}
    for name, weight in teacher.model.named_parameters():
        noise = torch.zeros_like(weight)
        if weight.ndim == 2:
            drawn = torch.Generator().manual_seed(stream_seed(seed, f"undo noise {name}"))
            nn.init.xavier_uniform_(noise, generator=drawn)
        found[name] = (1 - alpha) * weight.detach() + alpha * beta * noise
    return found


@pytest.mark.parametrize("seed", [0, 3])
def test_the_student_before_its_first_step_is_the_formula(deletion: Request, seed: int) -> None:
    seen: list[list[Tensor]] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen.append([weight.detach().clone() for group in optimizer.param_groups for weight in group["params"]])

    handle = register_optimizer_step_pre_hook(look)
    try:
        forget("tiny", deletion, f"{RETAIN_ALONE},alpha=.4,beta=.5", **QUICK, seed=seed)
    finally:
        handle.remove()
    expected = student_of(load("tiny", device="cpu"), 0.4, 0.5, seed)
    torch.testing.assert_close(seen[0], list(expected.values()), rtol=0, atol=0)


def test_vectors_shrink_and_get_no_noise() -> None:
    gain = torch.ones(3)
    model = family_model("gpt2")
    before = {name: weight.detach().clone() for name, weight in model.model.named_parameters()}
    add_noise(model, 0.25, 9.0, 0)
    for name, weight in model.model.named_parameters():
        if weight.ndim == 1:
            torch.testing.assert_close(weight.detach(), 0.75 * before[name], rtol=0, atol=0)
        else:
            assert float((weight - 0.75 * before[name]).detach().abs().max()) > 0
    assert noised(gain, torch.zeros(3), 0.25, 9.0).tolist() == [0.75] * 3


def test_a_tied_weight_is_noised_once_and_buffers_stay() -> None:
    model = family_model("gpt2")
    network = model.model
    tied = network.get_output_embeddings().weight
    assert tied is network.get_input_embeddings().weight
    expected, buffers = student_of(model, 0.5, 0.1, 0), [b.clone() for b in network.buffers()]
    add_noise(model, 0.5, 0.1, 0)
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight
    torch.testing.assert_close(tied.detach(), expected["transformer.wte.weight"], rtol=0, atol=0)
    torch.testing.assert_close(list(network.buffers()), buffers, rtol=0, atol=0)


def test_the_loss_is_the_divergence_from_teacher_to_student_and_not_the_reverse() -> None:
    teacher, student = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    there = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    back = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert distillation_loss(teacher, student).tolist() == pytest.approx([there])
    assert distillation_loss(student, teacher).tolist() == pytest.approx([back])
    assert abs(there - back) > 0.01


def test_the_loss_moves_the_student_and_its_gradient_is_the_difference_of_probabilities() -> None:
    teacher, student = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    student.requires_grad_(True)
    distillation_loss(teacher, student).sum().backward()
    torch.testing.assert_close(student.grad, student.detach().softmax(-1) - teacher.softmax(-1))


def test_the_first_loss_is_the_mean_over_all_tokens_of_the_rows(deletion: Request) -> None:
    """Computed row by row with the plain networks, without micro-batches, hooks or shared beginnings."""
    request = replace(deletion, retain=deletion.retain[:3])
    result = forget("tiny", request, f"{RETAIN_ALONE},alpha=.4,beta=.5", **{**QUICK, "micro_batch_size": 2})
    teacher, student = load("tiny", device="cpu"), load("tiny", device="cpu")
    with torch.no_grad():
        for name, weight in student.model.named_parameters():
            weight.copy_(student_of(teacher, 0.4, 0.5, 0)[name])
        total, positions, least = 0.0, 0, 0.0
        for row in teacher.encoder().encode_all(request.retain):
            ids = torch.tensor([row.ids])
            p, q = (one.model(ids).logits[0, :-1].double().log_softmax(-1) for one in (teacher, student))
            total += float((p.exp() * (p - q)).sum())
            least -= float((p.exp() * p).sum())
            positions += len(row.ids) - 1
    assert result.outcome.history[0]["loss"] == pytest.approx(total / positions, rel=1e-4)
    first = result.outcome.history[0]
    assert first["teacher"] == pytest.approx(least / positions, rel=1e-4), "on its own outputs"
    assert first["student"] == pytest.approx((least + total) / positions, rel=1e-4)
    assert total > 0


def test_without_noise_the_student_is_the_teacher_and_nothing_moves(deletion: Request) -> None:
    result = forget("tiny", deletion, f"{RETAIN_ALONE},alpha=0", **QUICK)
    assert result.outcome.history[0]["loss"] == 0
    assert result.model.parameters_hash() == load("tiny", device="cpu").parameters_hash()
    assert "undo:alpha=0.0,forget=none,general=none changed no weight" in result.warnings


def test_distillation_brings_the_student_nearer(deletion: Request) -> None:
    many = {**QUICK, "steps": 12, "batch_size": 8, "warmup_steps": 0}
    losses = [one["loss"] for one in forget("tiny", deletion, f"{RETAIN_ALONE},alpha=.6", **many).outcome.history]
    assert losses[-1] < 0.7 * losses[0]


def test_the_texts_are_retain_rows_forget_questions_and_general_questions(
    tiny: LanguageModel, deletion: Request
) -> None:
    def count(options: str, request: Request = deletion) -> int:
        recipe = read_method(f"undo:max_new_tokens=2,{options}")
        work = ProcedureContext(tiny, request, *resolve(recipe, None, None, {}))
        return len(Undo(recipe.part.settings).rows(work, tiny))  # type: ignore[union-attr]

    kept, gone = len(deletion.retain), len(deletion.forget)
    assert count("answers=1") == kept + gone + len(GENERAL_QUESTIONS)
    assert count("answers=2,general=none") == kept + 2 * gone
    assert count("forget=rows,general=none,retain=false") == gone
    assert count("forget=none,general=none") == kept


def test_a_file_of_texts_takes_the_place_of_general_questions(
    tiny: LanguageModel, deletion: Request, tmp_path: Path
) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "Rain falls on the hill."}\n')
    undo = Undo(Settings(general=str(file), forget="none", retain=False))
    work = ProcedureContext(tiny, deletion, ForgetSettings(), resolve(read_method("undo"), None, None, {})[1])
    assert [tiny.tokenizer.decode(row.ids).strip() for row in undo.rows(work, tiny)] == ["Rain falls on the hill."]


def test_it_ends_when_the_students_loss_is_near_the_teachers() -> None:
    def steps(student: float, count: int = 20) -> list[dict[str, float]]:
        return [{"student": student, "teacher": 2.0}] * count

    assert near_teacher(steps(2.09), 0.05) == "the student's loss is within 5% of the teacher's"
    assert near_teacher(steps(2.11), 0.05) is None
    assert near_teacher(steps(2.0, 19), 0.05) is None
    assert near_teacher(steps(2.0), 0.0) is None
    assert near_teacher([*steps(9.0, 5), *steps(2.09)], 0.05) is not None  # the last steps decide


def test_what_cannot_be_noised_is_refused(deletion: Request, tmp_path: Path) -> None:
    adapter = load(save_random_adapter(tmp_path / "adapter"), device="cpu")
    with pytest.raises(InputError, match="has an adapter"):
        forget(adapter, deletion, "undo", **QUICK)
    with pytest.raises(InputError, match="bfloat16"):
        forget(load("tiny", device="cpu", base="bfloat16"), deletion, "undo", **QUICK)
    with pytest.raises(InputError, match="4bit"):
        forget("tiny", deletion, "undo", **QUICK, base="4bit")
    with pytest.raises(InputError, match="3 dimensions"):
        check_model(read_method("undo"), family_model("mixtral"))
    with pytest.raises(InputError, match="no text to distil on"):
        forget("tiny", replace(deletion, retain=()), RETAIN_ALONE, **QUICK)
    with pytest.raises(InputError, match="alpha"):
        Settings(alpha=1.5)
