"""Carries a cut out: parts, their schedule, their models and weights, and a run in one place.

May import: ir, runtime codecs, and what lies below. Public: `split`, `split_at`, `Split`,
`print_split`, `make_schedule`, `engines_of`, `WeightStore`, `whole_phases`, `bundle_models`,
`gauging`, `Gauge`, `Joiner`, `in_own_types`, `workshop`, `Workshop`.
"""
