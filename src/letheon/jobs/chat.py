"""`letheon chat`: a conversation with a model that has a memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from letheon.core.errors import InputError
from letheon.core.model.control_tokens import control_tokens
from letheon.core.model.models import load
from letheon.recall.conversation import Answers, Conversation, endpoint_answers, model_answers
from letheon.recall.embedders import load_embedder
from letheon.recall.erasure import Erasure
from letheon.recall.instructions import Recogniser, asking_model
from letheon.recall.lifelong.memory import LifelongMemory
from letheon.recall.memory import Memory
from letheon.recall.policies import Name
from letheon.recall.store import Store

YES = 3  # tokens in which a model says whether a sentence is a standing rule
AROUND = 8  # tokens that a chat template puts around a message


@dataclass(frozen=True)
class ChatSettings:
    """Settings of a conversation.

    Attributes:
        memory: the memory file; it is made if it does not exist.
        policy: which earlier exchanges the model sees.
        recogniser: what tells standing rules from other sentences: a small head, or the model (one call per sentence).
        session: name of the conversation; by default the present day.
        embedder: the embedder of a new memory file; an existing one keeps its own.
        budget: tokens of the context that the model is shown.
        max_new_tokens: longest answer, in tokens.
        system: the system prompt.
        device: where the model runs: auto, cpu, cuda, ...
        endpoint: instead of MODEL, an address such as http://127.0.0.1:8000/v1; OPENAI_API_KEY is sent if it is set.
        endpoint_model: the model's name at the endpoint.
        timeout: seconds that the endpoint may be silent.
    """

    memory: Path
    policy: Name = "rhea"
    recogniser: Literal["head", "model"] = "head"
    session: str = ""
    embedder: str = "minilm"
    budget: int = 1500
    max_new_tokens: int = 200
    system: str = ""
    device: str = "auto"
    endpoint: str = ""
    endpoint_model: str = field(default="", metadata={"spellings": ("--endpoint-model", "--model")})
    timeout: float = 60.0


@dataclass(frozen=True)
class Ready:
    """A model and a memory that are open.

    Attributes:
        name: the model's name.
        answering: makes the function that answers, with a largest number of new tokens.
        memory: the open memory, in the session that was asked for.
    """

    name: str
    answering: Callable[[int], Answers]
    memory: Memory


@dataclass(frozen=True)
class ChatJob:
    """A conversation to be opened.

    Attributes:
        ledger: folder of a ledger in which /forget is recorded; empty for none.
    """

    model: str | None
    settings: ChatSettings
    ledger: str = ""

    def __post_init__(self) -> None:
        given = self.settings
        if bool(self.model) == bool(given.endpoint):
            raise InputError("one model answers", "give MODEL, or --endpoint and --model")
        if given.budget < 1 or given.max_new_tokens < 1:
            raise InputError(f"a budget of {given.budget}, answers of {given.max_new_tokens} tokens", "give at least 1")

    def open(self) -> Conversation:
        """Load the model and open the memory.

        Raises:
            InputError: the model has no chat template, or a budget that its context cannot hold.
        """
        ready, given = self.ready(), self.settings
        answers = ready.answering(given.max_new_tokens)
        return Conversation(answers, ready.memory, given.budget, given.system, self._forget(ready.memory))

    def _forget(self, memory: Memory) -> Callable[[str], Erasure] | None:
        """Return the function that erases and records it, None where there is no ledger."""
        if not (ledger := self.ledger):
            return None
        from letheon.jobs.memory_forget import erase_with_entry  # loads what trains and audits models

        return lambda subject: erase_with_entry(memory, subject, ledger)

    def ready(self) -> Ready:
        """Load the model, or check the endpoint, and open the memory."""
        given = self.settings
        if self.model is None:
            name = given.endpoint_model

            def answering(limit: int) -> Answers:
                return endpoint_answers(given.endpoint, name, limit, given.timeout)

            answering(given.max_new_tokens)  # refuses a wrong address before the memory is opened
            return Ready(name, answering, self._memory(recognise=self._recogniser(answering)))
        model = load(self.model, device=given.device)
        if not getattr(model.tokenizer, "chat_template", None):
            raise InputError(f"{self.model} has no chat template", "chat with an instruction-tuned model")
        longest = model.context_length
        if given.budget + given.max_new_tokens > longest:
            problem = f"a budget of {given.budget} and answers of {given.max_new_tokens} tokens exceed the context"
            raise InputError(f"{problem} of {longest}", "lower --budget or --max-new-tokens")
        own = self._recogniser(lambda limit: model_answers(model, limit))
        memory = self._memory(count=_counter(model.tokenizer), marks=control_tokens(model.tokenizer), recognise=own)
        return Ready(self.model, lambda limit: model_answers(model, limit), memory)

    def _recogniser(self, answering: Callable[[int], Answers]) -> Recogniser | None:
        """Return the recogniser that asks the model, None for the memory's own."""
        return asking_model(answering(YES)) if self.settings.recogniser == "model" else None

    def _memory(self, **options: Any) -> Memory:
        given = self.settings
        embedder = Store.facts(given.memory)["embedder"] if given.memory.is_file() else given.embedder
        session = given.session or datetime.now(UTC).strftime("%Y-%m-%d")
        memory = Memory(given.memory, load_embedder(embedder), given.policy, session, **options)
        if given.policy == "lifelong":  # at rest: earlier sessions become beliefs, faint memories dormant
            LifelongMemory(memory.store, memory.embedder).consolidate(now=time.time())
        return memory


def _counter(tokenizer: Any) -> Callable[[str], int]:
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]) + AROUND
