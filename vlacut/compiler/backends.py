"""The back end of each side, as users name them: `torch`, or `edge=onnxruntime,cloud=torch`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vlacut import registry
from vlacut.backend import Builder, ManyRows
from vlacut.errors import InputError
from vlacut.hardware import Side, load_device
from vlacut.ir.graphs import dtype_name
from vlacut.ir.program import Program

_RUNNER = "onnxruntime"  # runs what a back end leaves as it is


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

    def conversions(self, program: Program) -> dict[str, str]:
        """Types that a program has and an executor lacks, each with the type to use instead.

        A tensor has one type on both sides, so both convert a type that one of them lacks. Raises
        InputError if the two ask for different types.
        """
        found: dict[str, str] = {}
        there = set(_types(program))
        for side in Side:
            for source, target in self.builders[side].conversions.items():
                if found.setdefault(source, target) != target:
                    raise InputError(
                        f"--backend {self}: one computes {source} in {found[source]}, the other in "
                        f"{target}; convert it yourself, with --precision"
                    )
        return {source: target for source, target in found.items() if source in there}

    def tolerances(self, program: Program) -> dict[str, float]:
        """How far an engine's outputs may be from those recorded of its part, by side, as a share
        of the largest magnitude.
        """
        return {
            side.value: max(builder.tolerance(phase.model) for phase in program.phases)
            for side, builder in self.builders.items()
        }


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
