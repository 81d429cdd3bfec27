"""Memorability of verbalised content: scoring (Henry), data (LAMBDA), and self-rewarding generation (SEED).

The package imports core, `letheon.recall.embedders`, and `letheon.measure` (asking, scenes, regression, tuning).
"""

from __future__ import annotations
