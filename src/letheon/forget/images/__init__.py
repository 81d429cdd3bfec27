"""Memorised images of a text-to-image pipeline: prompts, sampling, pruning beside random masks, record and page.

Imports core, report, probe and the forget wing's edits.
"""
