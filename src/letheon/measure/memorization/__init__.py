"""Memorisation and influence of training rows by training on many random subsets, and the long-tail theory behind it.

The package imports core.
"""
