"""Element types: which operators need float32, and what changes the types of the others.

May import: ir and what lies below. Public: `mix_precision`, `convert`.
"""
