"""The library: what `import vlacut` offers, each a function that says all its options.

`plan` and `compile` need the compiler's half installed; nothing else does, and importing this loads
numpy and the standard library alone.

May import: compiler, simulation and what lies below. Public: `plan`, `compile`, `verify`,
`simulate`, `connect`, `serve`, and `Policy`, which `connect` returns.
"""

from vlacut.api.compiling import compile, plan
from vlacut.api.running import Policy, connect, serve, verify
from vlacut.api.simulating import simulate

__all__ = ["Policy", "compile", "connect", "plan", "serve", "simulate", "verify"]
