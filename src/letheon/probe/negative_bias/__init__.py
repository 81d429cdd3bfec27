"""Negative bias: how far a model prefers "no", whatever the question, and which heads carry it."""
