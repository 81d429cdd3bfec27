"""Which rows meet which: one file a sampler."""
