"""A thread that moves bytes while an engine runs, so that the link works beside the machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType


class Mover:
    """Calls `move` in a thread for as long as it is entered; nobody else may use what that uses.

    Args:
        move: moves bytes until the file descriptor it is given becomes readable.

    What `move` raises is raised on leaving, unless something else is.
    """

    def __init__(self, move: Callable[[int], None]) -> None:
        self._move = move
        self._error: Exception | None = None

    def __enter__(self) -> Mover:
        self._stop, self._signal = os.pipe()
        self._thread = threading.Thread(target=self._run, name="vlacut-mover", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.write(self._signal, b"x")
        self._thread.join()
        os.close(self._stop)
        os.close(self._signal)
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            self._move(self._stop)
        except Exception as error:  # it is raised where the engine's result is wanted
            self._error = error
