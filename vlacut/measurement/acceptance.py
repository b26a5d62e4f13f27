"""Acceptance of a policy or a controller by paired episodes.

A candidate (a cheaper controller, precision or cut) runs the episodes that the reference ran: the
same task, seed and start. An episode is *lost* where the reference succeeds and the candidate does
not. The candidate is accepted if it loses no more than a stated share of episodes, with a stated
confidence: the exact upper bound of a binomial share (Clopper and Pearson 1934). CARE
(arXiv 2610.08917) certifies accelerated policies so. Of several candidates each is held to its part
of the error that is allowed (Bonferroni), so that the confidence is that of all of them together.

Outcomes are a table of text with commas, as any bench can write it, an episode a line:

    episode,success
    pick/0,1
    pick/1,0

`episode` is any name; `success` is 1 or 0, or true or false. Other columns are left alone.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlacut.bundle.staging import write_file
from vlacut.errors import InputError

MOST_LOST = 0.05
CONFIDENCE = 0.95
_COLUMNS = ("episode", "success")
_SUCCESS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class Accepted:
    """A candidate against the reference, over the same episodes.

    Attributes:
        pairs: episodes that both ran.
        reference, candidate: successes of each.
        lost: the reference succeeded, the candidate did not.
        gained: the other way round.
        bound: upper bound of the share that is lost, at the confidence of this candidate.
        worse_p: chance of as many losses among the pairs that differ, or more, if losses and gains
            were equally likely: the exact one-sided test of McNemar.
        needed: pairs that would do if none of them were lost.
        accepted: whether the bound is within what may be lost.
    """

    pairs: int
    reference: int
    candidate: int
    lost: int
    gained: int
    bound: float
    worse_p: float
    needed: int
    accepted: bool


def write_outcomes(path: Path, outcomes: Mapping[str, bool]) -> None:
    """Write whether each episode succeeded, by its name."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((name, int(success)) for name, success in outcomes.items())
    write_file(path, text.getvalue())


def read_outcomes(path: Path) -> dict[str, bool]:
    """Whether each episode succeeded, by its name.

    Raises InputError if the file is no such table, or names an episode twice.
    """
    try:
        text = io.StringIO(path.read_text(encoding="utf-8"), newline="")
        rows = list(csv.DictReader(text, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as outcomes: {error}") from error
    found: dict[str, bool] = {}
    for number, row in enumerate(rows, 2):
        missing = [name for name in _COLUMNS if row.get(name) is None]
        if missing:
            wanted = ",".join(_COLUMNS)
            raise InputError(f"{path}, line {number}: no {missing[0]}; its columns are {wanted}")
        name, success = row["episode"], _SUCCESS.get(row["success"].strip().lower())
        if success is None:
            raise InputError(f"{path}, line {number}: success is {row['success']!r}, not 1 or 0")
        if name in found:
            raise InputError(f"{path}, line {number}: episode {name!r} stands there twice")
        found[name] = success
    if not found:
        raise InputError(f"{path}: holds no episode below a line of {','.join(_COLUMNS)}")
    return found


def judge(
    reference: Mapping[str, bool],
    candidates: Sequence[Mapping[str, bool]],
    most_lost: float = MOST_LOST,
    confidence: float = CONFIDENCE,
) -> list[Accepted]:
    """Every candidate against the reference.

    Args:
        reference: whether each episode succeeded, by its name.
        candidates: the same, of the same episodes.
        most_lost: share of episodes that may be lost; above 0 and below 1.
        confidence: that no candidate is accepted that loses more; above 0 and below 1.

    Raises InputError if a candidate ran other episodes: who leaves out those that fail wins.
    """
    alpha = (1 - confidence) / max(1, len(candidates))
    return [_judged(reference, candidate, most_lost, alpha) for candidate in candidates]


def _judged(
    reference: Mapping[str, bool], candidate: Mapping[str, bool], most_lost: float, alpha: float
) -> Accepted:
    for one, other, who in (
        (reference, candidate, "the candidate"),
        (candidate, reference, "the reference"),
    ):
        lacking = [name for name in one if name not in other]
        if lacking:
            raise InputError(
                f"{who} did not run episode {lacking[0]!r}, and {len(lacking) - 1} others; both "
                f"must run the same"
            )
    pairs = len(reference)
    lost = sum(reference[name] and not candidate[name] for name in reference)
    gained = sum(candidate[name] and not reference[name] for name in reference)
    bound = loss_bound(lost, pairs, alpha)
    return Accepted(
        pairs,
        sum(reference.values()),
        sum(candidate.values()),
        lost,
        gained,
        bound,
        _worse(lost, gained),
        math.ceil(math.log(alpha) / math.log1p(-most_lost)),
        bound <= most_lost,
    )


def loss_bound(lost: int, pairs: int, alpha: float) -> float:
    """The share of losses that would give so few, or fewer, with a chance of alpha."""
    from scipy.stats import beta  # it takes a second to import, and the command lists its help

    return 1.0 if lost == pairs else float(beta.ppf(1 - alpha, lost + 1, pairs - lost))


def _worse(lost: int, gained: int) -> float:
    from scipy.stats import binomtest

    differing = lost + gained
    return float(binomtest(lost, differing, 0.5, "greater").pvalue) if differing else 1.0
