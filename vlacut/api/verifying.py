"""The proof that a bundle's cuts compute what its model does."""

from __future__ import annotations

import os
from pathlib import Path

from vlacut.bundle.reading import open_bundle
from vlacut.errors import Progress, unwatched
from vlacut.runtime.fresh import FRESH
from vlacut.runtime.verification import CutResult, verify_bundle


def verify(
    bundle: str | os.PathLike[str],
    *,
    fresh: int = FRESH,
    observations: str | os.PathLike[str] | None = None,
    provider: str = "cpu",
    progress: Progress = unwatched,
) -> tuple[CutResult, ...]:
    """Compare the numbers of every cut of a bundle with those of the uncut model, on this machine.

    Args:
        bundle: path of the bundle.
        fresh: how many variations of the golden observation codecs are tried on, too.
        observations: a file or folder of recorded observations, instead of variations.
        provider: what back ends that have several run on.
        progress: called with what is being done, how much is done, and how much there is.

    Returns the comparisons. Each one's `passed` says whether the bundle allows the difference, and
    its `warning` what a user should know. Raises InputError, BundleError or BackendError.
    """
    recorded = None if observations is None else Path(observations)
    return verify_bundle(
        open_bundle(Path(bundle)),
        progress,
        fresh=fresh,
        observations=recorded,
        provider=provider,
    )
