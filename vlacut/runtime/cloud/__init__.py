"""The server: who is let in, whose turn it is, and what it all takes.

May import: wire, engines, interpreter; nothing of the edge. Public: `Server`, `cloud_memory`.
"""
