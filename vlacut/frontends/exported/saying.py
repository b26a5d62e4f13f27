"""What torch says: a line of it where it refuses, nothing otherwise."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_MAX_REASON = 300


def reason(error: BaseException) -> str:
    """One line saying why torch refused."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:_MAX_REASON]
    if type(error).__name__ in ("GuardOnDataDependentSymNode", "UserError"):
        return (
            f"its control flow or a shape depends on the values of a tensor ({text}); compute both "
            f"ways and choose with torch.where"
        )
    return text


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's chatter from the user: its warnings here are about torch's own code."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
