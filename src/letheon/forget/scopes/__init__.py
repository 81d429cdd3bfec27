"""Which weights may move: one file a scope."""
