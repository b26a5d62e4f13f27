"""The one price of a cut: compute, bytes and hops, less what the sides save by working at once.

May import: hardware and what lies below. Public: `CostGraph`, `Task`, `Flow`, `Dependency`, `When`,
`Cut`, `make_cut`, `Price`, `price`, `Certificate`, `Strategy`, `Cost`, `Kernel`, `Columns`,
`CodedCrossing`, `ActionError`, `Standing`.
"""
