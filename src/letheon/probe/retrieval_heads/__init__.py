"""Retrieval heads: the attention heads that copy facts from anywhere in a long context."""
