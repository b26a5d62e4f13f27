"""Packs: a half of a bundle with its runtime, as one file that Python runs.

May import: what the library may. Public: `write_pack`, `runtime_wheel`, `start`.
"""
