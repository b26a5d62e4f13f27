"""The control loop on the robot: commands at a rate, from chunks that take longer than a tick.

May import: runtime, plans and what lies below; never ir. Needs numpy alone. Public: `ControlLoop`,
`Cycle`, `CommandReport`, `Route`, `ActionTables`, `read_tables`, `write_tables`, `make_executor`,
`routes_of`, `PrecisionTable`, `read_precision_table`, `write_precision_table`.
"""
