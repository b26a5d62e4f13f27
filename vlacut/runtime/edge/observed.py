"""An observation, checked before anything of it is computed or sent."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import numpy as np

from vlacut.errors import ObservationError, suggestion
from vlacut.tensor import TensorSpec
from vlacut.tensor.numerics import has_nan
from vlacut.tensor.premise import Premise


def check_observation(
    expected: Mapping[str, TensorSpec],
    observation: Mapping[str, np.ndarray],
    fixed: Mapping[str, tuple[int, ...]] | None = None,
    allow_nan: bool = False,
    premises: Sequence[Premise] = (),
    drawn: Container[str] = (),
) -> dict[str, np.ndarray]:
    """The observation, every tensor checked.

    Args:
        expected: spec of every tensor by name.
        observation: by name.
        fixed: elements, in row-major order, of those that the bundle was compiled for one value of.
        allow_nan: let a NaN pass: a policy makes a NaN of it, and hands that on.
        premises: what else must hold of it.
        drawn: names that it may lack, for a session draws them.

    Raises ObservationError naming the first tensor that is wrong, unexpected or missing.
    """
    for name in observation:
        if name not in expected:
            raise ObservationError(f"unexpected tensor {name!r}; {suggestion(name, expected)}")
    if len(observation) < len(expected):
        lacked = [spec for name, spec in expected.items() if name not in observation]
        missing = [str(spec) for spec in lacked if spec.name not in drawn]
        if missing:
            raise ObservationError(f"missing from the observation: {', '.join(missing)}")
    checked = {}
    for name, spec in expected.items():
        if name not in observation:
            continue
        checked[name] = spec.check(np.asarray(observation[name]))
        if not allow_nan and has_nan(checked[name], spec.dtype):
            raise ObservationError(
                f"{name}: holds a NaN; see to its sensor, or let it pass with --allow-nan"
            )
        only = (fixed or {}).get(name)
        if only is not None and not np.array_equal(checked[name].reshape(-1), only):
            values = np.array(only).reshape(spec.shape)
            shown = " ".join(np.array2string(values, separator=", ", threshold=16).split())
            raise ObservationError(
                f"{name}: the bundle was compiled for {shown} alone, and this is another value; "
                f"compile it again with this one as the example"
            )
    for premise in premises:
        broken = premise.broken(checked)
        if broken:
            raise ObservationError(broken)
    return checked
