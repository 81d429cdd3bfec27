"""A model behind an OpenAI-compatible endpoint: retries, several requests at once, every answer cached on disk.

The address, request and answer are those of `POST {url}/chat/completions`. The key is read from the environment
variable OPENAI_API_KEY and written nowhere. Requests go out only to the endpoint that the user names.
"""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from letheon.core.atomic import canonical_hash, read_json, write_json
from letheon.core.endpoint import Unusable, check_endpoint, open_completion
from letheon.core.errors import LetheonError
from letheon.core.rows.examples import short
from letheon.measure.asking.responder import OptionLogp, Turns

TOP_LOGPROBS = 20  # the most that the interface allows
LONGEST_WAIT = 60.0  # seconds


@dataclass(frozen=True)
class Endpoint:
    """A chat model that is asked over HTTP.

    Attributes:
        url: address up to and including the version, such as `http://127.0.0.1:8000/v1`.
        name: the model's name at the endpoint.
        cache: folder of the answers; one file per request. A run that was stopped asks only what is missing.
        concurrency: requests that are open at once.
        retries: further attempts after a transient failure.
        timeout: seconds until an attempt is given up.
        pause: seconds before the first further attempt; each later one waits twice as long, and as the server asks.
    """

    url: str
    name: str
    cache: Path
    concurrency: int = 4
    retries: int = 5
    timeout: float = 60.0
    pause: float = 1.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        check_endpoint(self.url, self.name)

    def facts(self) -> dict[str, Any]:
        """Return what decides the answers; options are among the first tokens that the endpoint lists."""
        options = f"top {TOP_LOGPROBS} of the first token"
        return {
            "kind": "endpoint",
            "url": self.url,
            "model": self.name,
            "decoding": "temperature 0",
            "options": options,
        }

    def answers(self, conversations: Sequence[Turns], max_new_tokens: int) -> list[str]:
        """Ask each conversation once; equal ones share an answer."""
        contents = self._all([self._request(turns, max_new_tokens) for turns in conversations])
        return [str(choice["message"].get("content") or "").strip() for choice in contents]

    def option_logp(self, questions: Sequence[tuple[Turns, Sequence[str]]]) -> list[OptionLogp]:
        """Read each option from the listed first tokens; one that is not listed has -inf."""
        further = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        choices = self._all([self._request(turns, 1) | further for turns, _ in questions])
        return [listed_logp(choice, options) for choice, (_, options) in zip(choices, questions, strict=True)]

    def _request(self, turns: Turns, max_new_tokens: int) -> dict[str, Any]:
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
        return {"model": self.name, "messages": messages, "temperature": 0, "max_tokens": max_new_tokens}

    def _all(self, requests: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        distinct = {canonical_hash({"url": self.url, **request}): request for request in requests}
        with ThreadPoolExecutor(self.concurrency) as pool:
            found = dict(zip(distinct, pool.map(self._one, distinct, distinct.values()), strict=True))
        return [found[canonical_hash({"url": self.url, **request})] for request in requests]

    def _one(self, key: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the first choice of an answer, from the cache or from the endpoint."""
        file = self.cache / f"{key}.json"
        if file.is_file():
            stored: Mapping[str, Any] = read_json(file)["choice"]
            return stored
        why = ""
        for attempt in range(self.retries + 1):
            try:
                choice = self._ask(request)
            except Unusable as failure:
                why = str(failure)
                if attempt < self.retries:
                    wait = failure.wait if failure.wait is not None else self.pause * 2**attempt
                    self.sleep(min(wait, LONGEST_WAIT) * (1 + random.random() / 4))
                continue
            write_json(file, {"request": dict(request), "choice": choice})
            return choice
        raise LetheonError(
            f"{self.url} gave no usable answer in {self.retries + 1} attempts; the last: {why}",
            "the answers so far are stored: the same command goes on from there",
        )

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            with open_completion(self.url, request, self.timeout) as answer:
                return first_choice(answer.read())
        except (OSError, http.client.HTTPException) as error:  # while the answer is read
            raise Unusable(f"{type(error).__name__}: {error}") from None


def first_choice(body: bytes) -> dict[str, Any]:
    """Read the first choice of an answer's JSON.

    Raises:
        Unusable: the body is no JSON, or has no choice with a message.
    """
    try:
        choice = json.loads(body)["choices"][0]
        if isinstance(choice["message"], dict):
            return {"message": choice["message"], "logprobs": choice.get("logprobs")}
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise Unusable(f"not an answer of the interface: {short(body[:200].decode(errors='replace'))}")


def listed_logp(choice: Mapping[str, Any], options: Sequence[str]) -> OptionLogp:
    """Compute each option's log-probability from the listed alternatives of the first token.

    A token belongs to the option that begins with it, spaces aside; one that begins several options counts for none.
    """
    try:
        listed = [
            (str(one["token"]), float(one["logprob"])) for one in choice["logprobs"]["content"][0]["top_logprobs"]
        ]
    except (LookupError, TypeError, ValueError):
        listed = []
    mass = np.zeros(len(options))
    for token, logp in listed:
        begun = token.strip()
        exact = [i for i, option in enumerate(options) if option == begun]
        places = exact or [i for i, option in enumerate(options) if begun and option.startswith(begun)]
        if len(places) == 1:
            mass[places[0]] += np.exp(logp)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(mass))
