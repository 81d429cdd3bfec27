"""`letheon chat`: a conversation with a model that has a memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError
from letheon.core.model.models import load
from letheon.recall.conversation import Conversation, model_answers
from letheon.recall.embedders import load_embedder
from letheon.recall.lifelong.memory import LifelongMemory
from letheon.recall.memory import Memory
from letheon.recall.policies import Name
from letheon.recall.store import Store


@dataclass(frozen=True)
class ChatSettings:
    """Settings of a conversation.

    Attributes:
        memory: the memory file; it is made if it does not exist.
        policy: which earlier exchanges the model sees.
        session: name of the conversation; by default the present day.
        embedder: the embedder of a new memory file; an existing one keeps its own.
        budget: tokens of the context that the model is shown.
        max_new_tokens: longest answer, in tokens.
        system: the system prompt.
        device: where the model runs: auto, cpu, cuda, ...
    """

    memory: Path
    policy: Name = "rhea"
    session: str = ""
    embedder: str = "minilm"
    budget: int = 1500
    max_new_tokens: int = 200
    system: str = ""
    device: str = "auto"


@dataclass(frozen=True)
class ChatJob:
    """A conversation to be opened."""

    model: str
    settings: ChatSettings

    def open(self) -> Conversation:
        """Load the model and open the memory.

        Raises:
            InputError: the model has no chat template, or a budget that its context cannot hold.
        """
        given = self.settings
        embedder = Store.facts(given.memory)["embedder"] if given.memory.is_file() else given.embedder
        model = load(self.model, device=given.device)
        if not getattr(model.tokenizer, "chat_template", None):
            raise InputError(f"{self.model} has no chat template", "chat with an instruction-tuned model")
        longest = model.context_length
        if given.budget + given.max_new_tokens > longest:
            problem = f"a budget of {given.budget} and answers of {given.max_new_tokens} tokens exceed the context"
            raise InputError(f"{problem} of {longest}", "lower --budget or --max-new-tokens")
        session = given.session or datetime.now(UTC).strftime("%Y-%m-%d")
        memory = Memory(given.memory, load_embedder(embedder), given.policy, session, count=_counter(model.tokenizer))
        if given.policy == "lifelong":  # at rest: earlier sessions become beliefs, faint memories dormant
            LifelongMemory(memory.store, memory.embedder).consolidate(now=time.time())
        return Conversation(model_answers(model, given.max_new_tokens), memory, given.budget, given.system)


def _counter(tokenizer: Any) -> Callable[[str], int]:
    return lambda text: len(tokenizer(text)["input_ids"])
