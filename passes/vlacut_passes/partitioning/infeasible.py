"""Why no cut keeps the limits: which of them bind, and by how much.

One limit after the other is dropped, as long as no cut keeps the rest. No cut keeps those that
remain together, but some cut keeps all but any one of them. So each of them binds. It binds by the
difference between the limit and the least that a cut has which keeps the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vlacut.errors import InfeasibleError
from vlacut_passes.partitioning.limits import NAMES, Limits, Quantity, limited, within

Least = Callable[[Limits], "tuple[float, float]"]
"""The least of what limits minimise, within the limits: what a cut was found with, and a bound.
Raises InfeasibleError where no cut keeps them."""


def explained(asked: Limits, least: Least) -> InfeasibleError:
    """The error for limits that no cut keeps."""
    kept = [one for one, most in zip(Quantity, asked.most, strict=True) if most is not None]
    for one in tuple(kept):
        rest = [other for other in kept if other is not one]
        if rest and not _kept(asked, rest, least):
            kept = rest
    said = [
        _binds(asked, one, [other for other in kept if other is not one], least) for one in kept
    ]
    if len(said) == 1:
        return InfeasibleError(f"{said[0]}; raise the limit, or pin less")
    return InfeasibleError(
        f"no cut keeps these limits together: {'; '.join(said)}; raise one of them, or pin less"
    )


def _only(asked: Limits, kept: Sequence[Quantity], minimise: Quantity) -> Limits:
    limits = Limits(minimise)
    for one, most in zip(Quantity, asked.most, strict=True):
        if one in kept:
            limits = limited(limits, one, most)
    return limits


def _kept(asked: Limits, kept: Sequence[Quantity], least: Least) -> bool:
    """Whether a cut was found that keeps these limits."""
    *others, last = kept
    try:
        value, _ = least(_only(asked, others, last))
    except InfeasibleError:
        return False
    return within(last, value, _most(asked, last))


def _most(asked: Limits, quantity: Quantity) -> float:
    most = asked.most[quantity]
    assert most is not None, f"{quantity} is not limited"  # only those that are get here
    return most


def _binds(asked: Limits, one: Quantity, others: Sequence[Quantity], least: Least) -> str:
    """How a limit binds, given the others that are kept."""
    _, bound = least(_only(asked, others, one))
    most = _most(asked, one)
    with_others = ", ".join(
        f"{NAMES[other]} at most {other.text(_most(asked, other))}{asked.note(other)}"
        for other in others
    )
    given = f" with {with_others}" if others else ""
    if within(one, bound, most):
        return (
            f"{NAMES[one]}: no cut was found within {one.text(most)}{given}, nor was it proven "
            f"that there is none"
        )
    return (
        f"{NAMES[one]}: at least {one.text(bound)}{given}, {one.text(bound - most)} more than the "
        f"limit of {one.text(most)}{asked.note(one)}"
    )
