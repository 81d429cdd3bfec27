"""Post-training: what it moved inside a model, compared with its base."""
