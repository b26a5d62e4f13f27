"""vlacut: cut a vision-language-action model between a robot and a GPU server.

    bundle = vlacut.compile(module, args, edge="jetson-agx-orin", cloud="a100",
                            link="10MB/s,20ms", out="policy.vlacut")
    with vlacut.connect("policy.vlacut", "10.0.0.5:7000") as policy:
        action = policy.step({"image": image, "tokens": tokens})

Importing vlacut imports numpy and the standard library alone: the compiler's half is loaded when
`compile` is called, so that the same package serves on a robot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlacut.api import compile, connect, serve
    from vlacut.control.loop import ControlLoop

__all__ = ["ControlLoop", "compile", "connect", "serve"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vlacut' has no attribute {name!r}")
    if name == "ControlLoop":
        from vlacut.control.loop import ControlLoop

        return ControlLoop
    from vlacut import api

    return getattr(api, name)
