"""One-shot changes of weights: one file per edit."""
