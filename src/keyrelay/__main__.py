"""``python -m keyrelay``: the command, for those who have a Python and not its scripts."""

from keyrelay.cli import main

main()
