"""Selections of the weights that may move: one file per scope."""
