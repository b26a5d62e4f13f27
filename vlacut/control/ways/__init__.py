"""Chunks, and the ways to play them.

May import: what lies below control. Public: `Chunk`, `ChunkReader`, `parse_chunk`, `Playing`,
`make_playing`, `Starving`.
"""
