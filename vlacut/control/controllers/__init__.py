"""Controllers: when to ask for an inference, and by which variant.

May import: situation, tables, and what lies below; never each other. Public: `CONTROLLERS`,
`make_controller`.
"""
