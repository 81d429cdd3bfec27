"""Post-training: what it moved inside a model, compared with its base.

Imports core, report, and modules of this package's parent."""
