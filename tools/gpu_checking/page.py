"""What was found: for programs as one JSON object, for people as lines and a page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpu_checking.tiny_models import Ran
from vlacut.hardware.driver import seen_driver


@dataclass
class Found:
    """All that the check found.

    Attributes:
        ran: models by executors.
        full_size: rows of `full_size`.
        calibration: of `calibration`; None where it did not run.
        skipped: sections that did not run, with the reason.
        timeline: file of the steps of the first model; empty without one.
    """

    ran: list[Ran] = field(default_factory=list)
    full_size: list[Any] = field(default_factory=list)
    calibration: Any = None
    skipped: dict[str, str] = field(default_factory=dict)
    timeline: str = ""


def write(out: Path, found: Found, model: str = "openvla") -> None:
    """The JSON object, and the page beside it."""
    driver = seen_driver()
    gpus = [asdict(gpu) for gpu in driver.gpus] if driver else []
    told = ", ".join(gpu.name for gpu in driver.gpus) if driver else "no NVIDIA driver"
    data = {"gpus": gpus, "cuda": driver.release if driver else "", **asdict(found)}
    out.write_text(json.dumps(data, indent=1) + "\n")
    sections = {
        "Tiny models": [line(ran) for ran in found.ran],
        "Full size": [size_line(model, row) for row in found.full_size],
        "Calibration": [calibration_line(found.calibration)] if found.calibration else [],
        "Skipped": [f"{name}: {reason}" for name, reason in found.skipped.items()],
        "Timeline": [f"{found.timeline}, for ui.perfetto.dev"] if found.timeline else [],
    }
    text = f"# What ran on this machine\n\nGPU: {told}\n"
    for title, lines in sections.items():
        if lines:
            text += f"\n## {title}\n\n" + "".join(f"    {one}\n" for one in lines)
    out.with_suffix(".md").write_text(text)


def line(ran: Ran) -> str:
    """For people."""
    where = f"{ran.executor:22} {ran.model:14}"
    if ran.why_not:
        return f"{where} skipped: {ran.why_not}"
    verdict = "within" if ran.passed else "DIFFERS"
    return (
        f"{where} {verdict} {ran.error:.2g} of {ran.allowed:.2g}; step {ran.step_ms:.2f} ms, "
        f"{ran.step_ms - ran.engines_ms:.2f} beyond its engines; price {ran.price_ms:.2f}"
    )


def size_line(model: str, row: Any) -> str:
    """Of a model at full size, for people."""
    device = f", {row.engines_ms:.2f} on the device" if row.engines_ms else ""
    off = row.price_ms / (row.engines_ms or row.ms) - 1
    return (
        f"{model} {row.what}: {row.ms:.2f} ms{device}; price {row.price_ms:.2f}, {off:+.0%}; "
        f"{row.weights / 1e9:.3g} GB of weights"
    )


def calibration_line(found: Any) -> str:
    """Of a calibration, for people."""
    return (
        f"calibration by {found.backend}: {found.graphs} graphs, median error of the fit "
        f"{found.fit_error:.1%}; {len(found.unseen)} parts it never saw: {found.said}"
    )
