"""Questions to a model: prompt templates with a version and a hash, and who answers (a local model or an endpoint).

The package imports core.
"""
