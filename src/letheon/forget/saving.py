"""What a forgetting run writes at its end, and the remarks that every result carries."""

from __future__ import annotations

from pathlib import Path

import torch

from letheon.core.atomic import write_json
from letheon.core.model.card import card_head
from letheon.core.model.formats import Base
from letheon.core.model.models import LanguageModel, load
from letheon.core.runs import Run
from letheon.core.training.checkpoints import drop_checkpoints
from letheon.forget.conflicts import conflicts
from letheon.forget.reapply import save_update
from letheon.forget.request import Request
from letheon.forget.settings import Result


def noted(result: Result, base: Base) -> Result:
    """Add the warnings that hold for every method."""
    if base != "float32" and result.model.has_adapter:
        result.warnings.append(f"the adapter was trained on weights in {base}: on others its answers differ a little")
    elif base != "float32":
        result.warnings.append(f"the weights are in {base}: differences below its precision are not there")
    if not result.request.retain:
        result.warnings.append("no retain rows: nothing held the rest of the model in place")
    result.warnings += [*conflicts(result.request), *result.model.notes]
    return result


def saved(result: Result, run: Run, method: str) -> Result:
    """Write the model and what the method tells of itself into the run's folder; then delete its checkpoints."""
    result.folder = run.folder
    ended = f"\nThe run ended after {result.outcome.steps} steps: {result.outcome.stopped}.\n"
    result.model.save(run.folder / "model", card=model_card(result.model, method, result.request) + ended)
    if result.table:
        write_json(run.folder / "scope.json", result.table)
    if result.exposure:
        write_json(run.folder / "exposure.json", result.exposure)
    if result.change:
        save_update(run.folder, result.change, method, result.model)
    stored = {
        "steps": result.outcome.steps,
        "stopped": result.outcome.stopped,
        "seconds": round(result.outcome.seconds, 2),
        "moved": result.moved,
        "warnings": result.warnings,
    }
    write_json(run.folder / "result.json", stored | ({"stages": result.stages} if result.stages else {}))
    drop_checkpoints(run)
    return result


@torch.no_grad()
def load_weights(model: LanguageModel, folder: Path) -> None:
    """Copy the weights of a saved model into a model of the same parameters."""
    weights = dict(load(folder, device="cpu").model.named_parameters())
    for name, parameter in model.model.named_parameters():
        parameter.copy_(weights[name])


def model_card(model: LanguageModel, method: object, request: Request) -> str:
    """Write the saved model's README.md; it names the method and never the forgotten rows."""
    return (
        f"{card_head(model.name, model.has_adapter)}"
        f"# A model after unlearning\n\nMethod `{method}`, request `{request.id}`, {len(request.forget)} forget rows, "
        f"{len(request.retain)} retain rows. The evidence is in the audit beside this folder. Approximate unlearning "
        "is not proof of erasure.\n"
    )
