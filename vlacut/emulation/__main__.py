"""The child of an `EmulatedLink`: `python -m vlacut.emulation`."""

from vlacut.emulation.process import main

main()
