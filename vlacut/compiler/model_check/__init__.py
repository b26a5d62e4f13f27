"""The model check: the uncut program of a bundle against the model that it came from, by numbers.

May import: ir, split, the runtime's `whole`, and what lies below. Public: `check_model`,
`check_tolerance`, `TOLERANCES`, `KeptChecks`, `KEPT_CHECKS`.
"""
