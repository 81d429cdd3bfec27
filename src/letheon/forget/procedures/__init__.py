"""Forgetting in several stages that no recipe describes: one file per procedure."""
