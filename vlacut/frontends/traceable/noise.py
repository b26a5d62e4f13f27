"""Draws of a module's code, lifted: each becomes an input of the program, with its distribution.

A module is first traced as it is, and what it draws is noted; then once more with an input in the
place of every draw, in the order in which the code comes to them. The module itself is run beside
its trace in the same way. Generators and seeds of torch's play no part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from vlacut.tensor import TensorSpec
from vlacut.tensor.noise import BERNOULLI, INTEGERS, NORMAL, UNIFORM, Noise

ARGUMENT = "noise"  # that a traced module takes its noise by


@dataclass(frozen=True)
class Draw:
    """One draw of a module's code.

    Attributes:
        noise: its distribution; `input` is empty.
        shape, dtype: of what is drawn.
        dropout: whether it is what dropout drops.
    """

    noise: Noise
    shape: tuple[int, ...]
    dtype: torch.dtype
    dropout: bool = False

    def example(self, place: int) -> torch.Tensor:
        """What the robot draws in step 0 with seed 0, in this draw's shape and type, for the input
        that is at this place among all inputs of noise (`vlacut.tensor.noise`).
        """
        spec = TensorSpec("", str(self.dtype).removeprefix("torch."), self.shape)
        return torch_tensor(self.noise.draw(spec, 0, 0, place), spec)


class Draws(TorchFunctionMode):
    """Notes what is drawn inside, or hands out what is given in its place; use it in a `with`.

    Args:
        given: for each draw, in order; if None, torch draws.
    """

    def __init__(self, given: Sequence[torch.Tensor] | None = None) -> None:
        super().__init__()
        self._given = None if given is None else list(given)
        self.found: list[Draw] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        lifted = _LIFTED.get(func)
        if lifted is None or "out" in kwargs or _in_vmap():
            return func(*args, **kwargs)
        kwargs.pop("generator", None)
        return lifted(self, *args, **kwargs)

    def take(
        self,
        kind: str,
        first: float,
        second: float,
        shape: Sequence[int],
        dtype: torch.dtype | None,
        dropout: bool = False,
    ) -> torch.Tensor:
        """The next draw: torch's own, or what is given in its place.

        Args:
            kind: of the distribution, see `vlacut.tensor.noise.Noise`.
            first: parameter of it.
            second: parameter of it.
            shape: of what is drawn.
            dtype: of its elements; None for torch's default.
            dropout: whether it is what dropout drops.

        Raises RuntimeError if what is given lacks it, or has it in another shape: the code draws
        otherwise than when it was traced.
        """
        made_of = torch.get_default_dtype() if dtype is None else dtype
        place, size = len(self.found), tuple(shape)
        noise = Noise("", kind, float(first), float(second))
        self.found.append(Draw(noise, size, made_of, dropout))
        if self._given is None:
            return torch.rand(size).to(made_of)
        if place >= len(self._given) or self._given[place].shape != size:
            raise RuntimeError("it draws other random numbers than when it was traced")
        return self._given[place].to(made_of)


class NoisyCall:
    """A call that takes its draws by the argument `name`, as its trace does."""

    def __init__(self, call: Callable[..., Any], name: str) -> None:
        self._call, self._name = call, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = kwargs.pop(self._name)
        with Draws(given):
            return self._call(*args, **kwargs)


def torch_tensor(array: np.ndarray, spec: TensorSpec) -> torch.Tensor:
    """What numpy carries at run time, as a tensor of torch in the spec's shape and type."""
    made = torch.from_numpy(array)
    return made.view(torch.bfloat16) if spec.dtype == "bfloat16" else made


def argument_for(taken: Mapping[str, Any]) -> str:
    """The name of the argument for noise of a call that has others."""
    name = ARGUMENT
    while name in taken:
        name = f"drawn_{name}"
    return name


def notes_of(draws: Sequence[Draw]) -> list[str]:
    """What to say of draws that were lifted."""
    if not draws:
        return []
    kinds = ", ".join(dict.fromkeys(str(draw.noise) for draw in draws))
    said = [
        f"{len(draws)} draws of random numbers are inputs: {kinds}; the robot draws what an "
        f"observation lacks, from a seed"
    ]
    dropped = sum(draw.dropout for draw in draws)
    if dropped:
        said.append(
            f"dropout is active, and drawn, in {dropped} places; call module.eval() before, unless "
            f"that is meant"
        )
    return said


def _in_vmap() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


def _size(args: tuple[Any, ...], size: Any) -> tuple[int, ...]:
    """The shape that a factory of torch is given, as one sequence or as numbers."""
    if size is not None:
        args = (size,)
    if len(args) == 1 and isinstance(args[0], (tuple, list, torch.Size)):
        return tuple(args[0])
    return tuple(args)


def _randn(draws: Draws, *args: Any, size: Any = None, dtype: Any = None, **_: Any) -> Any:
    return draws.take(NORMAL, 0, 1, _size(args, size), dtype)


def _rand(draws: Draws, *args: Any, size: Any = None, dtype: Any = None, **_: Any) -> Any:
    return draws.take(UNIFORM, 0, 1, _size(args, size), dtype)


def _randn_like(draws: Draws, input: Any, *, dtype: Any = None, **_: Any) -> Any:
    return draws.take(NORMAL, 0, 1, input.shape, dtype or input.dtype)


def _rand_like(draws: Draws, input: Any, *, dtype: Any = None, **_: Any) -> Any:
    return draws.take(UNIFORM, 0, 1, input.shape, dtype or input.dtype)


def _randint(draws: Draws, *args: Any, dtype: Any = None, **named: Any) -> Any:
    given = list(args)
    size = named["size"] if "size" in named else given.pop()
    high = named["high"] if "high" in named else given.pop()
    low = named.get("low", given.pop() if given else 0)
    return draws.take(INTEGERS, low, high, tuple(size), dtype or torch.int64)


def _randint_like(
    draws: Draws,
    input: Any,
    *args: Any,
    high: Any = None,
    low: Any = 0,
    dtype: Any = None,
    **_: Any,
) -> Any:
    if args:
        low, high = (low, args[0]) if len(args) == 1 and high is None else (args[0], args[-1])
    return draws.take(INTEGERS, low, high, input.shape, dtype or input.dtype)


def _normal(
    draws: Draws, mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, dtype: Any = None, **_: Any
) -> Any:
    tensors = [one for one in (mean, std) if isinstance(one, torch.Tensor)]
    if not tensors:
        return draws.take(NORMAL, mean, std, tuple(size), dtype)
    shape = np.broadcast_shapes(*(tuple(one.shape) for one in tensors))
    return draws.take(NORMAL, 0, 1, shape, tensors[0].dtype) * std + mean


def _normal_(draws: Draws, tensor: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    return tensor.copy_(draws.take(NORMAL, mean, std, tensor.shape, tensor.dtype))


def _uniform_(draws: Draws, tensor: Any, a: float = 0.0, b: float = 1.0, **named: Any) -> Any:
    low, high = named.get("from", a), named.get("to", b)
    return tensor.copy_(draws.take(UNIFORM, low, high, tensor.shape, tensor.dtype))


def _bernoulli(draws: Draws, input: Any, p: float | None = None) -> Any:
    if p is not None:
        return draws.take(BERNOULLI, p, 0, input.shape, input.dtype)
    return (draws.take(UNIFORM, 0, 1, input.shape, input.dtype) < input).to(input.dtype)


def _bernoulli_(draws: Draws, tensor: Any, p: Any = 0.5) -> Any:
    if isinstance(p, torch.Tensor):
        drawn = draws.take(UNIFORM, 0, 1, tensor.shape, p.dtype) < p
        return tensor.copy_(drawn.to(tensor.dtype))
    return tensor.copy_(draws.take(BERNOULLI, p, 0, tensor.shape, tensor.dtype))


def _dropout(
    draws: Draws,
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    train: bool | None = None,
) -> Any:
    """Dropout as torch defines it: what is kept is divided by the probability that it is."""
    if not (training if train is None else train) or p == 0:
        return input
    kept = draws.take(BERNOULLI, 1 - p, 0, input.shape, input.dtype, dropout=True)
    scaled = kept * (1 / (1 - p) if p < 1 else 0.0)
    return input.mul_(scaled) if inplace else input * scaled


_LIFTED: Mapping[Any, Callable[..., Any]] = {
    torch.randn: _randn,
    torch.rand: _rand,
    torch.randn_like: _randn_like,
    torch.rand_like: _rand_like,
    torch.randint: _randint,
    torch.randint_like: _randint_like,
    torch.normal: _normal,
    torch.bernoulli: _bernoulli,
    torch.dropout: _dropout,
    torch.Tensor.normal_: _normal_,
    torch.Tensor.uniform_: _uniform_,
    torch.Tensor.bernoulli: _bernoulli,
    torch.Tensor.bernoulli_: _bernoulli_,
    functional.dropout: _dropout,
    nn.init.normal_: _normal_,
    nn.init.uniform_: _uniform_,
}
