"""`run --record`, and the page of a run."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from support.commands import Vlacut
from support.deployments import serving_thread

import vlacut as library
from vlacut.bundle.manifest import open_bundle
from vlacut.cli.building.report import report
from vlacut.cli.page.figures import page_json
from vlacut.cli.page.measured import MOST_SHOWN, run_json
from vlacut.cli.page.rerun import write_rerun
from vlacut.errors import InputError
from vlacut.runtime.edge.recorded import Run, read_run, run_bytes
from vlacut.tensor.npz import npz_bytes, read_npz


@pytest.fixture(scope="module")
def address(split_bundle: Path) -> str:
    with serving_thread(server := library.serve(split_bundle, port=0)):
        yield "{}:{}".format(*server.address)


@pytest.fixture
def recorded(vlacut: Vlacut, split_bundle: Path, address: str, tmp_path: Path) -> tuple[Path, dict]:
    words = ("--cloud", address, "--steps", 4, "--record", tmp_path / "r.npz")
    status, out, err = vlacut("run", split_bundle, *words, "--json")
    assert status == 0, err
    return tmp_path / "r.npz", json.loads(out)


def test_a_recorded_run_is_what_json_says(recorded: tuple[Path, dict]) -> None:
    file, printed = recorded
    run = read_run(file)
    for number, step in enumerate(printed["steps"]):
        assert run.latency_s[number] * 1e3 == pytest.approx(step["latency_ms"])
        assert run.age_s[number] * 1e3 == pytest.approx(step["age_ms"])
        assert run.variants[run.variant[number]] == step["variant"]
        assert run.source[number] == step["source"]
        spent = {**step["edge_ms"], **step["cloud_ms"]}
        parts = zip(run.parts.tolist(), (run.part_s[number] * 1e3).tolist(), strict=True)
        assert {name: ms for name, ms in parts if ms} == pytest.approx(spent)
        assert run.moved[number].tolist() == [step["bytes_up"], step["bytes_down"]]
        assert run.expected[number, 0] == pytest.approx(step["expected"]["up_bytes_per_s"])


def test_a_page_shows_a_run_beside_the_plan(
    vlacut: Vlacut, recorded: tuple[Path, dict], split_bundle: Path, tmp_path: Path
) -> None:
    file, printed = recorded
    words = ("report", split_bundle, "--run", file, "-o", tmp_path / "p.html")
    status, out, err = vlacut(*words, "--json")
    assert status == 0, err
    (data,) = json.loads(out)["bundles"]
    (one,) = data["run"]["variants"]
    latencies = [step["latency_ms"] for step in printed["steps"]]
    assert one["measured"]["latency_ms"] == pytest.approx(np.median(latencies))
    assert one["planned"]["latency_ms"] == data["strategies"][0]["latency_ms"]
    shares = ("edge_ms", "cloud_ms", "codec_ms", "network_ms")
    assert sum(one["planned"][key] for key in shares) >= one["planned"]["latency_ms"] * 0.999
    text = (tmp_path / "p.html").read_text()
    assert "A run of 4 steps" in text
    assert "Latency and age of the steps" in text


def longer(run: Run, steps: int) -> Run:
    """A run of more steps, by telling it again."""
    rows = np.arange(steps) % len(run.began_ns)
    again = {
        field.name: array[rows]
        for field in fields(run)
        if field.name not in ("variants", "parts")
        and isinstance(array := getattr(run, field.name), np.ndarray)
    }
    made = replace(run, **again)
    late = np.arange(steps) * 10_000_000
    began = run.began_ns[0] + late
    return replace(
        made,
        began_ns=began,
        returned_ns=began + (made.returned_ns - made.began_ns),
        captured_ns=began,
    )


def test_a_long_run_is_drawn_by_its_slowest_steps(
    recorded: tuple[Path, dict], split_bundle: Path, tmp_path: Path
) -> None:
    run = longer(read_run(recorded[0]), 50_000)
    run.returned_ns[777] += 5_000_000_000
    run.source[1000:2000] = "alone"
    bundle = open_bundle(split_bundle)
    data = run_json(bundle.plan, bundle.digest, run)
    assert len(data["over_time"]["s"]) == MOST_SHOWN
    assert max(data["over_time"]["latency_ms"]) == data["latency_ms"]["max"] > 5000
    assert data["sources"]["alone"] == 1000
    assert data["variants"][0]["made"] == 49_000
    found = report(tmp_path / "p.html", [bundle], run=run)
    assert found["bytes"] < 200_000
    assert 'class="fill-pool band"' in (tmp_path / "p.html").read_text()


def test_a_run_can_be_written_for_rerun(
    vlacut: Vlacut, recorded: tuple[Path, dict], split_bundle: Path, tmp_path: Path
) -> None:
    pytest.importorskip("rerun")
    words = ("report", split_bundle, "-o", tmp_path / "p.html", "--rerun", tmp_path / "r.rrd")
    status, _, err = vlacut(*words)
    assert (status, "give --run" in err) == (2, True)
    status, _, err = vlacut(*words, "--run", recorded[0])
    assert status == 0, err
    written = (tmp_path / "r.rrd").read_bytes()
    assert written[:3] == b"RRF"
    for name in (b"latency_ms", b"age_ms", b"up_mbyte_per_s", b"source"):
        assert name in written


def test_without_rerun_its_package_is_named(
    monkeypatch: pytest.MonkeyPatch, recorded: tuple[Path, dict], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(InputError, match="pip install 'vlacut"):
        write_rerun(tmp_path / "r.rrd", read_run(recorded[0]))
    assert not (tmp_path / "r.rrd").exists()


def test_a_run_of_another_bundle_is_refused(
    recorded: tuple[Path, dict], split_bundle: Path
) -> None:
    other = replace(read_run(recorded[0]), digest="00")
    with pytest.raises(InputError, match="record it again"):
        page_json(open_bundle(split_bundle), run=other)


def test_a_file_that_is_no_run_is_refused(recorded: tuple[Path, dict], tmp_path: Path) -> None:
    arrays = read_npz(recorded[0])
    cases = (
        ({"format": np.array(2)}, "another format"),
        ({"latency": np.zeros(1), "format": np.array([1, 1])}, "another format"),
        ({"variant": np.full(4, 9)}, "variant has another type"),
        ({"part_s": np.zeros((4, 9))}, "part_s has another type"),
        ({"reason": np.zeros(4)}, "reason has another type"),
        ({"expected": np.full((4, 3), np.nan)}, "expected has another type"),
        ({"began_ns": np.zeros((), np.int64)}, "has another type"),
    )
    for wrong, said in cases:
        (tmp_path / "w.npz").write_bytes(npz_bytes({**arrays, **wrong}))
        with pytest.raises(InputError, match=said):
            read_run(tmp_path / "w.npz")
    (tmp_path / "w.npz").write_bytes(npz_bytes({"format": np.array(1)}))
    with pytest.raises(InputError, match="holds no run"):
        read_run(tmp_path / "w.npz")
    (tmp_path / "w.npz").write_text("no")
    with pytest.raises(InputError, match="cannot be read"):
        read_run(tmp_path / "w.npz")
    again = read_run(recorded[0])
    (tmp_path / "w.npz").write_bytes(run_bytes(again))
    assert (tmp_path / "w.npz").read_bytes() == recorded[0].read_bytes()
