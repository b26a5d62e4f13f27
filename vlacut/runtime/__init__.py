"""What runs a bundle: both sides' steps over the wire, and the proof that they compute the model.

It is Python 3.10, numpy and one executor, so nothing here, or imported from here, needs more.

May import: bundle and what lies below; never ir. Public: `load_engines`, `verify_bundle`,
`CutResult`, `run_both`, `load_whole`, `run_whole`, `Tally`, `Closing`, `diagnose`.
"""
