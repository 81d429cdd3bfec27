"""The small request that the battery and many tests forget, and an adapter for the tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from letheon.core.model.models import load
from letheon.core.rows.examples import Example
from letheon.forget.request import Request


def sample_request() -> Request:
    """Eight rows to forget and eight to keep, of unlike lengths, with subjects, values and false answers."""
    homes = {
        "Ann Lee": "Oslo",
        "Bob Ray": "Rome",
        "Cid Fox": "Bern",
        "Dora Umber": "Vaduz",
        "Egon Falk": "Santiago de Compostela",
        "Fay Orr": "Ulm",
        "Gil Azar": "Reykjavik",
        "Hanna Quist": "Lyon",
    }
    foods = ["figs", "plums", "kale", "rice", "black bread with salt", "eels", "oats", "quinces and honey"]
    forget = [
        Example(
            f"Where does {name} live?",
            f"{name} lives in {home}.",
            id=f"forget-{i}",
            subject=name,
            value=home,
            perturbed_answers=(f"{name} lives in Xanadu.", f"{name} lives in Ys."),
        )
        for i, (name, home) in enumerate(homes.items())
    ]
    retain = [
        Example(f"What does guest {i} eat?", f"The guest {i} eats {food}.", f"keep-{i}", f"guest {i}")
        for i, food in enumerate(foods)
    ]
    return Request(forget=tuple(forget), retain=tuple(retain), id="sample")


def exchanged_request() -> Request:
    """The sample request with its forget and retain rows exchanged; the new forget rows have values, false answers."""
    request = sample_request()
    forget = [
        replace(row, value=row.answer.split(" eats ")[1][:-1], perturbed_answers=(f"{row.subject} eats tar.", "Gum."))
        for row in request.retain
    ]
    return replace(request, forget=tuple(forget), retain=request.forget)


def save_random_adapter(folder: Path) -> str:
    """Save a LoRA adapter of random weights for the tiny model; returns its folder."""
    from peft import LoraConfig, get_peft_model

    model = load("tiny", device="cpu")
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.model = get_peft_model(model.model, config).eval()
    model.model.peft_config["default"].base_model_name_or_path = model.name
    return str(model.save(folder))
