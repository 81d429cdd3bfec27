"""Ways to turn the forget and retain gradients into one step: one file per update.

Imports forget's parts and the packages below forget.
"""
