"""A .pt2 file, read as data: its archive, its graph and its tensors, by a list of what is good.

torch.export.load unpickles what a file marks as pickled, evaluates the expressions of its shapes,
imports the modules that its trees name, and compiles source from the names of its operators. So it
opens no file of a user's. What the file holds is read here, member by member and field by field;
only what is known to be data is handed to torch, as objects, and whatever else is there is refused.

May import: torch and sympy, and errors. Public: `read_program`.
"""
