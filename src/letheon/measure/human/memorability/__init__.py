"""Memorability of verbalised content: scoring (Henry), data (LAMBDA), and self-rewarding generation (SEED)."""

from __future__ import annotations
