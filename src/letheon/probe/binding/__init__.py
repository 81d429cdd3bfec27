"""Binding: how a model finds the entity that belongs to another in its context."""
