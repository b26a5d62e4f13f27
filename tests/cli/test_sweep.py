"""Sweeps: every point is the plan one gets by asking for it, and the command shows them all."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.commands import Vlacut
from support.programs import looping_program

from vlacut.cli.show.frontier import draw_sweep, show_sweep
from vlacut.compiler.planning import plan_program
from vlacut.compiler.sweep import POINTS, Axis, Point, parse_axis, sweep
from vlacut.compiler.target import Target
from vlacut.errors import HardwareError, InputError
from vlacut.pricing.price import Certificate

TARGET = Target("jetson-agx-orin", "a100", "1GB/s/2GB/s,10us")


def test_an_axis_is_read() -> None:
    assert parse_axis("link=1MB/s..0.1GB/s") == Axis("link", 1e6, 1e8)
    assert parse_axis("cloud-budget=2GB..14GiB") == Axis("cloud-budget", 2e9, 14 * 2**30)
    bandwidths = list(Axis("link", 1e6, 1e8).amounts())
    assert bandwidths[0] == 1e6
    assert bandwidths[6] == pytest.approx(1e7)
    assert bandwidths[-1] == pytest.approx(1e8)
    assert len(bandwidths) == POINTS
    assert list(Axis("cloud-budget", 12, 24).amounts()) == list(range(12, 25))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("link", "write link=1MB/s..100MB/s"),
        ("speed=1..2", "write link=1MB/s..100MB/s"),
        ("link=1MB/s/2MB/s..3MB/s", "the uplink's bandwidth alone"),
        ("link=1MB/s..1MB/s", "below the second"),
        ("link=5MB/s..1MB/s", "below the second"),
        ("cloud-budget=0B..1GB", "above 0"),
        ("link=fast..faster", "does not parse"),
    ],
)
def test_what_is_no_axis_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_axis(text)


def test_every_point_is_the_plan_for_it() -> None:
    for axis, option in ((Axis("link", 1e6, 1e9), "link"), (Axis("cloud-budget", 1, 60e3), "")):
        for point in sweep(looping_program(), TARGET, axis)[::4]:
            asked = {"cloud_budget": f"{point.amount:.0f}B"}
            if option:
                asked = {"link": f"{point.amount / 1e6!r}MB/s/{point.amount / 5e5!r}MB/s,10us"}
            planned = plan_program(looping_program(), replace(TARGET, **asked))  # type: ignore[arg-type]
            for row, expected in zip(point.strategies, planned.plan.strategies, strict=True):
                assert row.name == expected.name
                assert row.price.total_s == pytest.approx(expected.price.total_s, rel=1e-9)
                assert row.why_not == expected.why_not


def test_the_chosen_cut_only_gains_by_bandwidth_and_budget() -> None:
    for axis in (Axis("link", 1e6, 1e12), Axis("cloud-budget", 1, 60e3)):
        points = sweep(looping_program(), TARGET, axis)
        chosen = [point.strategies[0].price.total_s for point in points]
        assert chosen == sorted(chosen, reverse=True)
        assert chosen[-1] < chosen[0]
        for point in points:
            allowed = [row.price.total_s for row in point.strategies if row.feasible]
            assert min(allowed) == pytest.approx(point.strategies[0].price.total_s)


def test_a_sweep_as_a_table_a_figure_and_json(
    vlacut: Vlacut,
    onnx_file: Path,
    tmp_path: Path,
) -> None:
    pytest.importorskip("matplotlib")
    figure = tmp_path / "frontier.svg"
    words = ("plan", onnx_file, "--edge", TARGET.edge, "--cloud", TARGET.cloud)
    words = (*words, "--link", "1GB/s,10us", "--sweep", "link=1MB/s..1TB/s", "--plot", figure)
    status, out, err = vlacut(*words)
    assert status == 0, err
    assert max(map(len, out.splitlines())) <= 120
    assert "1000000 MB/s" in out
    assert "# chosen" in out
    assert "<svg" in figure.read_text()
    found = json.loads(vlacut(*words, "--json")[1])
    assert found["sweep"] == "link"
    assert len(found["points"]) == POINTS
    assert found["points"][0]["amount"] == 1e6
    assert found["link"]["rtt_s"] == pytest.approx(1e-5)
    for point in found["points"]:
        assert {"optimal", "all-edge"} <= {row["name"] for row in point["strategies"]}
        assert point["certificate"]["proven"]
        assert point["certificate"]["value_ms"] == point["strategies"][0]["latency_ms"]
        assert point["kept_ms"] >= point["strategies"][0]["latency_ms"] * (1 - 1e-9)


def test_the_cut_for_the_link_asked_for_is_shown_at_every_bandwidth() -> None:
    """As it is: where it was chosen for it is the best, and at the others it is not."""
    points = sweep(looping_program(), TARGET, Axis("link", 1e6, 1e12))
    planned = plan_program(looping_program(), TARGET).plan
    for point in points:
        link = planned.link.at(point.amount)
        assert point.kept_s == pytest.approx(planned.variants[0].price.over(link), rel=1e-12)
    chosen = [point.strategies[0].price.total_s for point in points]
    kept = [point.kept_s or 0.0 for point in points]
    apart = [one / best for one, best in zip(kept, chosen, strict=True)]
    assert apart[6] == pytest.approx(1)
    assert max(apart) > 1.5
    budgets = sweep(looping_program(), TARGET, Axis("cloud-budget", 1, 60e3))
    assert {point.kept_s for point in budgets} == {None}


def test_what_is_not_proven_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    row = plan_program(looping_program(), TARGET).plan.strategies[0]
    proven = Certificate("latency", 2.0, 2.0, "min-cut")
    points = [Point(1e6, (row,), proven), Point(2e6, (row,), replace(proven, bound=1.0))]
    show_sweep(Console(width=100), Axis("link", 1e6, 2e6), points)
    out = capsys.readouterr().out
    assert "2 MB/s: Not proven: a cut within the limits may have a lower latency than" in out
    assert "optimal, by 50.00% at most" in out
    assert out.count("~") == 1
    assert "1 MB/s: " not in out


def test_what_is_minimised_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    axis = Axis("link", 1e6, 1e12)
    for goal, heading in (("latency", "chosen hops"), ("energy", "chosen energy hops")):
        points = sweep(looping_program(), replace(TARGET, minimise=goal), axis)
        show_sweep(Console(width=120), axis, points)
        out = re.sub(" +", " ", capsys.readouterr().out)
        assert heading in out
        joules = f"{points[-1].strategies[0].price.edge_j:.3g} J"
        assert (f" {joules} " in out) == (goal == "energy")


def test_the_figure_adds_up_and_dots_what_is_not_allowed() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    asked = replace(TARGET, cloud_budget="17kB")
    points = sweep(looping_program(), asked, Axis("link", 1e6, 1e12))
    draw_sweep(figure, "looping", Axis("link", 1e6, 1e12), points)
    (axes,) = figure.axes
    solid = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert np.isnan(solid["all-cloud"]).all()
    assert not np.isnan(solid["all-edge"]).any()
    top = axes.collections[-1].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(solid["chosen"].max())


def test_bad_sweeps_are_one_line(vlacut: Vlacut, onnx_file: Path, tmp_path: Path) -> None:
    words = ("plan", onnx_file, "--edge", TARGET.edge, "--cloud", TARGET.cloud, "--link", "1GB/s")
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,mbit_per_s\n0,8\n1,8\n")
    for more, message in (
        (("--sweep", "link=1"), "does not parse"),
        (("--plot", tmp_path / "x.svg"), "add --sweep"),
        (("--sweep", "link=1MB/s..2MB/s", "-p", "simplify"), "needs partition"),
        (("--sweep", "link=1MB/s..2MB/s", "--plot", tmp_path / "no" / "x.svg"), "cannot write"),
        (("--sweep", "link=1MB/s..2MB/s", "--plot", tmp_path / "x.xyz"), "must end in .eps"),
        (("--sweep", "link=1MB/s..2MB/s", "--pool", "block"), "leave --pool out"),
        (("--sweep", "link=1MB/s..2MB/s", "--candidates"), "leave --sweep out"),
        (("--sweep", "cloud-budget=1MB..2MB", "--cloud-budget", "1MB"), "leave that out"),
        (("--sweep", "link=1MB/s..2MB/s", "--link-trace", trace), "leave one out"),
        (("--link-trace", tmp_path / "none.csv"), "no bandwidth trace"),
    ):
        status, _, err = vlacut(*words, *more)
        assert status == 2
        assert message in err, err
        assert err.count("\n") == 1


def test_a_trace_takes_the_rates(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,mbit_per_s\n" + "".join(f"{at},{8 * at}\n" for at in range(101)))
    target = replace(TARGET, link_trace=str(trace), quantile=0.9)
    assert str(target.network()) == "10MB/s/20MB/s,0.01ms"  # 91 of the 101 are at least 10
    with pytest.raises(InputError, match="down for more than"):
        replace(target, quantile=1.0).network()
    with pytest.raises(HardwareError, match="must be above 0"):
        replace(target, quantile=0.0).network()
