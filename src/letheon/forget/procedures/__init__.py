"""Forgetting in several stages, where no recipe of parts describes it: one file a procedure."""
