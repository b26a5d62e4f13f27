"""Carries a cut out: parts, their schedule, their models and weights, and a run in one place.

May import: ir, runtime codecs, and what lies below.
"""
