"""What the exact search minimises: a graph as a problem of variables, flows, chains and pipes.

May import: pricing, `partitioning.limits` and `partitioning.states`. Public: `Problem`,
`make_problem`, `all_directions`.
"""
