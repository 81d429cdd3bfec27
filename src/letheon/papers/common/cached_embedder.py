"""An embedder that remembers, for experiments that show the same texts to many arms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from letheon.recall.embedders import Embedder


class Cached:
    """An embedder that embeds each text once."""

    def __init__(self, inner: Embedder) -> None:
        self.inner, self.name, self.width = inner, inner.name, inner.width
        self.known: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per text [texts, width]."""
        if new := [text for text in dict.fromkeys(texts) if text not in self.known]:
            self.known |= dict(zip(new, self.inner.embed(new), strict=True))
        return np.stack([self.known[text] for text in texts])
