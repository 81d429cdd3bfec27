"""Losses to descend: one file per objective.

Imports forget's parts and the packages below forget.
"""
