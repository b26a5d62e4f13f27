"""Chunks, and the ways to play them.

May import: what lies below control.
"""
