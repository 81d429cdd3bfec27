"""A kit for reproductions: runs of recipes, equal forgetting, results by arm, judged findings.

Imports every package below papers, and the small models of `papers.common`.
"""
