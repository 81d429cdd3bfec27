"""Readers of papers from files and from arXiv, one file per format. Imports `core`, `papers` and the page's shelf."""
