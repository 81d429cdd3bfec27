"""The work of the commands: gather options, check them before a model is loaded, run. Used by the command line only.

Imports every package but printing and cli.
"""
