"""Bytes between the sides: frames, codecs, connections, and the handshake.

May import: the plan and what lies below; `protocol` is the specification.
"""
