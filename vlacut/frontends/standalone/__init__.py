"""Scripts that run without vlacut, in the environment of a policy: each is one file to copy.

May import: nothing of vlacut. Public: `main`.
"""
