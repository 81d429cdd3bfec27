"""One-shot changes of weights: one file an edit."""
