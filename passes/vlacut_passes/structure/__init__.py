"""Where every operator is in its model: blocks from names or from repetition, then stages.

May import: ir and what lies below. Public: `View`, `look`, `Spot`.
"""
