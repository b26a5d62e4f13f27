"""Bytes between the sides: frames, codecs, connections, and the handshake.

May import: the plan and what lies below; `protocol` is the specification. Public: `Route`,
`routes_of`, `Layout`, `Connection`, `Coder`, `CloudClock`, `parse_address`,
`cloud_context`, `edge_context`.
"""
