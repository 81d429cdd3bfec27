"""Common configuration and fixtures of the tests: checked shapes, --slow, one thread, a tiny model, a request."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import jaxtyping
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

import tests.shapes  # noqa: F401
from letheon.core.atomic import canonical_hash
from letheon.core.model.models import LanguageModel, load
from letheon.core.progress import be_quiet
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request
from letheon.testing import sample_request
from letheon.testing.pool import Processes

pytest_plugins = ["tests.evidence"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the long reproductions")


def pytest_configure(config: pytest.Config) -> None:
    # PEFT reads an attribute that transformers has renamed
    config.addinivalue_line("filterwarnings", "ignore:`is_gradient_checkpointing`:FutureWarning")
    torch.set_num_threads(1)  # two processes on two cores: more threads would wait for each other
    be_quiet()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="long; run with --slow"))


def pytest_collection_finish() -> None:
    """Leave modules and tests, which stay until the end, out of every search for garbage: comparisons ask for many."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def own_examinations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep stored examinations of audits out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LETHEON_EXAMINATIONS", str(tmp_path_factory.mktemp("examinations")))
        yield


@pytest.fixture(autouse=True, scope="session")
def no_power_cut() -> Iterator[None]:
    """Wait for no disk: what is flushed to it outlives a power cut, which no test can make, and a kill does not ask it.

    That files are flushed before they are renamed is tested with an `fsync` that fails.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Two processes of one job, started at the first call and shared by all tests."""
    with Processes() as two:
        yield two


@pytest.fixture(scope="session")
def taught_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The self-test's models are each trained once for all tests; a training that was made before is read from disk."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def taught(
        model: LanguageModel, rows: Sequence[Example], settings: TrainSettings, steps: int, **further: Any
    ) -> None:
        if set(further) != {"title"}:
            finetune(model, rows, settings, steps, **further)
            return
        given = [model.parameters_hash(), list(map(asdict, rows)), asdict(settings), steps]
        file, weights = folder / f"taught-{canonical_hash(given)}.safetensors", dict(model.model.named_parameters())
        with FileLock(folder / "taught.lock"):
            if not file.exists():
                finetune(model, rows, settings, steps, **further)
                save_file({name: weight.detach() for name, weight in weights.items()}, file)
        with torch.no_grad():
            for name, tensor in load_file(file).items():
                weights[name].copy_(tensor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("letheon.audit.selftest.models.finetune", taught)
        yield


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Switch the check of shapes off: for tests of a function's own refusals, and for torch.compile."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def tiny() -> LanguageModel:
    """The embedded tiny model: four layers, with the same random weights in every test."""
    return load("tiny", device="cpu")


@pytest.fixture
def deletion() -> Request:
    """A request with eight forget and eight retain rows of different lengths, with subjects, values, false answers."""
    return sample_request()


@pytest.fixture
def rows(deletion: Request) -> list[Example]:
    """The forget rows of `deletion`."""
    return list(deletion.forget)
