"""The command line: a file per verb, which parses options, hands them to `jobs` and lets `printing` show the result.

Imports every other package.
"""

from letheon.cli.app import app, main

__all__ = ["app", "main"]
