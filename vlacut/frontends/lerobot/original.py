"""LeRobot's own policy as what the model check runs, in the Python that has LeRobot.

That is another process, for LeRobot pins other versions of torch and transformers than the compiler
wants. It runs `vlacut.frontends.standalone.vlacut_lerobot`, which imports nothing of vlacut's.
"""

from __future__ import annotations

import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from vlacut.errors import ModelError
from vlacut.frontends.standalone import vlacut_lerobot
from vlacut.ir.original import Numbers, Original, note
from vlacut.ir.program import Program

_MOST_SAID = 400  # of what a process that failed said last


class LerobotProcess:
    """LeRobot's policy in its own Python; the process ends when this is forgotten.

    Args:
        python: of the environment that has LeRobot, e.g. `~/lerobot/.venv/bin/python`.
        folder: the checkpoint.
        task: the prompt that is compiled; empty if the tokens are an input.

    Attributes:
        version, transformers: of the packages there; empty for one that the policy needs not.
        precision: the coarsest of its weights' types.

    Raises ModelError with what it said last, if it does not run the policy.
    """

    def __init__(self, python: str, folder: Path, task: str) -> None:
        self._python = python
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (`_end` closes it)
        command = [str(Path(python).expanduser()), vlacut_lerobot.__file__, str(folder), task]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
        except OSError as error:
            self._errors.close()
            raise ModelError(f"--original {python}: cannot be run: {error.strerror}") from error
        weakref.finalize(self, _end, self._process, self._errors)
        hello = self._heard()
        self.version, self.precision = str(hello["version"]), str(hello["precision"])
        self.transformers = str(hello["transformers"])

    def __call__(self, given: Mapping[str, np.ndarray]) -> Numbers:
        assert self._process.stdin is not None
        try:
            vlacut_lerobot.write(self._process.stdin, given)
        except OSError as error:
            raise self._failed() from error
        made = self._heard()
        if "error" in made:
            raise ModelError(str(made["error"]))
        return made

    def _heard(self) -> dict[str, np.ndarray]:
        assert self._process.stdout is not None
        try:
            found = vlacut_lerobot.read(self._process.stdout)
        except ValueError as error:  # another program, which says something else
            raise ModelError(
                f"--original {self._python}: is no Python, or what it says is no answer: {error}"
            ) from error
        if found is None:
            raise self._failed()
        return found

    def _failed(self) -> ModelError:
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()[-_MOST_SAID:]
        return ModelError(
            f"--original {self._python}: LeRobot there does not run the policy: {said}"
        )


def note_lerobot(program: Program, process: LerobotProcess) -> None:
    """Let the model check run LeRobot's policy; the program's whole step is compared."""
    what = f"LeRobot {process.version}'s own policy"
    note(program, Original(what, step=process, precision=process.precision))


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait()
    errors.close()
