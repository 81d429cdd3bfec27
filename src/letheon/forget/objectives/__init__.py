"""Losses to descend: one file per objective."""
