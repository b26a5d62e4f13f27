"""What plans, pools, sweeps and steps look like in a terminal.

May import: everything below the command line; commands import it, never the other way round.
"""
