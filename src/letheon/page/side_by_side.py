"""Two models answer one prompt: before and after a deletion."""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from letheon.core.errors import InputError

if TYPE_CHECKING:
    from letheon.core.model.models import LanguageModel

LONGEST_PROMPT, LONGEST_ANSWER = 2000, 200  # characters, tokens
_LOCK = threading.Lock()


class Said(NamedTuple):
    """A model's answer and the seconds that it took."""

    text: str
    seconds: float


def answers(names: list[str], prompt: str, tokens: int) -> list[Said]:
    """Ask models the same, one after another; greedy answers.

    Args:
        names: models as `letheon.load` takes them; the last two stay loaded.
        prompt: the question; the models' chat template is applied.
        tokens: longest answer.

    Raises:
        InputError: an empty or overlong prompt or answer, or another question is being answered.
    """
    if not prompt.strip() or len(prompt) > LONGEST_PROMPT:
        raise InputError(f"the prompt has {len(prompt):,} characters", f"write 1 to {LONGEST_PROMPT:,}")
    if not 1 <= tokens <= LONGEST_ANSWER:
        raise InputError(f"{tokens} tokens", f"choose 1 to {LONGEST_ANSWER}")
    if not _LOCK.acquire(timeout=1):
        raise InputError("another question is being answered", "wait a little")
    try:
        from letheon.core.scoring.generation import generate  # loads torch, which the site does without until here

        said = []
        for name in names:
            started = time.monotonic()
            (text,) = generate(_loaded(name), [prompt], max_new_tokens=tokens)
            said.append(Said(text, time.monotonic() - started))
        return said
    finally:
        _LOCK.release()


@lru_cache(maxsize=2)
def _loaded(name: str) -> LanguageModel:
    from letheon.core.model.models import load

    return load(name)
