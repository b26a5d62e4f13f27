"""Controllers by name.

when-empty    asks when the executor runs out of commands
periodic      every `period_s` seconds; without one, one inference after the other
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vlacut.control.controllers.simple import Periodic, WhenEmpty
from vlacut.control.report import Route
from vlacut.control.situation import Controller
from vlacut.errors import InputError, suggestion

WHEN_EMPTY, PERIODIC = CONTROLLERS = ("when-empty", "periodic")


def make_controller(
    name: str, routes: Sequence[Route], *, entropy: bool = False, **options: Any
) -> Controller:
    """The controller of a name; InputError if there is none, or it has no such options."""
    kinds: dict[str, Callable[..., Controller]] = {WHEN_EMPTY: WhenEmpty, PERIODIC: Periodic}
    if name not in kinds:
        raise InputError(f"no controller is called {name!r}; {suggestion(name, kinds)}")
    try:
        return kinds[name](**options)
    except TypeError as error:
        raise InputError(f"controller {name}: {error}") from error
