"""One-shot changes of weights: one file per edit.

Imports forget's parts and the packages below forget.
"""
