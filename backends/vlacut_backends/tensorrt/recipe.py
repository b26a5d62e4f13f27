"""Recipe: everything that the build of a TensorRT engine depends on, except the part itself.

The compiler derives one for each side from its device, and writes it into the manifest, under
`recipes.edge` and `recipes.cloud`, as texts by name. The code that builds or runs engines reads it
back; so this module needs only the standard library, from Python 3.10 on.

    {"device": "jetson-agx-orin", "sm": "87", "oldest": "10.3", "newest": "11.4", "opset": "20",
     "flags": "strongly-typed", "workspace_bytes": "16000000000", "optimization_level": "3",
     "profiles": "static", "timing_cache": "device"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vlacut.errors import BackendError

Version = tuple[int, ...]

STRONGLY_TYPED = "strongly-typed"
TF32 = "tf32"
FLAGS = (STRONGLY_TYPED, TF32)
STATIC = "static"
TIMING_CACHES = ("device", "none")
OLDEST, NEWEST = "10.3", "11.4"  # what this back end was written for
_LEVELS = range(6)


@dataclass(frozen=True)
class Recipe:
    """What an engine is built with.

    Attributes:
        device: name of the profile it was derived from.
        sm: compute capability of the GPU, major x 10 + minor; engines run on no other.
        oldest, newest: the TensorRT releases the parts were made for, both included, e.g. `10.3`;
            every patch of `newest` counts as it.
        opset: highest ONNX operator set the oldest of them parses.
        flags: of FLAGS. `strongly-typed`: element types are those of the graph
            (NetworkDefinitionCreationFlag.STRONGLY_TYPED before 11, which knows no other).
            `tf32`: float32 products may round their operands to tf32; without it
            BuilderFlag.TF32, which TensorRT sets itself, must be cleared.
        workspace_bytes: most memory for a tactic (MemoryPoolType.WORKSPACE); less if the device has
            less free.
        optimization_level: builder_optimization_level, 0 to 5.
        profiles: `static`: every shape is fixed, no optimisation profile is needed.
        timing_cache: `device`: one file for each TensorRT, CUDA and sm, kept beside the engines and
            read by the next build; `none`: kernels are timed anew.

    Raises BackendError for a value that cannot be.
    """

    device: str
    sm: int
    oldest: str
    newest: str
    opset: int
    flags: tuple[str, ...]
    workspace_bytes: int
    optimization_level: int = 3
    profiles: str = STATIC
    timing_cache: str = "device"

    def __post_init__(self) -> None:
        if parse_version(self.oldest) > parse_version(self.newest):
            raise self._error(f"oldest {self.oldest} is above newest {self.newest}")
        unknown = [flag for flag in self.flags if flag not in FLAGS]
        if unknown:
            raise self._error(f"flag {unknown[0]!r} is none of {', '.join(FLAGS)}")
        if self.profiles != STATIC:
            raise self._error(f"profiles is {self.profiles!r}, must be {STATIC}")
        if self.timing_cache not in TIMING_CACHES:
            raise self._error(f"timing_cache {self.timing_cache!r}: {' or '.join(TIMING_CACHES)}")
        if self.optimization_level not in _LEVELS:
            raise self._error(f"optimization_level is {self.optimization_level}, must be 0 to 5")
        if min(self.sm, self.opset, self.workspace_bytes) <= 0:
            raise self._error("sm, opset and workspace_bytes must be above 0")

    def _error(self, what: str) -> BackendError:
        return BackendError(f"recipe of {self.device}: {what}; compile the bundle again")

    def covers(self, version: str) -> bool:
        """Whether a TensorRT release, e.g. `10.3.0.26`, is one the parts were made for."""
        newest = parse_version(self.newest)
        found = parse_version(version)
        return parse_version(self.oldest) <= found and found[: len(newest)] <= newest

    def to_texts(self) -> dict[str, str]:
        """As the manifest holds it."""
        return {**{k: str(v) for k, v in asdict(self).items()}, "flags": " ".join(self.flags)}


def from_texts(texts: Mapping[str, str]) -> Recipe:
    """The recipe that the manifest holds.

    Raises BackendError naming what is missing, unknown or no number.
    """
    fields = Recipe.__dataclass_fields__
    odd = sorted(set(fields) ^ set(texts))
    if odd:
        raise BackendError(
            f"recipe: missing or unknown {', '.join(odd)}; the bundle was made for no device with "
            f"TensorRT, or by another version: compile it again"
        )
    values: dict[str, object] = {**texts, "flags": tuple(texts["flags"].split())}
    for name, field in fields.items():
        if field.type == "int":
            if not texts[name].isdigit():
                raise BackendError(f"recipe: {name} is {texts[name]!r}, must be a number")
            values[name] = int(texts[name])
    return Recipe(**values)  # type: ignore[arg-type]  # texts became the fields' types above


def parse_version(text: str) -> Version:
    """`10.3.0.26` as numbers; BackendError if it is no version."""
    parts = text.split(".")
    if len(parts) < 2 or not all(part.isdigit() for part in parts):
        raise BackendError(f"{text!r} is no version of TensorRT; write e.g. 10.3")
    return tuple(int(part) for part in parts)
