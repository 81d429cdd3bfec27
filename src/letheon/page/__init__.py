"""The page of papers as a local site: list, search, map, runs of papers, and the same pages as static files.

Imports core, report, recall, audit, measure, compare and papers; work runs as a process of its own.
"""
