"""The parameter-sharing pool: which placements besides the chosen cut are worth their weights."""
