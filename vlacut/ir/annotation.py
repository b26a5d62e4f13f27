"""Typed keys for what passes write on operators, values and programs.

An annotation lives in the `meta` mapping of the thing it is about, under the key's name. A key
knows how its value prints, so that the text of a graph is stable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from vlacut.errors import PassError
from vlacut.hardware import Device, Link, Side
from vlacut.plans.plan import CHOSEN
from vlacut.plans.pool import NO_POOL, Considered, Pool
from vlacut.pricing.coding import COVERAGE, Offers
from vlacut.pricing.cut import Cut
from vlacut.pricing.price import Certificate, Strategy
from vlacut.pricing.roofline import Cost, Kernel
from vlacut.tensor.noise import Noise
from vlacut.tensor.premise import Premise

T = TypeVar("T")


class HasMeta(Protocol):
    """Anything with a `meta` mapping: an operator, a value, a model, a program."""

    @property
    def meta(self) -> MutableMapping[str, Any]: ...


@dataclass(frozen=True)
class Key(Generic[T]):
    """A typed annotation: its name, the pass that writes it, and how a value prints."""

    name: str
    written_by: str
    text: Callable[[T], str] = str

    def put(self, on: HasMeta, value: T) -> None:
        """Write the annotation, over an earlier one if there is one."""
        on.meta[self.name] = value

    def find(self, on: HasMeta) -> T | None:
        """The annotation, or None."""
        found: T | None = on.meta.get(self.name)
        return found

    def drop(self, on: HasMeta) -> None:
        """Remove the annotation, if there is one."""
        on.meta.pop(self.name, None)

    def get(self, on: HasMeta) -> T:
        """The annotation; PassError naming the pass to run first where there is none."""
        found = self.find(on)
        if found is None:
            raise PassError(
                f"{getattr(on, 'name', on)}: no {self.name}; run {self.written_by} first"
            )
        return found


@dataclass(frozen=True)
class Structure:
    """An operator's place in the model.

    Attributes:
        stage: `encoder`, `backbone` or `decoder`.
        block: dotted path of the repeated block it is in, e.g. `vision.dino.7`, or of its module.
        place: dotted module path inside the block, e.g. `attn.qkv`; empty if not known.
    """

    stage: str
    block: str
    place: str

    def __str__(self) -> str:
        return f"{self.stage}:{self.block}" + (f":{self.place}" if self.place else "")


@dataclass(frozen=True)
class Seconds:
    """An operator's time for one execution, on either side."""

    edge: float
    cloud: float

    def __str__(self) -> str:
        return f"{self.edge * 1e6:.3f}/{self.cloud * 1e6:.3f}us"


@dataclass(frozen=True)
class Machines:
    """The devices that a program's costs are for."""

    edge: Device
    cloud: Device

    def __str__(self) -> str:
        return f"{self.edge.name}/{self.cloud.name}"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `partition` was asked that every cut of the program keeps.

    Attributes:
        link: the link over which cuts are priced.
        pins: the tasks that users want on a side.
        cloud_s: the most seconds of compute in the cloud per control step.
        action_error: the most that codecs may move the action, see `ActionError`.
        calibration: file or folder of observations that bound it; empty for no bound.
        coverage: of that bound.
    """

    link: Link
    pins: Mapping[int, Side] = field(default_factory=dict)
    cloud_s: float = math.inf
    action_error: float = math.inf
    calibration: str = ""
    coverage: float = COVERAGE


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """The cuts of a program: all that `partition` and `alternatives` decided.

    Attributes:
        asked: the limits that all of them keep.
        chosen: the cut to carry out, by the name of its strategy.
        certificate: how good the optimum is proven to be.
        others: the other strategies' cuts, for the report alone.
        alternatives: the variants beside the chosen cut.
        pool: the pool that the variants make.
        considered: every placement that was considered for the pool.
    """

    asked: Asked
    chosen: Cut
    certificate: Certificate
    others: tuple[Cut, ...] = ()
    alternatives: tuple[Cut, ...] = ()
    pool: Pool = NO_POOL
    considered: tuple[Considered, ...] = ()

    @property
    def variants(self) -> tuple[Cut, ...]:
        """The cuts that are carried out, by the name of the variant; the chosen one first."""
        return (replace(self.chosen, name=CHOSEN), *self.alternatives)

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The rows of the report, the chosen one first."""
        return tuple(cut.row for cut in (self.chosen, *self.others))


def types_text(types: Mapping[Side, Mapping[str, str]]) -> str:
    """What a side computes in another type, `edge bfloat16:float32`."""
    return "; ".join(
        f"{side.value} {conversions_text(types[side])}" for side in Side if types.get(side)
    )


def conversions_text(conversions: Mapping[str, str]) -> str:
    """Types and those to compute in instead, as an option of `annotate-cost` has them."""
    return ";".join(f"{source}:{target}" for source, target in conversions.items())


def _cost_text(cost: Cost) -> str:
    return f"{cost.flops} flop, {cost.bytes_moved} B"


STRUCTURE: Key[Structure] = Key("structure", "annotate-structure")
COST: Key[Cost] = Key("cost", "annotate-cost", _cost_text)
KERNEL: Key[Kernel] = Key("kernel", "annotate-cost", lambda kernel: kernel.kind)
SECONDS: Key[Seconds] = Key("seconds", "annotate-cost")
PINNED: Key[Side] = Key("pinned", "a precision by side")
CUTS: Key[Cuts] = Key("cuts", "partition", lambda cuts: f"{len(cuts.variants)} cuts")
OFFERS: Key[Offers] = Key("offers", "annotate-codecs", lambda offers: f"{len(offers)} values")
MEASURED: Key[tuple[Side, ...]] = Key("measured", "measured-cost", lambda sides: "/".join(sides))
MACHINES: Key[Machines] = Key("machines", "annotate-cost")
TYPES: Key[Mapping[Side, Mapping[str, str]]] = Key("types", "annotate-cost", types_text)
UNPRICED: Key[tuple[str, ...]] = Key("unpriced", "annotate-cost")
CONVERTED: Key[str] = Key("converted", "convert-types")
# Weights in few bits, by what they depend on: precisions that have them alike share them.
ROUNDED: Key[dict[Any, Any]] = Key("rounded", "the compiler")
STATE_COPIES: Key[bool] = Key("state-copies", "the compiler")
LOOP_TRIPS: Key[float] = Key("loop-trips", "draft", lambda trips: f"{trips:g} trips expected")
WARMING: Key[int] = Key("warming", "in-flight", lambda steps: f"{steps} steps")
WEIGHT_PASSES: Key[int] = Key("weight-passes", "in-flight", lambda passes: f"{passes} passes")
EXAMPLE: Key[Mapping[str, np.ndarray]] = Key("example", "the front end")
FIXED: Key[Mapping[str, np.ndarray]] = Key("fixed", "the front end")
PREMISES: Key[tuple[Premise, ...]] = Key(
    "premises", "the front end", lambda premises: f"{len(premises)} premises"
)
COUNTED: Key[tuple[str, ...]] = Key("counted", "the front end", ", ".join)
NOISE: Key[tuple[Noise, ...]] = Key("noise", "the front end", lambda noise: f"{len(noise)} inputs")
ROWS: Key[Mapping[str, tuple[str, ...]]] = Key(
    "rows", "rolling", lambda rows: f"{len(rows)} inputs"
)
NOTES: Key[tuple[str, ...]] = Key("notes", "the front end", lambda notes: f"{len(notes)} lines")


def forget(program: HasMeta) -> None:
    """Drop the annotations of optional passes, which an earlier target left on a program."""
    for key in (OFFERS, CUTS, STATE_COPIES):
        key.drop(program)
