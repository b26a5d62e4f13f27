"""Phases traced side by side are those that one process traces, and none is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vlacut import registry
from vlacut.frontends import beside
from vlacut.frontends.beside import SHARING, Finished, Sharing, traced_beside
from vlacut.frontends.torch import TorchPhase, program_from_torch, shapes_only
from vlacut.ir.annotation import NOTES
from vlacut.ir.printer import print_program
from vlacut.ir.program import Program


class Layer(nn.Module):
    """A weight on shapes alone, and a table that is large and real."""

    def __init__(self, draws: bool = False) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.draws = draws
        self.register_buffer("table", torch.arange(32_768.0).reshape(4096, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(1, 8) if self.draws else 0.0
        return self.inner(x) + self.table[17:18] + noise


def program(draws: tuple[bool, ...] = (False, False, False), real: bool = False) -> Program:
    """Three phases, one after the other."""
    phases = []
    for index, one in enumerate(draws):
        if real:
            layer = Layer(one)
        else:
            with shapes_only():
                layer = Layer(one)
        given = {f"x{index}": torch.ones(1, 8)}
        phases.append(TorchPhase(f"p{index}", layer.eval(), given, (f"x{index + 1}",)))
    return program_from_torch("m", phases, ["x0"], ["x3"])


@pytest.fixture
def ended() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has ended, as one that has nothing left to take."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
        yield child


def as_another(folder: Path, leave: tuple[int, ...], **how: object) -> None:
    """Be the process that was started: take all phases but some."""
    for index in leave:
        assert Sharing(folder).take(index)
    token = SHARING.set(Sharing(folder))
    try:
        with pytest.raises(Finished):
            program(**how)  # type: ignore[arg-type]
    finally:
        SHARING.reset(token)
    for index in leave:
        (folder / f"taken.{index}").unlink()


def as_first(folder: Path, ended: subprocess.Popen[bytes], **how: object) -> Program:
    token = SHARING.set(Sharing(folder, [ended]))
    try:
        return program(**how)  # type: ignore[arg-type]
    finally:
        SHARING.reset(token)


def same(one: Program, other: Program) -> None:
    assert print_program(one) == print_program(other)
    assert NOTES.find(one) == NOTES.find(other)
    for phase, known in zip(one.phases, other.phases, strict=True):
        weights, wanted = phase.model.graph.initializers, known.model.graph.initializers
        assert list(weights) == list(wanted)
        for name, value in weights.items():
            found, known_content = value.const_value, wanted[name].const_value
            assert (found is None) == (known_content is None)
            if found is not None and known_content is not None:
                np.testing.assert_array_equal(found.numpy(), known_content.numpy())


def handed_over(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.glob("traced.*"))


def test_what_another_traced_is_what_one_traces(
    tmp_path: Path, ended: subprocess.Popen[bytes]
) -> None:
    as_another(tmp_path, leave=(1,))
    assert handed_over(tmp_path) == ["traced.0", "traced.2"]
    found = as_first(tmp_path, ended)
    for one in sorted(tmp_path.rglob("*"), reverse=True):
        one.unlink() if one.is_file() else one.rmdir()  # nothing of it is read any more
    same(found, program())


def test_what_another_took_and_did_not_trace_is_traced_here(
    tmp_path: Path, ended: subprocess.Popen[bytes]
) -> None:
    assert Sharing(tmp_path).take(1)  # by one that was killed since
    same(as_first(tmp_path, ended), program())


def test_what_another_took_and_hangs_on_is_traced_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_LONGEST_S", 0.0)
    assert Sharing(tmp_path).take(1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as hangs:
        same(as_first(tmp_path, hangs), program())
        assert hangs.poll() is None


def test_another_program_takes_nothing_of_the_first(
    tmp_path: Path, ended: subprocess.Popen[bytes]
) -> None:
    as_another(tmp_path, leave=(1,))
    token = SHARING.set(Sharing(tmp_path, [ended]))
    try:
        program()
        real = program(real=True)
    finally:
        SHARING.reset(token)
    for phase in real.phases:
        weights = phase.model.graph.initializers.values()
        assert all(one.const_value is not None for one in weights)


def test_random_weights_are_not_taken_from_another(tmp_path: Path) -> None:
    as_another(tmp_path, leave=(0,), real=True)
    assert not handed_over(tmp_path)


def test_noise_is_numbered_in_the_order_of_phases(
    tmp_path: Path, ended: subprocess.Popen[bytes]
) -> None:
    draws = (True, False, True)
    as_another(tmp_path, leave=(2,), draws=draws)
    assert handed_over(tmp_path) == ["traced.1"]
    same(as_first(tmp_path, ended, draws=draws), program(draws))


def test_as_many_as_memory_and_processors_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside.os, "sched_getaffinity", lambda _: set(range(16)))
    for free, wanted in ((0, 1), (2 << 30, 1), (4 << 30, 2), (1 << 40, 4)):
        monkeypatch.setattr(beside, "_free_bytes", lambda free=free: free)
        assert beside.free_processes() == wanted
    monkeypatch.setattr(beside.os, "sched_getaffinity", lambda _: {0})
    assert beside.free_processes() == 1


def test_nothing_is_started_where_one_process_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "free_processes", lambda: 1)
    with traced_beside("openvla"):
        assert SHARING.get() is None


@pytest.mark.slow
def test_a_model_of_the_zoo_side_by_side() -> None:
    """Three quarters of a minute: another process imports torch and builds the model."""
    build = registry.load("models", "smolvla")
    with traced_beside("smolvla", most=1):
        found = build("full")
    same(found, build("full"))
