"""Traceable: what lets torch.export trace a module as it is, and what the trace then depends on.

May import: torch, names, exported; ir and what lies below. Public: `adapted`, `Adapted`,
`plain_call`, `KnownValues`, `Granted`, `Draws`, `argument_for`, `torch_tensor`, `positional_names`.
"""
