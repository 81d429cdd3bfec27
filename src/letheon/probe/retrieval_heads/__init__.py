"""Retrieval heads: the attention heads that copy facts from anywhere in a long context.

Imports core, report, and modules of this package's parent."""
