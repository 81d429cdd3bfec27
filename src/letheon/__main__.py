"""`python -m letheon` is the command `letheon`."""

from letheon.cli import main

main()
