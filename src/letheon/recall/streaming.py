"""Streaming from a local model: the pieces of an answer as its tokens arrive, and an end once nobody reads them."""

from __future__ import annotations

from queue import Queue
from threading import Event
from typing import Any

import torch
from transformers.generation.stopping_criteria import StoppingCriteria
from transformers.generation.streamers import BaseStreamer


class Pieces(BaseStreamer):
    """Puts decoded text on a queue as tokens arrive; None ends it.

    Args:
        tokenizer: decodes the tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.queue: Queue[str | BaseException | None] = Queue()
        self.ids: list[int] = []
        self.shown, self.prompt = "", True

    def put(self, value: Any) -> None:
        """Take the prompt, then token after token."""
        if self.prompt:
            self.prompt = False
            return
        self.ids += value.reshape(-1).tolist()
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        if not text.endswith("\ufffd"):  # half a character
            self.queue.put(text[len(self.shown) :])
            self.shown = text

    def end(self) -> None:
        """Mark the end of the answer."""
        self.queue.put(None)


class Stopped(StoppingCriteria):
    """Ends the generation once its event is set."""

    def __init__(self) -> None:
        self.event = Event()

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Return for each row whether it ends."""
        return torch.full((len(input_ids),), self.event.is_set(), device=input_ids.device)
