"""Back ends: a Builder makes a part ready to ship, an Executor runs it where it was shipped to.

The two halves live in separate modules: `build.py` may import onnx_ir, `execute.py` never does.
Each names itself by an entry point of the same name in `vlacut.builders` and `vlacut.executors`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Union, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

    from vlacut.hardware import Device


# What a recipe may say under `prepack`: whether weights that a processor reads packed are each
# session's own, or files of the folder of engines, which all sessions map.
OWN, SHARED = "own", "shared"


@dataclass(frozen=True)
class Finding:
    """What a target cannot do with a part.

    Attributes:
        rule: name of the rule it breaks.
        node: operator and name.
        what: the rest of the sentence.
    """

    rule: str
    node: str
    what: str

    def __str__(self) -> str:
        return f"{self.node} {self.what}"


class Builder(Protocol):
    """The compile half.

    Attributes:
        conversions: element types the executor lacks, each with the type to compute in instead.
            The compiler runs `convert-types` for those that a program has.
        rewrites_weights: whether `prepare` changes the content of weights. If it does not, the
            compiler copies a checkpoint ahead.
        computes: whether engines compute. If they do not, no step can be recorded or verified.
        reference: the back end that records the golden step when a bundle is made. It is this one
            if it runs here, another one that should give the same numbers, or empty for none.
    """

    conversions: ClassVar[Mapping[str, str]]
    rewrites_weights: ClassVar[bool]
    computes: ClassVar[bool]
    reference: ClassVar[str]

    def prepare(self, model: ir.Model, where: str, recipe: Mapping[str, str]) -> None:
        """Make a part's model fit for this back end, in place.

        Raises BackendError naming `where` and the operator this back end cannot run.
        """

    def findings(self, model: ir.Model, recipe: Mapping[str, str]) -> Iterable[Finding]:
        """What stands against running a part, made ready, on the device of a recipe."""

    def recipe(self, device: Device | None = None) -> Mapping[str, str]:
        """What the executor must know to load the parts on a device; the manifest keeps it.

        Without a device, the recipe is for this machine. Raises BackendError if the device cannot
        run the parts.
        """

    def tolerance(self, model: ir.Model) -> float:
        """How far cutting this model may move its outputs, as a share of their magnitude."""


@runtime_checkable
class ManyRows(Protocol):
    """A builder whose engines can be made for products of many rows."""

    def for_many_rows(self, recipe: Mapping[str, str]) -> Mapping[str, str]:
        """The recipe of a bundle whose parts read each weight once for many rows (`pack`), which
        `prepare` and the executor get then.
        """


@runtime_checkable
class Foresees(Protocol):
    """A builder whose `prepare` takes long, and that says beforehand what it would refuse."""

    def foresee(self, model: ir.Model, where: str) -> None:
        """Raises the BackendError that `prepare` would; the model stays as it is."""


@dataclass(frozen=True)
class Checked:
    """What was found out about a part without the machine it is for.

    Attributes:
        part: its name.
        findings: what stands against it; if there are any, nothing was built.
        built: what was done with the part, for people, e.g. `parse- and build-checked by
            TensorRT-RTX 1.7 for sm_80`; empty if nothing was.
        why_not: why nothing was built.
        notes: what else to know of the device, a line each.
        seconds: how long the build took.
        peak_bytes: the largest memory of the process that built the engine.
        engine_bytes: the size of the engine.
    """

    part: str
    findings: tuple[Finding, ...]
    built: str = ""
    why_not: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_bytes: int = 0
    engine_bytes: int = 0


class Checker(Protocol):
    """Says whether a device will run a part, as far as this machine can tell."""

    def check(
        self, name: str, model: Path, root: Path, device: Device, build: bool, dla: bool = False
    ) -> Checked:
        """Check the ONNX file of a part; `root` is the folder its external data is relative to.

        With `build`, also build an engine of it here, where that can be had. With `dla`, the rules
        of the device's fixed-function accelerator come first, and nothing is built.
        Raises BackendError if the device runs no such engines.
        """


@dataclass(frozen=True)
class Diagnosis:
    """What was found on this machine of what a back end needs.

    Attributes:
        what: was looked at.
        found: what it is.
        well: whether that is as it must be.
        follows: the next command, or step, where it is not.
        needed: whether nothing runs without it.
    """

    what: str
    found: str
    well: bool
    follows: str = ""
    needed: bool = True


class Doctor(Protocol):
    """Says what of a back end can run on this machine, and what is missing."""

    def examine(self, recipe: Mapping[str, str] | None) -> Iterable[Diagnosis]:
        """What is here, against a recipe if one is given. Never raises: what fails is a finding."""


class Engine(Protocol):
    """A part, loaded."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by key. Inputs hold at least the part's inputs, checked by the caller."""


class Resident(Protocol):
    """A tensor in a device's memory. It is copied to the host only when somebody asks for it.

    It is whole, and any thread may read it there.

    Attributes:
        nbytes: its bytes.
    """

    nbytes: int

    def start(self) -> None:
        """Begin to copy it to the host, unless that has begun already."""

    def array(self) -> np.ndarray:
        """The whole tensor in host memory; overwritten once nobody holds this object."""


Tensor = Union[np.ndarray, Resident]


class Lane(Protocol):
    """What the engines of one control loop share on a device: a stream, and memory.

    One thread uses it at a time.
    """

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array in host memory that the device copies from and to without a detour."""

    def close(self) -> None:
        """Give everything back."""


class DeviceEngine(Engine, Protocol):
    """An engine whose tensors may stay on its device.

    Its `run` is as every engine's: arrays in, arrays out.
    """

    def open(self, join: Callable[[Hashable, Callable[[], Lane]], Lane]) -> OpenEngine:
        """The engine in a control loop; `join` gives the lane of a back end, or makes it.

        Raises BackendError.
        """


class OpenEngine(Protocol):
    """A device's engine in a control loop.

    Attributes:
        device_ns: nanoseconds of the last run on the device, by the device's own clock.
    """

    device_ns: int

    def take(self, key: str, tensor: Tensor) -> Tensor:
        """An input in the memory that `run` reads.

        It is not copied if it is there already, whichever control loop's engine of the same device
        made it.
        """

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `Engine.run`, but the outputs stay on the device. Raises BackendError."""


class Executor(Protocol):
    """The run half."""

    def load(self, model: Path, root: Path, recipe: Mapping[str, str]) -> Engine:
        """The engine of an ONNX file; `root` is the folder its external data is relative to.

        Raises BackendError if it cannot be loaded here.
        """
