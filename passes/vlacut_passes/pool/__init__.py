"""The parameter-sharing pool: which placements besides the chosen cut are worth their weights.

May import: `partitioning`, pricing, ir and what lies below. Public: `Candidate`, `make_candidate`,
`best_placements`, `boundary_blocks`, `frontiers`, `Ledger`, `select`.
"""
