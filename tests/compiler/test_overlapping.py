"""Requests in flight are compared with one at a time, when a bundle is compiled."""

from __future__ import annotations

import pytest
from support.token_loops import token_program

from vlacut.compiler.overlapping import check_overlap
from vlacut.errors import ModelDiffers
from vlacut.ir.original import PLAIN
from vlacut.ir.program import Program
from vlacut_passes.in_flight import InFlight
from vlacut_passes.pack import Pack


def overlapped() -> Program:
    program = token_program(1)
    InFlight(2).run(program)
    Pack().run(program)
    return program


def test_the_same_actions_say_nothing() -> None:
    assert check_overlap(overlapped()) == ()
    assert check_overlap(token_program(1)) == ()


def test_other_actions_are_refused() -> None:
    program = overlapped()
    PLAIN.put(program, token_program(2))
    with pytest.raises(ModelDiffers, match="every action differs from that of one request"):
        check_overlap(program)


def test_a_program_without_weights_is_not_compared_and_that_is_said() -> None:
    program = overlapped()
    for phase in program.phases:
        for value in phase.model.graph.initializers.values():
            value.const_value = None
    (line,) = check_overlap(program)
    assert "not compared" in line
