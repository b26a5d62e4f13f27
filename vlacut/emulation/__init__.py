"""Emulated links: a TCP proxy that shapes what passes, without root and without a network.

May import: the API and what lies below. Public: `EmulatedLink`, `Proxy`, `Shape`, `DirectionShape`,
`shape_of`, `run_twin`.
"""

from vlacut.emulation.process import EmulatedLink
from vlacut.emulation.proxy import Proxy
from vlacut.emulation.shape import DirectionShape, Shape, shape_of

__all__ = ["DirectionShape", "EmulatedLink", "Proxy", "Shape", "shape_of"]
