"""The plan: what runs where, in which order, and what crosses. Plain data that both halves share.

May import: pricing, hardware and what lies below. Public: `Plan`, `Part`, `Variant`, `Run`,
`Transfer`, `Move`, `Loop`, `Trips`, `Step`, `steps`, `runs`, `flatten`, `Pool`, `Engines`,
`Considered`, `Memory`, `Batch`, `CHOSEN`.
"""
