"""The back end of each side, as users name them: `torch`, or `edge=onnxruntime,cloud=torch`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vlacut import registry
from vlacut.backend import Builder, ManyRows
from vlacut.compiler.conversions import NONE, Conversions
from vlacut.errors import InputError
from vlacut.hardware import Side, load_device
from vlacut.ir.graphs import dtype_name
from vlacut.ir.program import Program

_RUNNER = "onnxruntime"  # runs what a back end leaves as it is
# Eight of the last places of a type that crosses, as back ends allow that compute in it.
_BORDER = {"bfloat16": 8 * 2.0**-7, "float16": 8 * 2.0**-10}


@dataclass(frozen=True)
class BackEnds:
    """What makes the parts of each side, by side.

    Attributes:
        names: of the back ends.
        builders: of them; one that both sides have is there once.
    """

    names: Mapping[Side, str]
    builders: Mapping[Side, Builder] = field(repr=False)

    def __str__(self) -> str:
        edge, cloud = (self.names[side] for side in Side)
        return edge if edge == cloud else f"edge={edge},cloud={cloud}"

    @property
    def computes(self) -> bool:
        """Whether the engines of both sides compute."""
        return all(builder.computes for builder in self.builders.values())

    @property
    def uncut(self) -> Side:
        """The side whose builder makes the uncut phases: one whose executor runs them on any
        machine. Of two such sides it is the edge, because the robot must be able to read them.
        """
        own = (side for side in Side if self.builders[side].reference == self.names[side])
        return next(own, Side.EDGE)

    def runner(self, side: Side) -> str:
        """The back end that stands for a side's where the bundle is made."""
        return self.builders[side].reference or _RUNNER

    def recipes(self, devices: Mapping[Side, str], provider: str = "") -> dict[str, dict[str, str]]:
        """What the executor of each side must know.

        Args:
            devices: by side.
            provider: that it is to take instead of the device's, for both sides or `edge=`,
                `cloud=`; several in order of preference with `+` between them.

        Raises BackendError if a device cannot run it, InputError if it has no such provider.
        """
        asked = _names(provider, "--provider") if provider else {}
        found = {}
        for side, name in devices.items():
            found[side.value] = dict(self.builders[side].recipe(load_device(name)))
            if asked.get(side):
                found[side.value]["provider"] = self._checked(side, asked[side])
        return found

    def for_many_rows(self, recipes: Mapping[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        """The recipes of a bundle whose parts read each weight once for many rows."""
        found = {}
        for side, builder in self.builders.items():
            recipe = recipes[side.value]
            if isinstance(builder, ManyRows):
                recipe = dict(builder.for_many_rows(recipe))
            found[side.value] = recipe
        return found

    def _checked(self, side: Side, provider: str) -> str:
        known = getattr(self.builders[side], "providers", ())
        wanted = provider.split("+")
        for one in wanted:
            if one not in known:
                has = f"has {', '.join(known)}" if known else "has none to choose from"
                raise InputError(f"--provider {one}: back end {self.names[side]} {has}")
        return ",".join(wanted)

    def conversions(self, program: Program, asked: str = "") -> Conversions:
        """Types that a program has, or gets by what is asked for, and executors lack.

        Args:
            program: before any pass.
            asked: the precisions that it gets beside its own types, as text.

        Raises InputError if both sides lack a type and compute in different ones instead.
        """
        lacks = {side: self.builders[side].conversions for side in Side}
        edge, cloud = lacks[Side.EDGE], lacks[Side.CLOUD]
        there = set(_types(program))
        for source in edge.keys() & cloud.keys():
            if edge[source] != cloud[source]:
                raise InputError(
                    f"--backend {self}: one computes {source} in {edge[source]}, the other in "
                    f"{cloud[source]}; convert it yourself, with --precision"
                )
        alone = {
            side: {
                source: target
                for source, target in lacks[side].items()
                if source not in lacks[side.other] and (source in there or source in asked)
            }
            for side in Side
        }
        either = {source: target for types in alone.values() for source, target in types.items()}
        return Conversions(
            both={one: edge[one] for one in edge if one in cloud and one in there},
            ends={source: target for source, target in either.items() if source in there},
            sides={side: types for side, types in alone.items() if types},
        )

    def tolerances(self, program: Program, conversions: Conversions = NONE) -> dict[str, float]:
        """How far an engine's outputs may be from those recorded of its part, by side, as a share
        of the largest magnitude. One that computes in another type than what crosses rounds to that
        at its border.
        """
        found = {}
        for side, builder in self.builders.items():
            own = max(builder.tolerance(phase.model) for phase in program.phases)
            lacks = conversions.sides.get(side, {})
            found[side.value] = max(own, *(_BORDER.get(source, 0.0) for source in lacks), 0.0)
        return found


def parse_backends(text: str) -> BackEnds:
    """Read a name for both sides, or one for each. Raises InputError for anything else."""
    names = _names(text)
    made = {name: registry.load("builders", name)() for name in dict.fromkeys(names.values())}
    return BackEnds(names, {side: made[name] for side, name in names.items()})


def _names(text: str, option: str = "--backend") -> dict[Side, str]:
    if "=" not in text:
        return dict.fromkeys(Side, text)
    pairs = [item.partition("=") for item in text.split(",")]
    sides = [side for side, _, _ in pairs]
    if sorted(sides) != sorted(side.value for side in Side) or not all(name for *_, name in pairs):
        raise InputError(f"{option} {text!r}: write a name for both sides, or edge=NAME,cloud=NAME")
    return {Side(side): name for side, _, name in sorted(pairs, reverse=True)}


def _types(program: Program) -> Iterator[str]:
    for phase in program.phases:
        for node in phase.model.graph.all_nodes():
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.dtype is not None:
                    yield dtype_name(value.dtype)
