"""Layout: what every frame of a plan holds, so that nothing has to be believed of a peer."""

from __future__ import annotations

import numpy as np

from vlacut.errors import WireError
from vlacut.plan import Part, Plan, Transfer, flatten
from vlacut.pricing import Side
from vlacut.tensor import TensorSpec


class Layout:
    """The frames of a plan, as `receiver` receives them."""

    def __init__(self, plan: Plan, receiver: Side) -> None:
        self._receiver = receiver
        self._frames: list[dict[int, tuple[TensorSpec, ...]]] = []
        for variant in plan.variants:
            steps = enumerate(flatten(variant.schedule))
            self._frames.append(
                {
                    position: tuple(plan.spec[key] for key in step.tensors)
                    for position, step in steps
                    if isinstance(step, Transfer) and step.source is not receiver
                }
            )
        self._times = [len(cloud_parts(plan, index)) for index in range(len(plan.variants))]

    def buffers(self, variant: int, position: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Room for the tensors of a transfer, and for the times that the cloud sends along.

        Raises WireError if the receiver expects no such transfer.
        """
        if variant >= len(self._frames) or position not in self._frames[variant]:
            raise WireError(
                f"the peer sent transfer {position} of variant {variant}: there is none"
            )
        specs = self._frames[variant][position]
        tensors = tuple(np.empty(spec.numpy_shape, spec.numpy_dtype) for spec in specs)
        times = self._times[variant] if self._receiver is Side.EDGE else 0
        return tensors, np.empty(times, ">u8")


def cloud_parts(plan: Plan, variant: int) -> tuple[Part, ...]:
    """The cloud parts of a variant, in the order in which frames report their times."""
    return plan.variant_parts(plan.variants[variant], Side.CLOUD)
