"""Tip-of-the-tongue queries: what people still remember of content they cannot name (ToT2MeM).

The package imports core, `letheon.recall.embedders`, and `letheon.measure` (asking, scenes, agreement).
"""

from __future__ import annotations
