"""Which paper of the catalogue an imported entry is."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

from letheon.page.importing.draft import Draft, contradict, normalised
from letheon.papers.catalogue import Paper

ALIKE = 0.93  # share of equal letters: titles with a slip of the pen reach it, titles of other papers do not


class Known:
    """The papers of the catalogue by arXiv identifier and by title."""

    def __init__(self, papers: Iterable[Paper]) -> None:
        self.papers = list(papers)
        self._by_arxiv = {paper.arxiv: paper for paper in self.papers if paper.arxiv}
        self._by_title = {normalised(paper.title): paper for paper in self.papers}

    def match(self, draft: Draft) -> Paper | None:
        """Return the paper with the draft's identifier or title; a title may differ by a slip of the pen."""
        title = normalised(draft.title)
        same = self._by_arxiv.get(draft.arxiv) or self._by_title.get(title)
        if same is not None and not contradict(draft.arxiv, same.arxiv or ""):
            return same
        words = set(title.split())
        for known, paper in self._by_title.items():
            different_id = contradict(draft.arxiv, paper.arxiv or "")
            shared = len(words & set(known.split())) / max(1, len(words))
            if not different_id and shared >= 0.5 and SequenceMatcher(None, known, title).ratio() >= ALIKE:
                return paper
        return None
