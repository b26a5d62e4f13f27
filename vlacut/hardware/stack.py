"""Stack: the software that runs kernels on a device, and how much of the device it gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vlacut.errors import HardwareError

KINDS = ("gemm", "conv", "attention", "pointwise", "reduction", "movement")
"""Kinds of kernels: matrix products; convolutions; attention with its softmax inside; pointwise
functions; reductions, normalisations and pooling; copies, which compute nothing."""

FUSIONS = ("none", "library", "engine")
"""Which operators become one kernel; see `vlacut_passes.cost.groups`."""

_PARAMETERS = (
    "host_s",
    "launch_s",
    "half_bytes",
    "half_tile",
    "half_depth",
    "spread",
    "overlap",
    "call_s",
    "batch_s",
    "wake_s",
)
_TABLES = ("compute", "memory", "launch", "speedup", "depth", "rows")


@dataclass(frozen=True)
class Stack:
    """How a software stack drives a device. All numbers are what a calibration fits.

    Attributes:
        name: e.g. `eager`, `cuda-graph`, `tensorrt`, `onnxruntime`.
        fusion: one of FUSIONS.
        tf32: float32 products run at the rate of tf32, where the device has one.
        host_s: seconds of the host to issue a kernel. They pass beside the device's work, so they
            count only where the device waits for the host.
        launch_s: seconds of the device for a kernel, beyond its work.
        half_bytes: a kernel that moves this many bytes gets half of its full bandwidth.
        half_tile: a tile of this many rows (or columns) of bfloat16 gets half of its full rate.
            For other types the figure is in proportion to the bytes they read at full rate.
        half_depth: a product that sums this many terms gets half of its full rate.
        spread: standard deviation of log(measured / predicted).
        compute: the part of the peak rate that is reached, in (0, 1], for every kind but movement.
            The key is a kind, or `kind.dtype` or `kind.Operator` where a type or operator differs.
        memory: the part of the bandwidth that is reached, in (0, 1], for every kind. The key is a
            kind, `kind.Operator`, or `kind.vector` for products with a vector.
        source: where the figures are from.
        overlap: the part of the shorter of compute and memory that runs beside the longer.
        packs: whether products pack their second operand first, as on CPUs. They then leave no
            processor idle at the edges; other products run in tiles.
        batch_s: seconds per product of a batch, beyond its work.
        call_s: seconds to call an engine, beyond its kernels.
        launch: seconds per kernel by `kind.Operator`, where that differs from launch_s.
        wake_s: seconds until all threads of an engine work on a kernel.
        speedup: how many times faster all threads are than one, by kind or `kind.Operator`;
            1 if it is not given.
        depth: half_depth of products by `kind.form`, where that differs: what reads codes converts
            and scales what it makes, which a deep sum hides.
        rows: of products of codes, by `kind.form`: a product unpacks its codes in the time that so
            many more rows of it take, whatever rows it has; by `kind.form.vector` with a vector.

    A key `kind.form` is of products that read their weights as codes: see `Kernel.form`.
    """

    name: str
    fusion: str
    tf32: bool
    host_s: float
    launch_s: float
    half_bytes: float
    half_tile: float
    half_depth: float
    spread: float
    compute: Mapping[str, float]
    memory: Mapping[str, float]
    source: str
    overlap: float = 1.0
    packs: bool = False
    batch_s: float = 0.0
    call_s: float = 0.0
    launch: Mapping[str, float] = field(default_factory=dict)
    wake_s: float = 0.0
    speedup: Mapping[str, float] = field(default_factory=dict)
    depth: Mapping[str, float] = field(default_factory=dict)
    rows: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise self._error(f"fusion is {self.fusion!r}, must be one of {', '.join(FUSIONS)}")
        for name in _PARAMETERS:
            if not 0 <= getattr(self, name) < float("inf"):
                raise self._error(f"{name} is {getattr(self, name)}, must not be negative")
        if self.overlap > 1:
            raise self._error(f"overlap is {self.overlap}, must be in [0, 1]")
        figures = (*self.launch.values(), *self.depth.values(), *self.rows.values())
        if any(figure < 0 for figure in figures):
            raise self._error("launch, depth and rows must not be negative")
        if any(not 1 <= times < float("inf") for times in self.speedup.values()):
            raise self._error("speedup must not be below 1")
        self._check_parts("compute", self.compute, KINDS[:-1])
        self._check_parts("memory", self.memory, KINDS)
        if len(self.source) < 20:
            raise self._error("source must say where the figures are from")

    def _check_parts(self, table: str, parts: Mapping[str, float], kinds: tuple[str, ...]) -> None:
        missing = [kind for kind in kinds if kind not in parts]
        unknown = [key for key in parts if key.partition(".")[0] not in kinds]
        wrong = [key for key, part in parts.items() if not 0 < part <= 1]
        if missing or unknown:
            raise self._error(f"{table} lacks {missing}, does not know {unknown}")
        if wrong:
            raise self._error(f"{table}.{wrong[0]} is {parts[wrong[0]]}, must be in (0, 1]")

    def _error(self, what: str) -> HardwareError:
        return HardwareError(f"stack {self.name}: {what}")

    def compute_part(self, kind: str, dtype: str, operator: str = "") -> float:
        """Part of the peak rate that large kernels of a kind, a type or an operator reach."""
        parts = self.compute
        return parts.get(f"{kind}.{operator}", parts.get(f"{kind}.{dtype}", parts[kind]))

    def memory_part(self, kind: str, operator: str = "") -> float:
        """Part of the bandwidth that large kernels of a kind or an operator reach."""
        return self.memory.get(f"{kind}.{operator}", self.memory[kind])

    def times_faster(self, kind: str, operator: str = "") -> float:
        """How many times faster all threads are than one, for large kernels of a kind."""
        return self.speedup.get(f"{kind}.{operator}", self.speedup.get(kind, 1.0))

    def depth_of(self, kind: str, form: str = "") -> float:
        """The terms at which products of a kind, or of a form of it, get half of their rate."""
        return self.depth.get(f"{kind}.{form}", self.half_depth)

    def rows_of(self, kind: str, form: str, vector: bool) -> float | None:
        """The rows in the time of which a product of codes unpacks them; None if not measured."""
        own = self.rows.get(f"{kind}.{form}.vector") if vector else None
        return self.rows.get(f"{kind}.{form}") if own is None else own

    def parameters(self) -> dict[str, float]:
        """All numbers, flat: `launch_s`, `compute.gemm`, `memory.gemm`, ..."""
        flat = {name: float(getattr(self, name)) for name in _PARAMETERS}
        flat |= {f"compute.{key}": part for key, part in self.compute.items()}
        flat |= {f"memory.{key}": part for key, part in self.memory.items()}
        flat |= {f"launch.{key}": seconds for key, seconds in self.launch.items()}
        flat |= {f"depth.{key}": terms for key, terms in self.depth.items()}
        flat |= {f"rows.{key}": rows for key, rows in self.rows.items()}
        return flat | {f"speedup.{key}": times for key, times in self.speedup.items()}

    def with_parameters(self, values: Mapping[str, float]) -> Stack:
        """The stack with some of its numbers replaced, named as `parameters` names them.

        Raises HardwareError for a name that is none, or a number out of range.
        """
        tables = {name: dict(getattr(self, name)) for name in _TABLES}
        plain: dict[str, float] = {}
        for name, value in values.items():
            table, dot, key = name.partition(".")
            if dot and table in tables:
                tables[table][key] = value
            elif name in _PARAMETERS:
                plain[name] = value
            else:
                raise self._error(f"no parameter {name!r}")
        return replace(self, **tables, **plain)  # type: ignore[arg-type]
