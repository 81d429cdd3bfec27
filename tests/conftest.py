"""What every test may use: the option --slow, one thread, no progress bars, a tiny model, a small request."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest
import torch

import tests.shapes  # noqa: F401
from letheon.core.model.models import LanguageModel, load
from letheon.core.progress import be_quiet
from letheon.core.rows.examples import Example
from letheon.forget.request import Request
from letheon.testing import sample_request

pytest_plugins = ["tests.evidence"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the long reproductions")


def pytest_configure(config: pytest.Config) -> None:
    # PEFT asks a question that transformers has renamed
    config.addinivalue_line("filterwarnings", "ignore:`is_gradient_checkpointing`:FutureWarning")
    torch.set_num_threads(1)  # spinning threads of two processes on two cores cost more than they give
    be_quiet()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="long; run with --slow"))


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Switch the check of shapes off: for tests of a function's own refusals, and for torch.compile."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def tiny() -> LanguageModel:
    """The embedded tiny model: four layers, random weights, always the same."""
    return load("tiny", device="cpu")


@pytest.fixture
def deletion() -> Request:
    """Eight rows to forget and eight to keep, of unlike lengths, with subjects, values and false answers."""
    return sample_request()


@pytest.fixture
def rows(deletion: Request) -> list[Example]:
    """The rows of `deletion` that shall go."""
    return list(deletion.forget)
