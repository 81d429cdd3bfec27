"""Binding: how a model finds the entity that belongs to another in its context.

Imports core, report, and modules of this package's parent."""
