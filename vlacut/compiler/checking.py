"""Checking: what can be said of a bundle's parts without the machines they are for."""

from __future__ import annotations

from dataclasses import dataclass

from vlacut import registry
from vlacut.backend import Checked, Checker
from vlacut.bundle.opened import Bundle
from vlacut.errors import Progress, unwatched
from vlacut.hardware import Side, load_device
from vlacut.plans.plan import Part


@dataclass(frozen=True)
class CheckedPart:
    """A part, the device it was checked for, and the result."""

    part: Part
    device: str
    checked: Checked


def check_parts(
    bundle: Bundle,
    side: Side | None,
    checker: str,
    target: str = "",
    build: bool = True,
    dla: bool = False,
    progress: Progress = unwatched,
) -> tuple[CheckedPart, ...]:
    """Check the parts of a side, or of both, against the rules of a back end.

    Args:
        bundle: open and checked.
        side: whose parts; None for both sides.
        checker: a name of the entry points `vlacut.checkers`.
        target: the device for every part; empty for the part's own device in the plan.
        build: whether to build an engine too, if that can be done here.
        dla: whether to check the rules of the device's fixed-function accelerator instead.
        progress: called with the part, how many are done, and how many there are.

    Raises InputError for an unknown checker or device, BackendError if a device runs no such
    engines.
    """
    rules: Checker = registry.load("checkers", checker)()
    parts = bundle.parts(side) if side else bundle.plan.parts
    results = []
    for index, part in enumerate(parts):
        progress(part.name, index, len(parts))
        device = target or (bundle.plan.edge if part.side is Side.EDGE else bundle.plan.cloud)
        model, hardware = bundle.part_path(part), load_device(device)
        checked = rules.check(part.name, model, bundle.root, hardware, build, dla)
        results.append(CheckedPart(part, device, checked))
    return tuple(results)
