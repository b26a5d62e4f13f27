"""Controllers: when to ask for an inference, and by which variant.

May import: situation, tables, report, and what lies below; never each other. Public: `CONTROLLERS`,
`make_controller`.
"""
