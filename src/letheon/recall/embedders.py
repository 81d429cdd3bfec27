"""Embedders: functions from texts to unit vectors, by which memories are found by meaning.

`minilm` is all-MiniLM-L6-v2 (Apache-2.0), read from the package that carries its original weights; none of that
package's code runs. `words` hashes words and needs nothing; `model:NAME` takes the mean last hidden state of a language
model; any other name is the folder of a sentence-transformers model.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from letheon.core.errors import InputError
from letheon.core.model.embedded import minilm
from letheon.core.model.models import cache_folder

WORDS_WIDTH = 512


class Embedder(Protocol):
    """A function from texts to vectors.

    Attributes:
        name: by which a memory file remembers it.
        width: number of values per vector.
    """

    name: str
    width: int

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 per text [texts, width]."""


def load_embedder(name: str) -> Embedder:
    """Load an embedder by its name.

    Raises:
        InputError: the folder holds no sentence encoder.
    """
    if name == "words":
        return HashedWords()
    if name == "minilm":
        return SentenceEncoder(minilm(cache_folder()), name)
    if name.startswith("model:"):
        return ModelStates(name)
    return SentenceEncoder(Path(name), name)


class HashedWords:
    """Counts of words, weighted by 1 + log, in `WORDS_WIDTH` hashed places with signs (feature hashing)."""

    name, width = "words", WORDS_WIDTH

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 per text [texts, width]."""
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word, count in Counter(re.findall(r"\w+", text.lower())).items():
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                place, sign = int.from_bytes(digest[:4]) % self.width, 1 if digest[4] % 2 else -1
                row[place] += sign * (1 + np.log(count))
        return unit(vectors)


class SentenceEncoder:
    """A sentence-transformers model: mean or first-token pooling of an encoder's last hidden states."""

    def __init__(self, folder: Path, name: str, batch_size: int = 32) -> None:
        from transformers import AutoModel, AutoTokenizer

        if not (folder / "config.json").is_file():
            remedy = "give minilm, words, model:NAME or a folder; for a memory file, run `letheon memory reindex`"
            raise InputError(f"{folder} holds no sentence encoder", remedy)
        self.name, self.batch_size = name, batch_size
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, use_safetensors=True).eval()
        self.width = int(self.model.config.hidden_size)
        pooling = _settings(folder / "1_Pooling" / "config.json")
        self.first_token = bool(pooling.get("pooling_mode_cls_token", False))
        self.longest = int(_settings(folder / "sentence_bert_config.json").get("max_seq_length", 512))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 per text [texts, width]; texts of like lengths share a batch."""
        import torch

        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            inputs = self.tokenizer(
                [texts[i] for i in part], padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
            )
            with torch.inference_mode():
                states = self.model(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None].to(states.dtype)
            pooled = states[:, 0] if self.first_token else (states * mask).sum(1) / mask.sum(1)
            vectors[part] = pooled.float().numpy()
        return unit(vectors)


class ModelStates:
    """The mean last hidden state of a language model over a text's tokens."""

    def __init__(self, name: str) -> None:
        from letheon.core.model.models import load

        self.name, self.language_model = name, load(name.removeprefix("model:"))
        self.width = int(self.language_model.width)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 per text [texts, width]."""
        import torch

        model, tokenizer = self.language_model.base(), self.language_model.tokenizer
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in enumerate(texts):
            ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)["input_ids"]
            with torch.inference_mode():
                states = model(input_ids=ids.to(model.device), output_hidden_states=True).hidden_states[-1]
            vectors[row] = states[0].float().mean(0).cpu().numpy()
        return unit(vectors)


class Cached:
    """An embedder that embeds each text once.

    Args:
        inner: the embedder that does the work.
        most: largest number of texts whose vectors are held; the oldest are dropped first. Default: no limit.
    """

    def __init__(self, inner: Embedder, most: int | None = None) -> None:
        self.inner, self.name, self.width, self.most = inner, inner.name, inner.width, most
        self.known: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per text [texts, width]."""
        if new := [text for text in dict.fromkeys(texts) if text not in self.known]:
            made = map(np.copy, self.inner.embed(new))  # a row that is a view would hold all rows in main memory
            self.known |= dict(zip(new, made, strict=True))
        vectors = np.array([self.known[text] for text in texts], dtype=np.float32).reshape(len(texts), self.width)
        for text in list(self.known)[: -self.most] if self.most else ():
            del self.known[text]
        return vectors


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors [n, width] to length 1; a vector of zeros stays."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms), dtype=np.float32)


def _settings(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
