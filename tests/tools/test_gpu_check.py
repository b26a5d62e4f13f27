"""`tools/gpu_check.py`: what it skips and why, and the same code on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.scripts import load

from vlacut.hardware.driver import seen_driver


def test_without_a_gpu_every_way_is_skipped_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if seen_driver() is not None:
        pytest.skip("this machine has an NVIDIA driver: run the script")
    script = load("gpu_check.py", monkeypatch)
    found = list(script.check(["vit-mlp"], script.WAYS, "a100", 1))
    assert len(found) == len(script.WAYS)
    assert all(ran.why_not and not ran.passed for ran in found)
    script.write(tmp_path / "out.json", script.Found(found))
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["gpus"] == []
    assert len(data["ran"]) == len(found)
    assert "skipped" in (tmp_path / "out.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("way", [("torch", "cpu"), ("onnxruntime", "cpu")])
def test_on_the_cpu_it_runs_a_model(
    way: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = load("gpu_check.py", monkeypatch)
    trace = tmp_path / "trace.json"
    (ran,) = script.check(["vit-mlp"], (way,), "a100", 6, trace)
    assert ran.why_not == ""
    assert ran.passed
    assert ran.error <= ran.allowed
    assert ran.step_ms > ran.engines_ms > 0
    steps = [one for one in json.loads(trace.read_text())["traceEvents"] if one["ph"] == "X"]
    assert sum(one["name"].startswith("step ") for one in steps) == 6


def test_all_of_it_is_skipped_with_a_reason_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if seen_driver() is not None:
        pytest.skip("this machine has an NVIDIA driver: run the script")
    script = load("gpu_check.py", monkeypatch)
    out = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["gpu_check.py", "--out", str(out), "--models", "vit-mlp"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 0
    data = json.loads(out.read_text())
    assert {*data["skipped"]} == {"full size", "calibration"}
    assert "sees no GPU" in data["skipped"]["calibration"]
    assert "## Skipped" in out.with_suffix(".md").read_text()


@pytest.mark.slow
def test_the_whole_list_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a GPU, at a tiny size: every section has its rows in the JSON and on the page."""
    script = load("gpu_check.py", monkeypatch)
    out = tmp_path / "out.json"
    asked = ["--cpu", "--models", "vit-mlp", "--full-size", "openvla:tiny", "--steps", "4"]
    monkeypatch.setattr("sys.argv", ["gpu_check.py", "--out", str(out), *asked, "--turns", "1"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 0
    data, page = json.loads(out.read_text()), out.with_suffix(".md").read_text()
    assert data["skipped"] == {}
    assert [row["executor"] for row in data["ran"]] == ["torch cpu", "onnxruntime cpu"]
    whole, cut, *decoding = data["full_size"]
    assert (whole["what"], cut["what"]) == ("whole", "backbone-in-cloud")
    assert [row["what"].partition(", ")[2] for row in decoding] == [
        f"{robots} at once" for robots in (1, 2, 4, 8)
    ]
    assert whole["weights"] == cut["weights"] > 1e6
    assert all(row["ms"] > 0 and row["price_ms"] > 0 for row in data["full_size"])
    assert data["calibration"]["graphs"] > 200
    assert data["calibration"]["unseen"]
    assert (tmp_path / data["timeline"]).exists()
    for title in ("Tiny models", "Full size", "Calibration", "Timeline"):
        assert f"## {title}" in page
