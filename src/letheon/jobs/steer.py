"""`letheon steer`: fit, chat, curve, bake and export of steerings, from files on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from letheon.core.atomic import atomic_write_text, check_writable, plain, write_json
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.core.parts import read_part
from letheon.core.scoring.generation import generate
from letheon.steer.apply import one_per_steering, steered
from letheon.steer.bake import bake, obstacles
from letheon.steer.control_vectors import directions_of, read_steering, write_gguf
from letheon.steer.curve import Curve, CurveSettings, measure_curve
from letheon.steer.curve_page import render_curve
from letheon.steer.method import fit
from letheon.steer.positions import check_tokens
from letheon.steer.steering import Steering
from letheon.steer.texts import read_contrast, read_texts


def read_all(files: Sequence[Path], model: LanguageModel) -> list[Steering]:
    """Read steering files of any known format and check that they are for the model."""
    steerings = [read_steering(path, model) for path in files]
    for one in steerings:
        one.check(model)
    return steerings


def _check_files(files: Sequence[Path]) -> None:
    if not files:
        raise InputError("no steering file was given", "name the files of letheon steer fit")
    for path in files:
        if not path.is_file():
            raise InputError(f"{path} does not exist", "check the path")


def _check_strengths(strengths: Sequence[float], files: Sequence[Path]) -> None:
    if not all(map(math.isfinite, strengths)):
        raise InputError(f"strength {', '.join(map(str, strengths))}", "give finite numbers")
    one_per_steering(one_each(strengths), len(files))


@dataclass(frozen=True)
class FitSteering:
    """A steering to be fitted on two sets of texts."""

    model: str
    toward: Path
    away: Path
    out: Path
    method: str = "mean_difference"
    tokens: str = "all"
    seed: int = 0
    device: str = "auto"

    def plan(self) -> dict[str, Any]:
        """Check everything that needs no model."""
        contrast = read_contrast(self.toward, self.away)
        part = read_part("steering", self.method)
        check_tokens(self.tokens)
        check_loadable(self.model)
        if self.out.suffix != ".safetensors":
            raise InputError(f"{self.out} is no .safetensors file", "give --out a name that ends in .safetensors")
        check_writable(self.out.absolute().parent)
        texts = {"toward": len(contrast.toward), "from": len(contrast.away)}
        return {"model": self.model, "method": str(part), "texts": texts, "tokens": self.tokens, "out": str(self.out)}

    def work(self) -> dict[str, Any]:
        """Fit and save; return what was fitted."""
        self.plan()
        model = load(self.model, device=self.device)
        made = fit(model, read_contrast(self.toward, self.away), self.method, seed=self.seed)
        made = replace(made, method=self.method, tokens=check_tokens(self.tokens))
        made.save(self.out)
        return {"file": str(self.out), **described(made)}


def described(steering: Steering) -> dict[str, Any]:
    """Describe a steering: model, method, kinds of maps, sites, tokens, and the method's facts."""
    sites = [f"{site.layer}.{site.kind}" for site in steering.maps]
    return {
        "model": str(steering.shape),
        "method": steering.method,
        "kinds": steering.kinds,
        "sites": sites + [f"{layer}.router" for layer in steering.switches],
        "tokens": steering.tokens,
        "facts": {name: value for name, value in steering.facts.items() if name != "losses"},
    }


@dataclass(frozen=True)
class Chat:
    """Questions to a model with and without its steerings.

    Attributes:
        beside: also answer without steering.
    """

    model: str
    files: tuple[Path, ...]
    strength: tuple[float, ...] = (1.0,)
    max_new_tokens: int = 64
    beside: bool = False
    device: str = "auto"

    def open(self) -> tuple[LanguageModel, list[Steering]]:
        """Load the model and the steerings."""
        _check_files(self.files)
        _check_strengths(self.strength, self.files)
        if self.max_new_tokens < 1:
            raise InputError(f"{self.max_new_tokens} new tokens", "give at least 1")
        model = load(self.model, device=self.device)
        return model, read_all(self.files, model)

    def answer(self, model: LanguageModel, steerings: Sequence[Steering], prompt: str) -> dict[str, str]:
        """Answer a question; each question is a conversation of its own."""
        said = {}
        if self.beside:
            said["unsteered"] = generate(model, [prompt], max_new_tokens=self.max_new_tokens)[0]
        with steered(model, steerings, one_each(self.strength)):
            said["steered"] = generate(model, [prompt], max_new_tokens=self.max_new_tokens)[0]
        return said


def one_each(strength: Sequence[float]) -> float | list[float]:
    """Return a single strength as a number, which holds for every file."""
    return strength[0] if len(strength) == 1 else list(strength)


@dataclass(frozen=True)
class DrawCurve:
    """A curve of effect and side effects, with its page in a folder."""

    model: str
    files: tuple[Path, ...]
    toward: Path
    away: Path
    out: Path
    prompts: Path | None = None
    neutral: Path | None = None
    settings: CurveSettings = field(default_factory=CurveSettings)
    device: str = "auto"

    def plan(self) -> dict[str, Any]:
        """Check everything that needs no model."""
        _check_files(self.files)
        read_contrast(self.toward, self.away)
        for path in (self.prompts, self.neutral):
            if path is not None:
                read_texts(path)
        check_loadable(self.model)
        check_writable(self.out)
        return {"model": self.model, "files": [str(path) for path in self.files], **asdict(self.settings)}

    def work(self) -> Curve:
        """Measure, and write curve.json and curve.html."""
        self.plan()
        model = load(self.model, device=self.device)
        curve = measure_curve(
            model,
            read_all(self.files, model),
            read_contrast(self.toward, self.away),
            prompts=[row.prompt or row.answer for row in read_texts(self.prompts)] if self.prompts else None,
            neutral=[row.answer for row in read_texts(self.neutral)] if self.neutral else None,
            settings=self.settings,
        )
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(self.out / "curve.json", plain(curve))
        atomic_write_text(self.out / "curve.html", render_curve(curve))
        return curve


@dataclass(frozen=True)
class BakeSteering:
    """A plain model with steerings in its weights."""

    model: str
    files: tuple[Path, ...]
    out: Path
    strength: tuple[float, ...] = (1.0,)
    device: str = "auto"

    def plan(self) -> dict[str, Any]:
        """Check everything, and say what cannot be baked; this loads the model."""
        model, steerings = self._open()
        return {"model": self.model, "cannot be baked": obstacles(model, steerings), "out": str(self.out)}

    def work(self) -> dict[str, Any]:
        """Write the model."""
        model, steerings = self._open()
        baked = bake(model, steerings, one_each(self.strength))
        names = ", ".join(path.name for path in self.files)
        card = f"# {self.model}, steered\n\n{names} at strength {', '.join(map(str, self.strength))}, in the weights.\n"
        baked.save(self.out, what="full", card=card)
        return {"model": str(self.out), "baked": [str(path) for path in self.files]}

    def _open(self) -> tuple[LanguageModel, list[Steering]]:
        _check_files(self.files)
        _check_strengths(self.strength, self.files)
        check_writable(self.out)
        model = load(self.model, device=self.device)
        return model, read_all(self.files, model)


@dataclass(frozen=True)
class ExportSteering:
    """A steering as a control vector of llama.cpp."""

    file: Path
    out: Path
    strength: float = 1.0

    def plan(self) -> dict[str, Any]:
        """Check the file and the place of the new one."""
        if self.out.suffix != ".gguf":
            raise InputError(f"{self.out} is no .gguf file", "give --out a name that ends in .gguf")
        _check_strengths([self.strength], [self.file])
        check_writable(self.out.absolute().parent)
        steering = Steering.load(self.file)
        directions_of(steering)
        return {**described(steering), "out": str(self.out)}

    def work(self) -> dict[str, Any]:
        """Write the control vector."""
        self.plan()
        steering = Steering.load(self.file)
        write_gguf(steering, self.out, self.strength)
        layers = [site.layer for site in steering.maps]
        return {"file": str(self.out), "layers": layers, "model": steering.shape.type}
