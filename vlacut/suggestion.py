"""The next name to try, for an error about one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`did you mean X?`, or where nothing is like the name, `known: A, B`.

    Args:
        name: what was given.
        known: what could have been meant.
        cutoff: least likeness, by the ratio of `difflib.SequenceMatcher`.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=cutoff)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
