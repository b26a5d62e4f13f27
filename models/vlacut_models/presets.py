"""How presets are made: full ones on shapes alone, tiny ones with numbers from a fixed seed.

A `wide` preset is the full one with few layers and words, so that it fits into any memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

try:
    from transformers.initialization import no_init_weights
except ImportError:  # before transformers 5
    from transformers.modeling_utils import no_init_weights  # type: ignore[attr-defined, no-redef]

from vlacut.errors import ModelError
from vlacut.frontends.torch import TorchPhase, program_from_torch
from vlacut.ir.program import Outline, Program

C = TypeVar("C")
M = TypeVar("M", bound=nn.Module)

TINY = "tiny"
_BFLOAT16_OPSET = 22  # from it on, ONNX has convolutions of bfloat16
_OPSET = 20


@dataclass(frozen=True)
class Policy:
    """A policy with example inputs: what is traced.

    Attributes:
        name: the model's name.
        phases: in the order of execution; all are methods of one module.
        observation, action: names of the program's inputs and outputs.
        opset: the oldest operator set that has what it needs.
        state: outputs of a control step that are inputs of the next.
    """

    name: str
    phases: tuple[TorchPhase, ...]
    observation: tuple[str, ...]
    action: tuple[str, ...]
    opset: int
    state: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters of the module by name, a tied one once."""
        return dict(self.phases[0].module.named_parameters())

    def program(self) -> Program:
        """Trace every phase."""
        return program_from_torch(
            *(self.name, self.phases, self.observation, self.action, self.opset),
            state=self.state,
        )

    def outline(self) -> Outline:
        """Its size, without tracing."""
        parameters = self.parameters.values()
        return Outline(
            phases={phase.name: phase.trips for phase in self.phases},
            parameters=sum(item.numel() for item in parameters),
            weight_bytes=sum(item.numel() * item.element_size() for item in parameters),
        )


class ZooModel:
    """What an entry point of `vlacut.models` names: a model in several presets.

    Args:
        make: the policy of a preset.
        presets: names of the presets.
    """

    def __init__(self, make: Callable[[str], Policy], presets: Iterable[str]) -> None:
        self.policy = make
        self.presets = tuple(presets)
        self.__doc__ = make.__doc__

    def __call__(self, preset: str = "full") -> Program:
        """The program of a preset."""
        return self.policy(preset).program()

    def outline(self, preset: str) -> Outline:
        """The size of a preset."""
        return self.policy(preset).outline()


def with_presets(presets: Iterable[str]) -> Callable[[Callable[[str], Policy]], ZooModel]:
    """Turns a function that makes the policy of a preset into a model of the zoo."""
    return lambda make: ZooModel(make, presets)


def choose(presets: Mapping[str, C], model: str, preset: str) -> C:
    """The configuration of a preset; ModelError naming those there are."""
    if preset not in presets:
        raise ModelError(f"{model} has no preset {preset!r}; it has {', '.join(presets)}")
    return presets[preset]


class Examples:
    """Example inputs of a preset: numbers from a seed if it is tiny, else shapes alone.

    Args:
        preset: its name.
        seed: of the numbers.
    """

    def __init__(self, preset: str, seed: int = 1) -> None:
        self.real = preset == TINY
        self.dtype = torch.float32 if self.real else torch.bfloat16
        self._numbers = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Normal numbers, in the type of the model's weights if none is given."""
        if self.real:
            return torch.randn(shape, generator=self._numbers)
        return torch.empty(shape, dtype=dtype or self.dtype, device="meta")

    def tokens(self, count: int, vocabulary: int) -> Tensor:
        """Token numbers [1, count], from 1 on and below `vocabulary`."""
        if self.real:
            return torch.randint(1, vocabulary, (1, count), generator=self._numbers)
        return torch.empty(1, count, dtype=torch.int64, device="meta")

    def filled(self, value: int, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """One number everywhere, in the type of the model's weights if none is given."""
        device = "cpu" if self.real else "meta"
        return torch.full(shape, value, dtype=dtype or self.dtype, device=device)

    def module(self, make: Callable[[], M]) -> M:
        """The module that `make` builds, with numbers or on shapes alone."""
        return with_numbers(make) if self.real else on_shapes(make, self.dtype)

    def policy(
        self,
        name: str,
        phases: Sequence[TorchPhase],
        observation: Sequence[str],
        action: Sequence[str],
        state: Mapping[str, str] | None = None,
    ) -> Policy:
        """The policy, in the oldest operator set that has what it needs."""
        opset = _OPSET if self.real else _BFLOAT16_OPSET
        names = tuple(observation), tuple(action)
        return Policy(name, tuple(phases), *names, opset, dict(state or {}))


def on_shapes(make: Callable[[], M], dtype: torch.dtype = torch.bfloat16) -> M:
    """The module with shapes and no weights: not a byte is allocated for them.

    Parameters get the given type. Buffers keep theirs. A buffer has numbers if `make` puts it on
    "cpu" by name: it is content that no checkpoint holds.
    """
    with torch.device("meta"), no_init_weights():
        module = make().eval()
    for item in module.modules():
        for name, parameter in item.named_parameters(recurse=False):
            setattr(item, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
    return module


def with_numbers(make: Callable[[], M], seed: int = 0) -> M:
    """The module in float32 with weights from a seed, scaled so that outputs depend on inputs.

    Matrices are normal with variance 1 / fan-in, embeddings are standard normal, and biases are
    normal with deviation 0.1. Gates are a half (0, as before training, would close them). Scales of
    norms stay as they are. The caller's generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make().eval()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if parameter.dim() > 1:
                    fan_in = parameter[0].numel() if "embed" not in name else 1
                    parameter.normal_(0.0, fan_in**-0.5)
                elif name.endswith("bias"):
                    parameter.normal_(0.0, 0.1)
                elif name.endswith("gate"):
                    parameter.fill_(0.5)
        return module.requires_grad_(False)
