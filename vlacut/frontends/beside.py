"""Phases of a model of the zoo, traced side by side in processes that each build it.

Tracing is Python, so threads gain nothing, and a process that is forked finds torch's threads gone.
So others are started, which build the model themselves: on shapes alone, of which nothing differs.
Whoever is free takes the next phase, by making a file that nobody else can make. What another
process traced comes as `ir.storage` writes it; what it cannot hand over, or did not, is traced
here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Program
from vlacut.ir.storage import read_program, write_program

_MOST = 4  # processes, this one included
_PROCESS_BYTES = 1_500_000_000  # OpenVLA's phases took 0.8 GB, beside the libraries
_POLL_S = 0.05
_LONGEST_S = 600.0  # for a phase of another's; all of OpenVLA's took about a minute
_TAKEN, _TRACED, _NOTES = "taken.", "traced.", "notes.json"
_CHILD = "from vlacut.frontends.beside import trace_for_another as go; go()"


class Finished(Exception):
    """No phase is left to take: this process, which traces for another, has nothing else to do."""


@dataclass(frozen=True)
class Sharing:
    """Phases that several processes share.

    Attributes:
        folder: private, where they meet.
        others: the processes that were started; none in one of these.
    """

    folder: Path
    others: Sequence[subprocess.Popen[bytes]] = ()

    @property
    def is_anothers(self) -> bool:
        """Whether this process traces for the one that started it."""
        return not self.others

    def end_of_anothers(self) -> None:
        """Raise Finished if this process traces for another: no phase is left to take."""
        if self.is_anothers:
            raise Finished

    def take(self, index: int) -> bool:
        """Whether a phase is this process's to trace."""
        try:
            (self.folder / f"{_TAKEN}{index}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def hand_over(self, index: int, model: ir.Model, notes: Sequence[str]) -> None:
        """Give the process that started this one the graph of a phase, and notes."""
        folder, graph = Path(tempfile.mkdtemp(dir=self.folder)), model.graph
        inputs, outputs = (tuple(map(value_spec, ends)) for ends in (graph.inputs, graph.outputs))
        write_program(Program("phase", (Phase("phase", model),), inputs, outputs), folder)
        (folder / _NOTES).write_text(json.dumps(list(notes)), encoding="utf-8")
        folder.rename(self.folder / f"{_TRACED}{index}")

    def receive(self, index: int) -> tuple[ir.Model, list[str]] | None:
        """The graph of a phase that another process took, and notes, once they are there; None if
        they will not be, or do not come.
        """
        folder, until = self.folder / f"{_TRACED}{index}", time.monotonic() + _LONGEST_S
        while not folder.is_dir():
            ended = all(one.poll() is not None for one in self.others)
            if (ended or time.monotonic() >= until) and not folder.is_dir():
                return None
            time.sleep(_POLL_S)
        (phase,) = read_program(folder).phases
        for value in phase.model.graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):  # the folder does not stay
                value.const_value = ir.Tensor(value.const_value.numpy().copy(), name=value.name)
        notes: list[str] = json.loads((folder / _NOTES).read_bytes())
        return phase.model, notes


SHARING: ContextVar[Sharing | None] = ContextVar("SHARING", default=None)


@contextmanager
def traced_beside(model: str, most: int = 0) -> Iterator[None]:
    """Meanwhile, other processes take phases of a model of the zoo: `most`, or by what is free."""
    count = most or free_processes() - 1
    if count < 1 or SHARING.get() is not None:
        yield
        return
    words, null = [sys.executable, "-c", _CHILD, model], subprocess.DEVNULL
    with tempfile.TemporaryDirectory(prefix="vlacut-") as name, ExitStack() as ends:
        others = []
        with suppress(OSError):  # of no more processes, say: it is only slower without
            for _ in range(count):
                one = subprocess.Popen(words, cwd=name, stdin=null, stdout=null, stderr=null)
                ends.callback(one.wait)
                ends.callback(one.kill)
                others.append(one)
        if others:
            ends.callback(SHARING.reset, SHARING.set(Sharing(Path(name), others)))
        yield


def free_processes() -> int:
    """How many processes may trace at once, by processors and by memory that is free."""
    if not sys.executable:  # Python inside of another program
        return 1
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(1, min(_MOST, processors, _free_bytes() // _PROCESS_BYTES))


def trace_for_another() -> None:
    """Trace phases of the model in `sys.argv`, for the process whose folder this runs in."""
    from vlacut.frontends.load import load_program

    SHARING.set(Sharing(Path.cwd()))
    try:
        load_program(sys.argv[1])
    except Finished:
        return


def _free_bytes() -> int:
    """Memory that can be had without swapping; 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else 0
