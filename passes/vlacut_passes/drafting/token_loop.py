"""The loop of a program that feeds back its own argmax, and the phase before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from vlacut.errors import PassError, suggestion
from vlacut.ir.program import Phase, Program

_VIEWS = ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True)
class TokenLoop:
    """A loop that says tokens.

    Attributes:
        index: of the loop's phase in the program.
        prefill: the phase before it, which makes the first token.
        loop: the phase itself.
        token: the input that holds the token said last.
        said: the output that is carried into it.
        words: how many tokens there are to choose from.
    """

    index: int
    prefill: Phase
    loop: Phase
    token: str
    said: str
    words: int

    @property
    def value(self) -> ir.Value:
        """The input that holds the token."""
        return next(one for one in self.loop.model.graph.inputs if one.name == self.token)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the token."""
        shape = self.value.shape
        assert shape is not None
        return tuple(int(str(size)) for size in shape)

    def read_after(self, program: Program) -> tuple[list[str], list[str]]:
        """Outputs of the prefill and of the loop that anything else reads."""
        found: tuple[list[str], list[str]] = [], []
        for phase, name in _sources(program, self.index):
            if phase in (self.index - 1, self.index):
                names = found[phase - self.index + 1]
                names += [name] if name not in names else []
        return found


def _sources(program: Program, index: int) -> Iterator[tuple[int, str]]:
    """What is read behind a phase, as the action or in the next step."""
    for later in range(index + 1, len(program.phases)):
        for name in program.phases[later].input_names:
            source = program.source(later, name)
            if source.phase is not None:
                yield source.phase, source.name
    ends = [program.output_source(spec.name) for spec in program.outputs]
    ends += [program.output_source(state.output) for state in program.state]
    for end in ends:
        assert end.phase is not None
        yield end.phase, end.name


def find_token_loop(program: Program, name: str = "") -> TokenLoop:
    """The loop of that name, or the only one; PassError, with the reason, if there is none."""
    loops = [phase.name for phase in program.phases if phase.trips > 1]
    if name and name not in loops:
        raise PassError(f"no phase {name!r} has trips; {suggestion(name, loops)}")
    found = [
        loop
        for index, phase in enumerate(program.phases)
        if phase.trips > 1 and name in ("", phase.name)
        for loop in _loops(program, index)
    ]
    if not found:
        raise PassError(
            f"no loop feeds back its own argmax, so there are no tokens to draft; the phases with "
            f"trips are {', '.join(loops) or 'none'}"
        )
    if len(found) > 1:
        raise PassError(f"several loops say tokens: {', '.join(one.loop.name for one in found)}")
    return _checked(program, found[0])


def _loops(program: Program, index: int) -> Iterator[TokenLoop]:
    phase = program.phases[index]
    outputs = {str(value.name): value for value in phase.model.graph.outputs}
    for said, token in phase.carried.items():
        words = _words(outputs[said])
        if words:
            yield TokenLoop(index, program.phases[index - 1], phase, token, said, words)
            return


def _words(value: ir.Value) -> int:
    """Of how many entries a value is the place of the largest; 0 if it is no argmax."""
    maker = value.producer()
    while maker is not None and maker.op_type in _VIEWS and maker.inputs[0] is not None:
        maker = maker.inputs[0].producer()
    if maker is None or maker.op_type != "ArgMax" or maker.inputs[0] is None:
        return 0
    shape, axis = maker.inputs[0].shape, maker.attributes.get_int("axis", 0)
    return int(str(shape[axis])) if shape is not None else 0


def _checked(program: Program, found: TokenLoop) -> TokenLoop:
    """The loop, if it can be drafted for."""
    where = f"phase {found.loop.name}"
    if program.source(found.index, found.token).phase != found.index - 1:
        raise PassError(f"{where}: its first token is not made by the phase before it")
    if found.prefill.trips > 1 or found.prefill.on_reset or found.loop.on_reset:
        raise PassError(f"{where}: {found.prefill.name} before it runs {found.prefill.trips} times")
    for phase in (found.prefill, found.loop):
        for node in phase.model.graph:
            if any(one.type.name in ("GRAPH", "GRAPHS") for one in node.attributes.values()):
                raise PassError(
                    f"phase {phase.name}: {node.op_type} {node.name} holds a graph, which is not "
                    f"written out for drafts"
                )
    opsets = [dict(one.model.graph.opset_imports) for one in (found.prefill, found.loop)]
    if opsets[0] != opsets[1]:
        raise PassError(f"{where} and {found.prefill.name} are of other operator sets: {opsets}")
    return found
