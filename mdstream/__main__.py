"""`python -m mdstream` is the `mdstream` command."""

from mdstream.cli import main

main()
