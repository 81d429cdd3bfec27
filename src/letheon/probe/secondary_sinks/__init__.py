"""Attention sinks: the first token's, and the secondary ones that appear and vanish inside the layers.

Imports core, report, and modules of this package's parent."""
