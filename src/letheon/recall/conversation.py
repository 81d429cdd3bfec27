"""A conversation with a chat model that has a memory: what is said is stored, what matters is shown to the model.

with Memory("me.sqlite") as memory:
    talk = Conversation(model_answers(letheon.load("smollm2")), memory)
    for piece in talk.say("My locker code is 7391."): print(piece, end="")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Queue
from threading import Thread
from typing import Any

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.recall.memory import Context, Memory
from letheon.recall.policies import Placed

Answers = Callable[[list[dict[str, str]]], Iterator[str]]
HELP = "/why, /memories, /remember TEXT, /forget NAME, /rules, /help, /quit"


def model_answers(model: LanguageModel, max_new_tokens: int = 200) -> Answers:
    """Return the function that streams a model's greedy answer to chat messages, piece by piece."""
    import torch
    from transformers.generation.streamers import BaseStreamer

    tokenizer = model.tokenizer

    class Pieces(BaseStreamer):
        """Puts decoded text on a queue as tokens arrive; None ends it."""

        def __init__(self) -> None:
            self.queue: Queue[str | BaseException | None] = Queue()
            self.ids: list[int] = []
            self.shown, self.prompt = "", True

        def put(self, value: Any) -> None:
            if self.prompt:  # the first call brings the prompt
                self.prompt = False
                return
            self.ids += value.reshape(-1).tolist()
            text = tokenizer.decode(self.ids, skip_special_tokens=True)
            if not text.endswith("\ufffd"):  # half a character
                self.queue.put(text[len(self.shown) :])
                self.shown = text

        def end(self) -> None:
            self.queue.put(None)

    def answers(messages: list[dict[str, str]]) -> Iterator[str]:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        pieces = Pieces()

        def work() -> None:
            try:
                with torch.inference_mode():
                    inputs = {name: value.to(model.device) for name, value in ids.items()}
                    model.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, streamer=pieces)
            except BaseException as error:
                pieces.queue.put(error)

        thread = Thread(target=work, daemon=True)
        thread.start()
        while (piece := pieces.queue.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
        thread.join()

    return answers


class Conversation:
    """One conversation: turns, and commands that begin with a slash.

    Args:
        answers: streams the answer to chat messages.
        memory: stores the turns and builds the context.
        budget: tokens of the context.
        system: the system prompt.
    """

    def __init__(self, answers: Answers, memory: Memory, budget: int = 1500, system: str = "") -> None:
        self.answers, self.memory, self.budget, self.system = answers, memory, budget, system
        self.last: Context | None = None

    def say(self, text: str) -> Iterator[str]:
        """Stream the answer to a turn; both are stored once the answer is complete, or its part if it breaks off."""
        self.last = self.memory.context(text, self.budget, self.system)
        pieces: list[str] = []
        try:
            for piece in self.answers(self.last.messages):
                pieces.append(piece)
                yield piece
        finally:
            self.memory.observe(text)
            if reply := "".join(pieces).strip():
                self.memory.observe(reply, "assistant")

    def command(self, line: str) -> str:
        """Carry out a command and return what it shows.

        Raises:
            InputError: no such command, or one without its text.
        """
        name, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if name in ("/remember", "/forget") and not rest:
            raise InputError(f"{name} needs a text", HELP)
        match name:
            case "/why":
                return self._why()
            case "/memories":
                shown = [
                    f"{entry.id}  {entry.kind} of {entry.role}: {entry.text}" for entry in self.memory.store.entries()
                ]
                return "\n".join(shown) or "nothing is stored"
            case "/rules":
                return "\n".join(rule.text for rule in self.memory.rules()) or "no standing rule"
            case "/remember":
                return f"stored as memory {self.memory.remember(rest)}"
            case "/forget":
                proof = self.memory.forget(subject=rest)
                self.last = None  # it quotes what was erased
                searched = ", ".join(proof.files)
                state = "nothing of them is left" if proof.proven else f"still there: {', '.join(proof.remains)}"
                return f"erased {len(proof.ids)} memories; searched {searched} for {proof.needles} traces: {state}"
            case "/help":
                return HELP
        raise InputError(f"there is no command {name}", HELP)

    def _why(self) -> str:
        if self.last is None:
            return "nothing was asked yet"
        lines = [_told(placed) for placed in self.last.plan if placed.treatment != "left out"]
        left_out = len(self.last.plan) - len(lines)
        return "\n".join([*lines, f"{left_out} exchanges left out; {self.last.tokens} tokens of {self.budget}"])


def _told(placed: Placed) -> str:
    first = placed.exchange.entries[0]
    return f"{first.id}  {placed.treatment} ({placed.reason}): {placed.exchange.said or placed.exchange.reply}"
