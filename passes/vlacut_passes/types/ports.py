"""Which inputs and outputs of phases hold what the robot gives and gets, and keep their types."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vlacut.ir.program import Program

Port = tuple[int, str, str]  # a phase, `in` or `out`, a name


def kept_ports(program: Program) -> set[Port]:
    """Inputs and outputs of phases that hold the observation, the action, or are joined to one."""
    joined = _Joined()
    for index, phase in enumerate(program.phases):
        for name in phase.input_names:
            source = program.source(index, name)
            joined.join((index, "in", name), _made(source.phase, source.name))
            state = program.state_of(name) if source.phase is None else None
            for made in (program.state_source(state), program.reset_source(name)) if state else ():
                if made is not None:
                    joined.join((index, "in", name), _made(made.phase, made.name))
            output = program.carried_output(index, name)
            if output is not None:
                joined.join((index, "in", name), (index, "out", output))
    ends = [_made(None, spec.name) for spec in program.inputs]
    # An initial value has the type that it was given in.
    ends += [_made(None, one.input) for one in program.state if one.initial is not None]
    ends += [
        _made(found.phase, found.name)
        for spec in program.outputs
        for found in [program.output_source(spec.name)]
    ]
    return joined.reached(ends)


def _made(phase: int | None, name: str) -> Port:
    return (-1, "out", name) if phase is None else (phase, "out", name)


@dataclass
class _Joined:
    """Ports that carry the same tensor at some time."""

    near: dict[Port, list[Port]] = field(default_factory=dict)

    def join(self, one: Port, other: Port) -> None:
        self.near.setdefault(one, []).append(other)
        self.near.setdefault(other, []).append(one)

    def reached(self, ends: Iterable[Port]) -> set[Port]:
        waiting = list(ends)
        found = set(waiting)
        while waiting:
            fresh = [port for port in self.near.get(waiting.pop(), ()) if port not in found]
            found.update(fresh)
            waiting.extend(fresh)
        return found
