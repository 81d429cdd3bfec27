"""Selections of the weights that may move: one file per scope.

Imports forget's parts and the packages below forget.
"""
