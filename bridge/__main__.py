"""`python -m bridge` is `roomline`."""

from bridge.cli import main

main()
