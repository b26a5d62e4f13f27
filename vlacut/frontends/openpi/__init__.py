"""openpi's PyTorch checkpoints of pi0 and pi05: raw pictures and state to the robot's commands.

Nothing of openpi's is imported. What of a policy is code there, chosen by a configuration's name,
is a table here; a name that is not in it is refused.

May import: frontends, ir and what lies below. Public: `openpi_program`, `OpenpiCheckpoint`,
`Recipe`, `read_recipe`, `Robot`, `ROBOTS`, `Scale`.
"""
