"""The library: what `import vlacut` offers. Each function lists all its options.

A name is loaded when it is first used. `plan`, `compile`, `Program`, `Phase` and `TorchPhase` need
the compiler's half installed; the others need only numpy and the standard library.

May import: everything but the command line and what measures or emulates. Public: those of
`__all__`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlacut.api.compiling import compile, plan
    from vlacut.api.connecting import Policy, connect
    from vlacut.api.rolling import Rolling
    from vlacut.api.serving import serve
    from vlacut.api.simulating import simulate
    from vlacut.api.verifying import verify
    from vlacut.control.loop import ControlLoop
    from vlacut.errors import (
        BackendError,
        BundleError,
        CodecError,
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
        UnsupportedError,
        VerificationError,
        VlacutError,
        WireError,
    )
    from vlacut.frontends.torch_original import TorchPhase
    from vlacut.ir.program import Phase, Program

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
    "Policy",
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
_HOMES = {
    **dict.fromkeys(("compile", "plan"), "vlacut.api.compiling"),
    **dict.fromkeys(("Policy", "connect"), "vlacut.api.connecting"),
    "Rolling": "vlacut.api.rolling",
    "serve": "vlacut.api.serving",
    "simulate": "vlacut.api.simulating",
    "verify": "vlacut.api.verifying",
    "ControlLoop": "vlacut.control.loop",
    "Phase": "vlacut.ir.program",
    "Program": "vlacut.ir.program",
    "TorchPhase": "vlacut.frontends.torch_original",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vlacut.api' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "vlacut.errors")), name)
