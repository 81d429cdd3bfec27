"""Strategies of continual learning, one file each."""
