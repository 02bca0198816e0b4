"""`python -m keraslm` is the program `keraslm`."""

from keraslm.cli import main

main()
