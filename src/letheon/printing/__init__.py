"""The output of the commands: rich pages for people, one JSON object for programs. A file per verb.

Imports every package but cli.
"""
