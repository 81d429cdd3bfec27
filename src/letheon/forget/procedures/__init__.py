"""Forgetting in several stages that no recipe describes: one file per procedure.

Imports forget's parts and the packages below forget.
"""
