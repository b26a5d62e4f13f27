"""The exact search for a cut: `search.optimal_cut`, and the strategies it is measured against.

May import: pricing, ir, split and what lies below. Public: `Limits`, `Quantity`, `Codecs`,
`offered_codecs`, `find_pins`, `pinned`, `baselines`, `strategy_cut`, `program_cuts`.
"""
