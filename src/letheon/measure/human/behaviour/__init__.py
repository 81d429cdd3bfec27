"""Content and the behaviour of its audience, each simulated from the other (LCBM)."""

from __future__ import annotations
