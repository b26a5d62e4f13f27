"""The command line, run in this process."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vlacut.cli import main


class Vlacut:
    """Runs commands in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._monkeypatch.setattr(sys, "argv", ["vlacut", *map(str, words)])
        with _process_as_before():
            try:
                main()
                status = 0
            except SystemExit as error:
                status = error.code if isinstance(error.code, int) else 1
        return status, *self._capsys.readouterr()


@contextmanager
def _process_as_before() -> Iterator[None]:
    """Take back what a command does to its process, which ends with it elsewhere."""
    log = logging.getLogger("vlacut")
    handlers, level, finders, collects = log.handlers, log.level, sys.meta_path, gc.get_threshold()
    sys.meta_path = list(finders)
    try:
        yield
    finally:
        log.handlers, sys.meta_path = handlers, finders
        log.setLevel(level)
        gc.set_threshold(*collects)
