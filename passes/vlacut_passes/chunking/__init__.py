"""What `real-time-chunking` is made of: the loop with its guidance, and what is behind it undone.

May import: ir and what lies below. Public: `Loop`, `Nodes`, `Behind`, `behind`.
"""
