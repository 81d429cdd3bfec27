"""Memory for conversations: one SQLite file that stores what was said, finds it again, and erases it completely.

Import `letheon.recall.memory.Memory`; the other modules are its parts (store, erasure, embedders, policies).
"""
