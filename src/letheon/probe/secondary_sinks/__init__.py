"""Attention sinks: the first token's, and the secondary ones that appear and vanish inside the layers."""
