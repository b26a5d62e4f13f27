"""Controllers by name.

    when-empty    asks when the executor runs out of commands; with the session's selector
                  `thresholds` it is RoboECC's rule
    periodic      every `period_s` seconds; without one, one inference after the other
    rapid         RAPID's rule: the joints say that a moment matters
    entropy       the vision trigger that it is compared with
    risk          a learnt risk, and a bound on the age
    dyq           DyQ-VLA's rule: how finely the robot moves says in which precision
    price         the expected error of the action: the one controller

Options that name a variant take its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlacut.control.controllers.dynamic import Dynamic
from vlacut.control.controllers.entropy import Entropy
from vlacut.control.controllers.learnt import Risk
from vlacut.control.controllers.priced import Priced
from vlacut.control.controllers.rapid import Rapid
from vlacut.control.controllers.simple import Periodic, WhenEmpty
from vlacut.control.report import Route
from vlacut.control.situation import Controller
from vlacut.control.tables import ActionTables
from vlacut.errors import InputError, suggestion

WHEN_EMPTY, PERIODIC, RAPID = "when-empty", "periodic", "rapid"
ENTROPY, RISK, DYQ, PRICE = "entropy", "risk", "dyq", "price"
CONTROLLERS = (WHEN_EMPTY, PERIODIC, RAPID, ENTROPY, RISK, DYQ, PRICE)
_OF_A_VARIANT = ("variant", "critical", "redundant", "cheap", "strong")


def make_controller(
    name: str,
    routes: Sequence[Route],
    *,
    tables: ActionTables | None = None,
    entropy: bool = False,
    **options: Any,
) -> Controller:
    """The controller of a name.

    Args:
        name: see the module's docstring.
        routes: of the plan's variants.
        tables: of `vlacut calibrate-actions`, if there are any.
        entropy: whether the policy tells how unsure it is.
        options: of the controller.

    Raises InputError if there is none, if it has no such options, or if it lacks something.
    """
    kinds: dict[str, Callable[..., Controller]] = {
        WHEN_EMPTY: WhenEmpty,
        PERIODIC: Periodic,
        RAPID: Rapid,
        ENTROPY: Entropy,
        RISK: Risk,
        DYQ: Dynamic,
        PRICE: Priced,
    }
    if name not in kinds:
        raise InputError(f"no controller is called {name!r}; {suggestion(name, kinds)}")
    given: dict[str, Any] = {}
    if name == RAPID and tables is not None:
        given = {"high": tables.rapid[0], "low": tables.rapid[1]}
    elif name == ENTROPY and not entropy:
        raise InputError(
            "the controller entropy needs an output that tells how unsure the policy is; name it "
            "with entropy="
        )
    elif name == RISK:
        if tables is None:
            raise InputError(
                "the controller risk needs a fitted model; make it with vlacut calibrate-actions"
            )
        given = {"model": tables.risk}
    elif name == DYQ:
        if not options.get("table"):
            raise InputError(
                "the controller dyq needs a table of precisions; make it with vlacut "
                "calibrate-precision, and give it as table= or --precision-table"
            )
        given = {"routes": routes}
    elif name == PRICE:
        given = {"routes": routes, "tables": tables}
    known = inspect.signature(kinds[name]).parameters
    for option in options:
        if option not in known or option in given:
            said = suggestion(option, set(known) - set(given))
            raise InputError(f"controller {name}: no option {option!r}; {said}")
    return kinds[name](**{**given, **_indexed(options, routes)})


def _indexed(options: Mapping[str, Any], routes: Sequence[Route]) -> dict[str, Any]:
    """Options, with indexes for names of variants."""
    names = [route.variant for route in routes]
    made = dict(options)
    for option in _OF_A_VARIANT:
        if isinstance(made.get(option), str):
            if made[option] not in names:
                said = suggestion(made[option], names)
                raise InputError(f"{option}: the plan has no variant {made[option]!r}; {said}")
            made[option] = names.index(made[option])
    return made
