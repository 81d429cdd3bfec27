"""Tip-of-the-tongue queries: what people still remember of content they cannot name (ToT2MeM)."""

from __future__ import annotations
