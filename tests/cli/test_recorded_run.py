"""`run --record`, and the page of a run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from dataclasses import fields, replace
from html import unescape
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from support.commands import Vlacut
from support.deployments import serving_thread

import vlacut as library
from vlacut.bundle.reading import open_bundle
from vlacut.cli.building.report import report
from vlacut.cli.page.figures import page_json
from vlacut.cli.page.measured import MOST_SHOWN, run_json
from vlacut.cli.page.rerun import write_rerun
from vlacut.cli.show.output import milliseconds
from vlacut.errors import InputError
from vlacut.runtime.edge.recorded import Run, read_run, run_bytes
from vlacut.runtime.edge.timeline_run import read_timeline
from vlacut.tensor.npz import npz_bytes, read_npz


@pytest.fixture(scope="module")
def address(split_bundle: Path) -> str:
    with serving_thread(server := library.serve(split_bundle, port=0)):
        yield "{}:{}".format(*server.address)


@pytest.fixture
def recorded(vlacut: Vlacut, split_bundle: Path, address: str, tmp_path: Path) -> tuple[Path, dict]:
    words = ("--cloud", address, "--steps", 4, "--record", tmp_path / "r.npz")
    words += ("--timeline", tmp_path / "t.json")
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
    read = " ".join(re.sub("<.*?>", " ", text).split())
    for key, planned in one["planned"].items():
        numbers = (milliseconds(ms / 1e3) for ms in (one["measured"][key], planned))
        assert f"{one['name']} {key.removesuffix('_ms')} {' '.join(numbers)}" in read
    spread = milliseconds(data["run"]["latency_ms"]["p99"] / 1e3)
    assert f"in the median, {spread} ms at 99 %" in read
    assert "uPlot 1.6.32" in text
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert (len(scripts), len(styles)) == (2, 2)
    (allowed,) = re.findall(r'Security-Policy" content="(.*?)"', text)
    wanted = f"default-src 'none'; style-src {hashes(styles)}; script-src {hashes(scripts)}"
    assert unescape(allowed) == wanted


def hashes(texts: list[str]) -> str:
    digests = (hashlib.sha256(one.encode()).digest() for one in texts)
    return " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)


def test_uplot_is_that_of_its_package() -> None:
    """The files of npm's uplot 1.6.32, MIT, with its licence beside them."""
    folder = files("vlacut.cli.page").joinpath("uplot")
    digests = {
        "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    }
    assert {one.name for one in folder.iterdir()} == digests.keys()
    for name, digest in digests.items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest, name
    assert "The MIT License" in folder.joinpath("LICENSE").read_text()


def test_a_timeline_says_what_a_recorded_run_says(
    vlacut: Vlacut, recorded: tuple[Path, dict], split_bundle: Path, tmp_path: Path
) -> None:
    run, timeline = read_run(recorded[0]), tmp_path / "t.json"
    for name, array in vars(read_timeline(timeline)).items():
        expected = getattr(run, name)
        if isinstance(array, np.ndarray) and array.dtype.kind in "if":
            np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-9, err_msg=name)
        else:
            assert np.array_equal(array, expected), name
    words = ("report", split_bundle, "-o", tmp_path / "p.html", "--json")
    pages = []
    for option, file in (("--run", recorded[0]), ("--timeline", timeline)):
        status, out, err = vlacut(*words, option, file)
        assert status == 0, err
        pages.append(json.loads(out)["bundles"][0]["run"])
    assert pages[0]["variants"][0]["measured"] == pytest.approx(pages[1]["variants"][0]["measured"])
    assert pages[0]["steps"] == pages[1]["steps"] == 4
    status, _, err = vlacut(*words, "--run", recorded[0], "--timeline", timeline)
    assert (status, "give one of them" in err) == (2, True)


def test_a_file_that_is_no_timeline_is_refused(recorded: tuple[Path, dict], tmp_path: Path) -> None:
    trace = json.loads((tmp_path / "t.json").read_text())
    step = next(one for one in trace["traceEvents"] if "part_ms" in one.get("args", {}))

    def without(key: str) -> dict:
        events = [
            {**one, "args": {name: v for name, v in one["args"].items() if name != key}}
            for one in trace["traceEvents"]
        ]
        return {**trace, "traceEvents": events}

    strange = {**step, "args": {**step["args"], "variant": "?"}}
    for wrong, said in (
        ("{", "cannot be read"),
        ("[]", "holds no steps"),
        ("[" * 100_000, "cannot be read"),
        (json.dumps({**trace, "otherData": 1}), "holds no steps"),
        (json.dumps({**trace, "traceEvents": [{}]}), "holds no steps"),
        (json.dumps({**trace, "traceEvents": []}), "has another type or shape"),
        (json.dumps({**trace, "traceEvents": [*trace["traceEvents"], strange]}), "holds no steps"),
        (json.dumps(without("part_ms")), "holds no steps"),
        (json.dumps({**trace, "otherData": {**trace["otherData"], "parts": [1]}}), "another type"),
    ):
        (tmp_path / "w.json").write_text(wrong)
        with pytest.raises(InputError, match=said):
            read_timeline(tmp_path / "w.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_timeline(tmp_path / "none.json")


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
    run = read_run(recorded[0])
    for wrong in ({"digest": "00"}, {"parts": run.parts + "?"}, {"variants": run.variants + "?"}):
        with pytest.raises(InputError, match="record it again"):
            page_json(open_bundle(split_bundle), run=replace(run, **wrong))


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
