"""Plans of the rows of each step: one file per sampler.

Imports forget's parts and the packages below forget.
"""
