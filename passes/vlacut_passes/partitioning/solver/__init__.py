"""The exact search: graphs and limits in, the best cut and a bound out.

May import: pricing and the other modules of `partitioning`. Public: `optimal_cut`, `Found`, `MOST`.
"""
