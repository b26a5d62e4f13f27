"""`python -m vlacut`."""

from vlacut.cli import main

main()
