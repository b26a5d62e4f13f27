"""Acceptance of drafts: how many tokens every source gets right, on recorded episodes.

The uncut program runs on the observation of every inference that was recorded, in order, and says
the greedy tokens, whatever it drafts itself. What each source would have drafted of the steps
before is compared with them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlacut.bundle.draft_table import DraftTable
from vlacut.bundle.opened import Bundle
from vlacut.control.recording.episodes import Episodes
from vlacut.errors import InputError, Progress, unwatched
from vlacut.measurement.actions.chunks import Inferences
from vlacut.tensor.drafts import accepted, drafter, parse_draft

SOURCES = ("last", "velocity", "kalman:0.001", "kalman:0.03", "kalman")
TOKENS = "drafted tokens"  # the state in which the pass `draft` keeps what was said


def calibrate_drafts(
    bundle: Bundle,
    episodes: Episodes,
    sources: Sequence[str] = SOURCES,
    progress: Progress = unwatched,
) -> DraftTable:
    """Acceptance of every source.

    Args:
        bundle: compiled with `--draft last`.
        episodes: observations, and when an inference was asked for.
        sources: see `vlacut.tensor.drafts`.
        progress: called with what is being done, how much is done, and how much there is.

    Raises InputError for a bundle that keeps no tokens, for a source that is none or is given by
    the caller, and where no episode has two inferences.
    """
    parsed = {text: parse_draft(text) for text in sources}
    for source in parsed.values():
        drafter(source)  # refuses what is nobody's here
    said = _said(bundle, episodes, progress)
    trips = len(said[0][0])
    counts = {text: np.zeros(trips + 1, np.int64) for text in parsed}
    for tokens in said:
        for text, source in parsed.items():
            formula = drafter(source)
            draft = formula.follow(tokens[0])
            for one in tokens[1:]:
                counts[text][accepted(draft, one)] += 1
                draft = formula.follow(one)
    return DraftTable(
        trips=trips,
        steps=sum(len(tokens) - 1 for tokens in said),
        episodes=len(said),
        counts={text: tuple(found.tolist()) for text, found in counts.items()},
    )


def _said(bundle: Bundle, episodes: Episodes, progress: Progress) -> list[list[np.ndarray]]:
    """The tokens of every inference, by episode; of episodes of two or more."""
    keys = [one.source for one in bundle.plan.states if one.name == TOKENS]
    if not keys:
        raise InputError(
            f"{bundle.plan.program} does not keep the tokens that it says; compile it with --draft "
            f"last"
        )
    made = Inferences(bundle, episodes).tensors(keys[0], progress)
    said = [tokens for tokens in made if len(tokens) > 1]
    if not said:
        raise InputError("no episode has two inferences; record a loop that runs for longer")
    return said
