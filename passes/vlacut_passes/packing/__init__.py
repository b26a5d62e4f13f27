"""What `pack` is made of: which operators do the same, which work row by row, and how they join.

May import: ir and what lies below. Public: `pack_graph`, `Packed`.
"""
