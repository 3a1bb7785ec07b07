"""`python -m jobrunner` is the command `jobrunner`."""

from .cli import main

main()
