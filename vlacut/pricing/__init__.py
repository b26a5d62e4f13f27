"""The one price of a cut: compute, bytes and hops, less what the sides save by working at once.

May import: hardware and what lies below.
"""
