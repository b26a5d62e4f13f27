"""vlacut: cut a vision-language-action model between a robot and a GPU server.

    bundle = vlacut.compile(module, args, edge="jetson-agx-orin", cloud="a100",
                            link="10MB/s,20ms", out="policy.vlacut")
    with vlacut.connect("policy.vlacut", "10.0.0.5:7000") as policy:
        action = policy.step({"image": image, "tokens": tokens})

Each name is loaded when it is first used, so the same package serves on a robot: `import vlacut`
needs only the standard library, and `connect` needs numpy and an executor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlacut.api import (
        BackendError,
        BundleError,
        CodecError,
        ControlLoop,
        DeadlineMissed,
        HardwareError,
        InfeasibleError,
        InputError,
        ModelDiffers,
        ModelError,
        ObservationError,
        PassError,
        PeerLoading,
        PeerLost,
        PeerMoved,
        PeerRefused,
        PeerUnable,
        Phase,
        Program,
        Rolling,
        TorchPhase,
        UnsupportedError,
        VerificationError,
        VlacutError,
        WireError,
        compile,
        connect,
        plan,
        serve,
        simulate,
        verify,
    )

__all__ = [
    "BackendError",
    "BundleError",
    "CodecError",
    "ControlLoop",
    "DeadlineMissed",
    "HardwareError",
    "InfeasibleError",
    "InputError",
    "ModelDiffers",
    "ModelError",
    "ObservationError",
    "PassError",
    "PeerLoading",
    "PeerLost",
    "PeerMoved",
    "PeerRefused",
    "PeerUnable",
    "Phase",
    "Program",
    "Rolling",
    "TorchPhase",
    "UnsupportedError",
    "VerificationError",
    "VlacutError",
    "WireError",
    "compile",
    "connect",
    "plan",
    "serve",
    "simulate",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vlacut' has no attribute {name!r}")
    return getattr(import_module("vlacut.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
