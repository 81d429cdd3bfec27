"""Relearning of a single row, from the plan and the curves to the verdict, and relearning of rescaled weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.audit.test_attacks import KEPT, ROWS
from tests.audit.test_verdict import good_evidence

import letheon
from letheon.audit.attacks.relearning import fact_probability, matrix_sizes, relearn
from letheon.audit.criteria import CriterionOutcome
from letheon.audit.criterion_relearning import ONLY_ROW, share_rescaled
from letheon.audit.measuring.answer_kinds import FoundFact
from letheon.audit.measuring.evaluate import evaluate
from letheon.audit.measuring.findings import _relearn
from letheon.audit.plan import AuditPlan, Settings, make_plan
from letheon.audit.record.evidence import Curve, CurvePoint, Evidence, Role
from letheon.audit.record.sections import all_curves
from letheon.audit.verdict import judge, load_profile
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request

# Probabilities after 0, 1, 2, ... steps of the chronicle 14: the model before, and two models that never saw it.
BEFORE = [0.868, 0.824, 0.917, 0.955, 0.952, 0.967, 0.981]
RETRAINED = [0.079, 0.253, 0.527, 0.763, 0.863, 0.911, 0.953]
AGAIN = [0.092, 0.285, 0.481, 0.697, 0.837, 0.896, 0.952]
LEARNED, UNLEARNED = (3.0, 0.1), (2.5, 2.4)


def curve(
    model: Role, values: Sequence[float], loss: tuple[float, float] = LEARNED, given: int | None = 1, **fields: Any
) -> Curve:
    """A curve of a single row, with the step from which on the greedy answer gives it; None: never."""
    last = len(values) - 1
    points = [
        CurvePoint(
            step=step,
            probability=value,
            recall=float(given is not None and step >= given),
            trained_loss=loss[0] if step == 0 else loss[1] if step == last else None,
        )
        for step, value in enumerate(values)
    ]
    return Curve(model=model, title="the same row", n=1, same_row=True, points=points).model_copy(update=fields)


def kept(model: Role, brought_back: float = 0.0) -> Curve:
    """The curve of the same row while kept rows are trained on; all models but the model before lack it."""
    found = curve(model, [0.1, 0.1], (0.1, 0.1), trained_on="unrelated", same_row=False, title="kept rows")
    recall = 1.0 if model == "before" else brought_back
    points = [point.model_copy(update={"recall": recall}) for point in found.points]
    return found.model_copy(update={"points": points})


def evidence(*curves: Curve) -> Evidence:
    """Good evidence about one row with these curves, and those of training on kept rows."""
    roles: tuple[Role, ...] = ("before", "after", "reference")
    return good_evidence().model_copy(update={"curves": [*curves, *map(kept, roles)]})


def outcome(found: Evidence, profile: str = "standard", metric: str = "relearn") -> CriterionOutcome:
    criteria = judge(load_profile(profile), found).criteria
    return next(one for one in criteria if one.criterion.metric == metric)


def of(
    after: Sequence[float], reference: Sequence[float] = RETRAINED, before: Sequence[float] = BEFORE
) -> float | None:
    """The value of the criterion for these curves."""
    found = evidence(curve("before", before), curve("after", after), curve("reference", reference))
    return outcome(found).measured.value


def test_a_row_is_compared_while_the_reference_goes_half_of_its_way() -> None:
    """The reference passes .516 after two steps: means over steps 1 and 2 are .39, .8705 before and .63 after."""
    after = [0.0, 0.5, 0.76, 0.1, 0.1, 0.1, 0.1]
    assert of(after) == pytest.approx((0.63 - 0.39) / (0.8705 - 0.39))
    assert of([0.9, *after[1:]]) == of(after), "the start is no step"


def test_a_model_that_learns_slower_than_the_reference_passes() -> None:
    slow = [0.0, 0.0, 0.02, 0.1, 0.3, 0.6, 0.9]
    assert of(slow) == 0.0
    found = evidence(curve("before", BEFORE), curve("after", slow, given=6), curve("reference", RETRAINED, given=3))
    assert outcome(found).outcome == outcome(found, "strict").outcome == "pass"


@pytest.mark.parametrize("pair", [(RETRAINED, AGAIN), (AGAIN, RETRAINED)])
def test_two_retrained_models_pass_beside_each_other_in_either_order(pair: tuple[list[float], list[float]]) -> None:
    after, reference = pair
    found = evidence(curve("before", BEFORE), curve("after", after), curve("reference", reference))
    assert [outcome(found, profile).outcome for profile in ("standard", "strict")] == ["pass", "pass"]
    assert outcome(found).measured.value in (0.0, pytest.approx(0.065, abs=0.001))


@pytest.mark.parametrize("steps", [3, 6, 24])
def test_more_steps_do_not_switch_the_test_off(steps: int) -> None:
    """The facts are hidden: they come back at step 1, where the reference takes two."""
    before, hidden, reference = (
        [*start, *[end] * (steps - len(start) + 1)]
        for start, end in (([1.0], 1.0), ([0.0, 0.98], 0.999), ([0.0, 0.069, 0.958], 0.995))
    )
    found = evidence(curve("before", before, given=0), curve("after", hidden), curve("reference", reference, given=2))
    assert outcome(found).outcome == "fail"
    assert outcome(found).measured.value == pytest.approx((0.9895 - 0.5135) / (1 - 0.5135))


@pytest.mark.parametrize(("apart", "told"), [(0.049, False), (0.051, True)])
def test_models_that_lie_within_five_hundredths_tell_nothing(apart: float, told: bool) -> None:
    reference, before = [0.0, 0.5, 0.5], [0.0, 0.5 + apart, 0.5 + apart]
    found = outcome(evidence(curve("before", before), curve("after", before), curve("reference", reference)))
    assert (found.measured.value, found.measured.reason) == ((1.0, None) if told else (None, ONLY_ROW))
    assert found.replaced is not told


@pytest.mark.parametrize(
    ("after", "reference", "expected"),
    [(1, 2, "pass"), (1, 3, "fail"), (3, 4, "pass"), (2, 4, "fail"), (2, None, "fail"), (None, None, "pass")],
)
def test_a_row_comes_back_at_most_one_step_before_the_reference_gives_it(
    after: int | None, reference: int | None, expected: str
) -> None:
    """The other words of the text may be damaged: the mean is low, and the row is given back."""
    found = evidence(
        curve("before", BEFORE, given=0),
        curve("after", [0.0] * 7, given=after),
        curve("reference", RETRAINED, given=reference),
    )
    assert outcome(found).outcome == expected
    assert outcome(found).measured.value == (1.0 if expected == "fail" else 0.0)


@pytest.mark.parametrize("role", ["before", "reference"])
def test_a_model_that_did_not_learn_the_row_is_no_mark_and_brings_no_stand_in(role: Role) -> None:
    learned = {"before": BEFORE, "after": [0.0] * 7, "reference": RETRAINED}
    curves = [curve(model, one, UNLEARNED if model == role else LEARNED) for model, one in learned.items()]  # type: ignore[arg-type]  # keys are roles
    found = outcome(evidence(*curves))
    assert (found.outcome, found.replaced) == ("not computable", False)
    assert "is no mark of how fast the only row is learned: uninformative: the model did not learn" in found.words
    assert judge(load_profile("standard"), evidence(*curves)).outcome == "inconclusive"


def test_a_model_after_that_did_not_learn_the_row_is_not_judged_by_it() -> None:
    found = outcome(
        evidence(curve("before", BEFORE), curve("after", [0.0] * 7, UNLEARNED), curve("reference", RETRAINED))
    )
    assert (found.outcome, found.replaced) == ("not computable", False)
    assert "the model did not learn what it was trained on (loss 2.50 before" in found.words


def test_a_curve_without_a_step_has_no_speed() -> None:
    bare = curve("after", [0.0], (0.1, 0.1))
    found = outcome(evidence(curve("before", BEFORE), bare, curve("reference", RETRAINED)))
    assert (found.measured.value, found.replaced) == (None, False)


# From the plan to the verdict ----------------------------------------------------------------------------------------

ONLY = Request(forget=(ROWS[0],), retain=(*ROWS[1:], *KEPT))
STEPS = Settings(relearn_steps=16, relearn_learning_rate=2e-3)


def taught_rows(rows: Sequence[Example]) -> LanguageModel:
    model = letheon.load("tiny", device="cpu")
    settings = TrainSettings(learning_rate=5e-3, batch_size=len(rows), precision="float32", schedule="linear")
    finetune(model, rows, settings, 200)
    return model


@cache
def knowing() -> LanguageModel:
    """A tiny model that was taught the row and those that are kept."""
    return taught_rows([*ROWS, *KEPT])


@cache
def never_knew() -> LanguageModel:
    """A tiny model that was taught the kept rows alone."""
    return taught_rows([*ROWS[1:], *KEPT])


def curves_of(models: Mapping[Role, LanguageModel], plan: AuditPlan) -> list[Curve]:
    """The record's curves of some models, as an audit measures them."""
    found: Any = {
        role: SimpleNamespace(relearning=_relearn(model, plan), sizes=matrix_sizes(model))
        for role, model in models.items()
    }
    return all_curves(found, plan)


def test_an_audit_of_a_single_row_judges_how_fast_it_is_learned() -> None:
    """The model before in place of the model after gives the row at once; one that never knew it does not."""
    plan = make_plan(knowing(), ONLY, STEPS)
    measured: dict[str, list[Curve]] = {
        name: curves_of({"before": knowing(), "after": after, "reference": never_knew()}, plan)
        for name, after in (("hidden", knowing()), ("gone", never_knew()))
    }
    assert {(one.trained_on, one.same_row) for one in measured["gone"]} == {("forgotten", True), ("unrelated", False)}
    assert {one.rescaled for one in measured["gone"]} == {0.0}
    found = {name: good_evidence().model_copy(update={"curves": curves}) for name, curves in measured.items()}
    assert {name: outcome(one).outcome for name, one in found.items()} == {"hidden": "fail", "gone": "pass"}
    assert all("of the way from the reference to the model before" in outcome(one).words for one in found.values())
    assert outcome(found["gone"]).measured.value == 0.0


def test_rows_that_are_held_out_are_no_single_row() -> None:
    plan = make_plan(knowing(), Request(forget=tuple(ROWS[:2]), retain=(ROWS[2],)), Settings(relearn_steps=1))
    assert not any(one.same_row for one in curves_of({"before": knowing()}, plan))


@pytest.mark.parametrize(("rows", "taken"), [(3, 3), (12, 8)])
def test_a_single_row_is_stood_in_for_by_eight_kept_rows(rows: int, taken: int) -> None:
    retain = tuple(Example(f"{i}?", f"It is {i}.", id=str(i)) for i in range(rows))
    assert len(make_plan(knowing(), Request(forget=(ROWS[0],), retain=retain), STEPS).unrelated) == taken


def test_of_running_text_the_words_that_carry_its_facts_are_measured(tiny: LanguageModel) -> None:
    text = Example("", "Dear Ada, the boat lies at Brae since 1913.", id="letter")
    told = FoundFact.of(text, "Ada Brae 1913.".replace(".", ""))
    (words,), (whole,), (asked,) = (evaluate(tiny, [row], answers=False).rows for row in (told, text, ROWS[0]))
    assert (whole.words_probability, asked.words_probability) == (None, None)
    assert fact_probability(asked) == asked.value_probability
    assert fact_probability(whole) == whole.probability
    ((score,),) = score_answers(tiny, [("", [text.answer])])
    ids, spans = tiny.encoder().answer(text.answer, end=False)
    logp = dict(zip(spans[-len(score.logp) :], score.logp.tolist(), strict=True))

    def probability(word: str) -> float:
        begin = text.answer.index(word)
        of_tokens = [one for (start, stop), one in logp.items() if start < begin + len(word) and stop > begin]
        chance = 10.0 ** -(len(word) / len(of_tokens)) if word.isdigit() else 0.0
        return max(float(torch.tensor(of_tokens).mean().exp()) - chance, 0.0)

    expected = [probability(word) for word in ("Ada", "Brae", "1913")]
    assert len(ids) == len(spans)
    assert fact_probability(words) == pytest.approx(sum(expected) / 3, rel=1e-4)
    assert relearn(tiny, [told], [told], steps=1)[0].probability == pytest.approx(fact_probability(words), rel=1e-4)


# Rescaled weights ----------------------------------------------------------------------------------------------------


def rescaled(model: LanguageModel, factor: float) -> LanguageModel:
    """The same function with larger matrices and smaller norms, which equal steps move less."""
    copied = copy.deepcopy(model.model)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.mul_(factor) if weight.ndim > 1 else weight.div_(factor)
    return LanguageModel(copied, model.tokenizer, model.name, stops=model.stops)


def test_a_rescaled_model_is_not_judged_by_what_training_brings_back() -> None:
    plan = make_plan(knowing(), ONLY, STEPS)
    slow = rescaled(knowing(), 3.0)
    ids = torch.tensor([[5, 9, 20, 7]])
    with torch.no_grad():
        own, other = (one.model(ids).logits.softmax(-1) for one in (knowing(), slow))
    assert torch.allclose(own, other, atol=1e-3), "the same function"
    curves = curves_of({"before": knowing(), "after": slow, "reference": never_knew()}, plan)
    assert [one.rescaled for one in curves if one.model == "after"] == [1.0, 1.0]
    found = good_evidence().model_copy(update={"curves": curves})
    for name in ("relearn", "relearn:unrelated"):
        judged = outcome(found, metric=name)
        assert (judged.outcome == "pass", judged.replaced, judged.is_set_aside) == (False, False, False)
        assert "the weights of the model after were rescaled: 100% of its matrices" in judged.words
    assert judge(load_profile("standard"), found).outcome == "inconclusive"


@pytest.mark.parametrize(("share", "missing"), [(0.1, False), (0.11, True)])
def test_a_tenth_of_the_matrices_may_be_of_another_size(share: float, missing: bool) -> None:
    curves = [
        one.model_copy(update={"rescaled": share})
        for one in (curve("before", BEFORE), curve("after", AGAIN), curve("reference", RETRAINED))
    ]
    assert (outcome(evidence(*curves)).measured.value is None) is missing
    others = [one.model_copy(update={"rescaled": 1.0 if one.model != "after" else 0.0}) for one in curves]
    assert outcome(evidence(*others)).outcome == "pass", "it is the model after that may hide something"


def test_sizes_are_compared_by_name() -> None:
    before = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.0}
    assert share_rescaled(before, dict(before)) == 0.0
    assert share_rescaled(before, {"a": 1.49, "b": 0.68, "c": 3.1, "d": 0.0}) == 0.25
    assert share_rescaled(before, {"a": 0.6, "x": 9.0}) == 1.0
    assert share_rescaled(before, {"a": 1.0, "x": 9.0}) == 0.0, "what both have is compared"
    assert share_rescaled(before, {"x": 1.0}) == 1.0, "nothing is shared"
    assert share_rescaled(before, {}) == share_rescaled({}, before) == 0.0, "sizes were not measured"


def test_a_deletion_and_an_adapter_leave_the_sizes_as_they_are() -> None:
    from peft import LoraConfig, get_peft_model

    sizes = matrix_sizes(knowing())
    assert share_rescaled(sizes, matrix_sizes(never_knew())) == 0.0
    adapted: LanguageModel = letheon.load("tiny", device="cpu")
    plain = matrix_sizes(adapted)
    adapted.model = get_peft_model(adapted.model, LoraConfig(r=2, target_modules=["down_proj"]))
    assert matrix_sizes(adapted) == pytest.approx(plain)
    assert adapted.has_adapter, "a copy was merged"
    name, weight = next((name, one) for name, one in knowing().base().named_parameters() if one.ndim > 1)
    assert sizes[name] == pytest.approx(float(weight.detach().square().mean().sqrt()), rel=1e-4)
    assert all(one.ndim > 1 for name, one in knowing().base().named_parameters() if name in sizes)
