"""Strategies of continual learning, one file each.

Imports retain and the packages below it.
"""
