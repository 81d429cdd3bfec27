"""A conversation with a chat model that has a memory: what is said is stored, what matters is shown to the model.

with Memory("me.sqlite") as memory:
    talk = Conversation(model_answers(letheon.load("smollm2")), memory)
    for piece in talk.say("My locker code is 7391."): print(piece, end="")
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from threading import Thread

from letheon.core.endpoint import check_endpoint, stream_completion
from letheon.core.errors import InputError
from letheon.core.model.control_tokens import control_tokens, defused
from letheon.core.model.models import LanguageModel
from letheon.recall.erasure import Erasure
from letheon.recall.memory import Context, Memory
from letheon.recall.policies import Placed
from letheon.recall.store import SourceErased

Messages = list[dict[str, str]]
Answers = Callable[[Messages], Iterator[str]]  # a generator may return why the answer ended: `stop` or `length`
HELP = "/why, /memories, /remember TEXT, /forget NAME, /rules, /help, /quit"


def model_answers(model: LanguageModel, max_new_tokens: int = 200) -> Answers:
    """Return the function that streams a model's greedy answer to chat messages, piece by piece.

    Control tokens inside of messages are made harmless. Generation ends when the caller stops reading.
    """
    import torch
    from transformers.generation.stopping_criteria import StoppingCriteriaList

    from letheon.recall.streaming import Pieces, Stopped

    tokenizer, marks = model.tokenizer, control_tokens(model.tokenizer)

    def answers(messages: Messages) -> Generator[str, None, str]:
        safe = [{**message, "content": defused(message["content"], marks)} for message in messages]
        ids = tokenizer.apply_chat_template(safe, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        pieces, stopped = Pieces(tokenizer), Stopped()

        def work() -> None:
            try:
                with torch.inference_mode():
                    inputs = {name: value.to(model.device) for name, value in ids.items()}
                    criteria = StoppingCriteriaList([stopped])
                    length = {"max_new_tokens": max_new_tokens, "do_sample": False}
                    model.model.generate(**inputs, **length, streamer=pieces, stopping_criteria=criteria)
            except BaseException as error:
                pieces.queue.put(error)

        thread = Thread(target=work, daemon=True)
        thread.start()
        try:
            while (piece := pieces.queue.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            stopped.event.set()
            thread.join()
        return "length" if len(pieces.ids) >= max_new_tokens else "stop"

    return answers


def endpoint_answers(url: str, name: str, max_new_tokens: int = 200, timeout: float = 60.0) -> Answers:
    """Return the function that streams the answer of a model behind an OpenAI-compatible endpoint.

    Raises:
        InputError: the address is none, or the name is missing.
    """
    check_endpoint(url, name)

    def answers(messages: Messages) -> Generator[str, None, str]:
        safe = [{**message, "content": defused(message["content"])} for message in messages]
        request = {"model": name, "messages": safe, "temperature": 0, "max_tokens": max_new_tokens}
        return (yield from stream_completion(url, request, timeout))

    return answers


class Conversation:
    """One conversation: turns, and commands that begin with a slash.

    Args:
        answers: streams the answer to chat messages.
        memory: stores the turns and builds the context.
        budget: tokens of the context.
        system: the system prompt.
        forget: erases what is about a subject; by default the memory itself does.
    """

    def __init__(
        self,
        answers: Answers,
        memory: Memory,
        budget: int = 1500,
        system: str = "",
        forget: Callable[[str], Erasure] | None = None,
    ) -> None:
        self.answers, self.memory, self.budget, self.system = answers, memory, budget, system
        self.forget = forget or (lambda subject: memory.forget(subject=subject))
        self.last: Context | None = None
        self.finish = ""  # why the last answer ended

    def say(self, text: str) -> Iterator[str]:
        """Stream the answer to a turn.

        The turn is stored before the model is asked; the answer once it is complete, or its part if it breaks off,
        derived from the turn and from the memories that the model was shown. If one of those was erased meanwhile,
        the answer is not stored.

        Raises:
            InputError: the turn exceeds the budget; nothing was stored.
        """
        self.last, self.finish = self.memory.context(text, self.budget, self.system), ""
        sources = (*self.last.sources, self.memory.observe(text))
        pieces: list[str] = []
        answer = iter(self.answers(self.last.messages))
        try:
            while True:
                try:
                    piece = next(answer)
                except StopIteration as end:
                    self.finish = end.value or "stop"
                    return
                pieces.append(piece)
                yield piece
        finally:
            if isinstance(answer, Generator):
                answer.close()
            if reply := "".join(pieces).strip():
                with suppress(SourceErased):
                    self.memory.observe(reply, "assistant", sources=sources)

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
                wishes = [f"{wish.text} (from {wish.session or 'another session'})" for wish in self.memory.wishes()]
                return "\n".join([*(rule.text for rule in self.memory.rules()), *wishes]) or "no standing rule"
            case "/remember":
                return f"stored as memory {self.memory.remember(rest)}"
            case "/forget" if rest.endswith("--and-model"):
                command = f"letheon memory forget {self.memory.store.path} --subject NAME --and-model MODEL"
                raise InputError("nothing is erased: a model forgets outside of a conversation", f"run `{command}`")
            case "/forget":
                proof = self.forget(rest)
                self.last = None  # it quotes what was erased
                searched = f"searched {', '.join(proof.files)} for {proof.needles} traces and {proof.stems} stems"
                state = "nothing of them is left" if proof.proven else f"still there: {', '.join(proof.remains)}"
                derived = f", {len(proof.derived)} of them derived" if proof.derived else ""
                similar = f"; these may say the same: {', '.join(map(str, proof.similar))}" if proof.similar else ""
                return f"erased {len(proof.ids)} of the memories{derived}; {searched}: {state}{similar}"
            case "/help":
                return HELP
        raise InputError(f"there is no command {name}", HELP)

    def _why(self) -> str:
        if self.last is None:
            return "nothing was asked yet"
        lines = [_told(placed) for placed in self.last.plan if placed.treatment != "left out"]
        lines += [f"{entry.id}  rule or wish left out: {entry.text}" for entry in self.last.omitted]
        return "\n".join(
            [*lines, f"{self.last.left_out} exchanges left out; {self.last.tokens} tokens of {self.budget}"]
        )


def _told(placed: Placed) -> str:
    first = placed.exchange.entries[0]
    return f"{first.id}  {placed.treatment} ({placed.reason}): {placed.exchange.said or placed.exchange.reply}"
