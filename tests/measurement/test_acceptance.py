"""Acceptance by paired episodes: the bound is exact, and files that are no outcomes are refused."""

from __future__ import annotations

import json
from fractions import Fraction
from math import comb
from pathlib import Path

import pytest
from support.commands import Vlacut

from vlacut.errors import InputError
from vlacut.measurement.acceptance import judge, loss_bound, read_outcomes, write_outcomes


def at_most(lost: int, pairs: int, share: float) -> float:
    """Chance of so few losses, or fewer, if each pair is lost with a chance of `share`."""
    p = Fraction(share)
    return float(sum(comb(pairs, k) * p**k * (1 - p) ** (pairs - k) for k in range(lost + 1)))


def outcomes(*groups: tuple[bool, bool, int]) -> tuple[dict[str, bool], dict[str, bool]]:
    """Reference and candidate: whether each succeeds, and in how many episodes."""
    reference: dict[str, bool] = {}
    candidate: dict[str, bool] = {}
    for one, other, count in groups:
        for _ in range(count):
            name = f"pick/{len(reference)}"
            reference[name], candidate[name] = one, other
    return reference, candidate


@pytest.mark.parametrize(("lost", "pairs"), [(0, 1), (0, 59), (1, 93), (7, 50), (49, 50)])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_bound_is_the_share_that_gives_so_few_losses_by_chance(
    lost: int, pairs: int, alpha: float
) -> None:
    bound = loss_bound(lost, pairs, alpha)
    assert at_most(lost, pairs, bound) == pytest.approx(alpha, rel=1e-9)
    assert at_most(lost, pairs, bound + 0.01) < alpha


def test_nobody_knows_more_where_all_are_lost() -> None:
    assert loss_bound(12, 12, 0.05) == 1


@pytest.mark.parametrize("pairs", [59, 100, 200])
@pytest.mark.parametrize("count", [1, 3])
def test_who_loses_too_many_is_accepted_no_more_often_than_the_confidence_says(
    pairs: int, count: int
) -> None:
    """By enumeration: every number of losses, weighed by its chance at the share itself."""
    most = 0.05
    wrong = 0.0
    for lost in range(pairs + 1):
        pair = outcomes((True, False, lost), (True, True, pairs - lost))
        judged = judge(pair[0], [pair[1]] * count, most, 0.95)
        if judged[0].accepted:
            wrong += comb(pairs, lost) * most**lost * (1 - most) ** (pairs - lost)
    assert wrong <= 0.05 / count


def test_gains_make_up_for_no_loss() -> None:
    """The bound is on losses: what a user relied on and does not get any more."""
    reference, candidate = outcomes((True, False, 9), (False, True, 60), (True, True, 131))
    (one,) = judge(reference, [candidate])
    assert (one.pairs, one.lost, one.gained) == (200, 9, 60)
    assert (one.reference, one.candidate) == (140, 191)
    assert one.bound > 0.05
    assert not one.accepted
    assert one.worse_p > 0.999


def test_the_test_of_pairs_is_exact() -> None:
    reference, candidate = outcomes((True, False, 8), (False, True, 2), (True, True, 90))
    (one,) = judge(reference, [candidate])
    assert one.worse_p == pytest.approx(sum(comb(10, k) for k in (8, 9, 10)) / 2**10)
    (same,) = judge(reference, [reference])
    assert (same.lost, same.gained, same.worse_p) == (0, 0, 1)


def test_it_takes_so_many_pairs_without_a_loss() -> None:
    for count in (58, 59):
        reference, candidate = outcomes((True, True, count))
        (one,) = judge(reference, [candidate], 0.05, 0.95)
        assert one.needed == 59
        assert one.accepted == (count >= 59)


def test_both_run_the_same_episodes() -> None:
    """Who leaves out the episodes that fail would win."""
    reference, candidate = outcomes((True, True, 80))
    del candidate["pick/7"]
    with pytest.raises(InputError, match="the candidate did not run episode 'pick/7'"):
        judge(reference, [candidate])
    with pytest.raises(InputError, match="the reference did not run episode 'pick/7'"):
        judge(candidate, [reference])


def test_outcomes_come_back(tmp_path: Path) -> None:
    made = {"pick, slow/0": True, 'a "seed"': False, "7": True}
    write_outcomes(tmp_path / "a.csv", made)
    assert read_outcomes(tmp_path / "a.csv") == made


def test_tables_of_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("seed,success,episode\r\n5,True,a\r\n\r\n6, 0 ,b\r\n")
    assert read_outcomes(tmp_path / "a.csv") == {"a": True, "b": False}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no episode"),
        ("episode,success\n", "holds no episode"),
        ("a,b\n1,2\n", "line 2: no episode"),
        ("episode,success\na\n", "line 2: no success"),
        ("episode,success\na,0.5\n", "success is '0.5', not 1 or 0"),
        ("episode,success\na,1\na,0\n", "line 3: episode 'a' stands there twice"),
        ('episode,success\n"a,1\n', "cannot be read"),
        ("episode,success\n\xff,1\n", "cannot be read"),
    ],
)
def test_what_is_no_table_of_outcomes_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        read_outcomes(path)


def test_the_first_that_is_accepted_is_taken(tmp_path: Path, vlacut: Vlacut) -> None:
    reference, poor = outcomes((True, False, 40), (True, True, 160))
    paths = [tmp_path / f"{name}.csv" for name in ("all-cloud", "poor", "good", "better")]
    for path, found in zip(paths, (reference, poor, reference, reference), strict=True):
        write_outcomes(path, found)
    status, out, _ = vlacut("accept", *paths)
    assert status == 0
    assert "good is accepted" in out
    status, out, _ = vlacut("accept", *paths, "--json")
    told = json.loads(out)
    assert told["accepted"] == str(paths[2])
    assert [one["accepted"] for one in told["candidates"]] == [False, True, True]
    assert told["candidates"][0]["lost"] == 40


def test_where_none_is_accepted_the_status_says_so(tmp_path: Path, vlacut: Vlacut) -> None:
    reference, _ = outcomes((True, True, 20))
    write_outcomes(tmp_path / "a.csv", reference)
    status, out, _ = vlacut("accept", tmp_path / "a.csv", tmp_path / "a.csv")
    assert status == 1
    assert "20 pairs are too few: it takes 59 without any loss" in out
    status, _, err = vlacut("accept", tmp_path / "a.csv", tmp_path / "none.csv")
    assert status == 2
    assert "none.csv: cannot be read as outcomes" in err
