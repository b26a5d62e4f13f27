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
    script.write(tmp_path / "out.json", found)
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["gpus"] == []
    assert len(data["ran"]) == len(found)
    assert "skipped" in (tmp_path / "out.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("way", [("torch", "cpu"), ("onnxruntime", "cpu")])
def test_on_the_cpu_it_runs_a_model(way: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("gpu_check.py", monkeypatch)
    (ran,) = script.check(["vit-mlp"], (way,), "a100", 4)
    assert ran.why_not == ""
    assert ran.passed
    assert ran.error <= ran.allowed
    assert ran.step_ms > 0
