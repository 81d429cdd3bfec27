"""Negative bias: how far a model prefers "no", whatever the question, and which heads carry it.

Imports core, report, and modules of this package's parent."""
