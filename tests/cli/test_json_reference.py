"""`vlacut/cli/README.md` lists what every command prints with --json; `pytest --bless` rewrites it.

The list is made of what commands print here, a line a value. What stands behind a `#` is written by
hand, and kept. Commands that take minutes are given what they measure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from support import onnx_text
from support.commands import Vlacut
from support.precisions import policy, slow_memory
from support.readme import ROOT
from support.shapes import shape_of

from vlacut import registry
from vlacut.bundle.engine_records import BuildRecord, BuiltPart, EngineRecord
from vlacut.cli.building.build import record_json
from vlacut.cli.commands import vlacut as commands
from vlacut.cli.deploying.cluster import servers_json
from vlacut.hardware import Side
from vlacut.runtime.cloud.directory import Standing

README = ROOT / "vlacut" / "cli" / "README.md"
MODEL = "vit-mlp:tiny"
TARGET = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "20MB/s,0.1ms")
POOL = ("--pool", "portfolio:1MB", "--bandwidth", "1MB/s-1GB/s")
# Objects whose keys are names of the user's, or of plug-ins.
MAPS = frozenset(
    [
        "pass_s",
        "stage_s",
        "edge_ms",
        "cloud_ms",
        "device_ms",
        "action",
        "recipe",
        "tools",
        "phases",
        "about",
        "scores",
        "peak",
        "files",
        "operators",
        "reasons",
        "source",
        "sources",
        "silent",
    ]
)
_LINE = re.compile(r"^(\S+) +([^#\n]*?) *(?:# (.*))?$", re.MULTILINE)
_BLOCK = re.compile(r"^### ([^\n]+)\n\n```text\n(.*?)```\n", re.MULTILINE | re.DOTALL)
# Their objects are made in the tests of what they measure.
ELSEWHERE = {
    "calibrate",
    "calibrate-actions",
    "calibrate-draft",
    "calibrate-precision",
    "completion",
}


def objects(vlacut: Vlacut, folder: Path) -> Iterator[tuple[str, list[Any]]]:
    """Commands, and what each printed in several ways of asking."""

    def printed(*words: object, status: int = 0) -> Any:
        ended, out, err = vlacut(*words, "--json")
        assert ended == status, err
        return json.loads(out)

    made = printed("compile", MODEL, *TARGET, *POOL, "-o", "b")
    coded = ("--codecs", "int8", "--max-action-error", "0.01", "--minimise", "energy")
    calibrated = _calibrated(folder / "calibrated")
    yield (
        "plan",
        [
            printed("plan", MODEL, *TARGET, *coded),
            (planned := printed("plan", MODEL, *TARGET, *POOL, "--candidates")),
            printed("plan", _remembers(folder / "remembers"), *TARGET),
            printed("plan", *calibrated),
            printed("plan", *_precise(folder / "precise")),
            printed("plan", *_loops(folder / "loops")),
        ],
    )
    sweep = ("--sweep", "link=0.1MB/s..1GB/s", "--deadline", "0.8ms")
    yield "plan --sweep", [printed("plan", MODEL, *TARGET, *sweep)]
    yield "compile, beside what plan has", [_without(made, planned)]
    yield "opt", [printed("opt", MODEL, "-p", "simplify")]
    inspected = printed("inspect", "b")
    yield "inspect, beside what plan has", [_without(inspected, planned)]
    printed("compile", *calibrated, "-o", "c")
    yield "verify", [printed("verify", "b"), printed("verify", "c")]
    yield (
        "check",
        [
            printed("check", "b", "--no-build"),
            printed("check", "b", "--no-build", "--dla", status=1),  # it finds something
        ],
    )
    yield "doctor", [printed("doctor"), printed("doctor", "b")]
    yield "bundle", [printed("bundle", "edge", "b", "-o", "robot")]
    (folder / "watched").mkdir()
    yield "rollout", [printed("rollout", "b", "watched")]
    yield "cluster up", [servers_json([Standing("10.0.0.5:7000", frozenset(), 0, 64, 0.0)])]
    yield "build", [record_json(_record())]
    server, address = _served()
    try:
        yield "serve", [address]
        yield "status", [printed("status", address["metrics"])]
        listed = f'address = "{address["address"]}"\nmetrics = "{address["metrics"]}"\n'
        silent = 'address = "127.0.0.1:1"\nmetrics = "127.0.0.1:1"\n'
        (folder / "cluster.toml").write_text(f"[[workers]]\n{listed}[[workers]]\n{silent}")
        yield "cluster haproxy", [printed("cluster", "haproxy", "cluster.toml")]
        where = ("--cloud", address["address"], "--deadline", "10s")
        yield "run", [printed("run", "b", *where, "--steps", 2, "--record", "r.npz")]
        looped = printed("run", "b", *where, "--rate", 50, "--steps", 5)
        yield "run --rate, beside steps", [_without(looped, {"steps": []})]
    finally:
        server.terminate()
        server.communicate(timeout=20)
    _write_trace(folder / "drive.csv", 5)
    short = ("--trace", "drive.csv", "--selector", "argmin")
    yield "simulate", [printed("simulate", "b", *short, "--deadline", "1ms")]
    yield "twin", [printed("twin", "b", *short, "--steps", 2)]
    for index in range(4):
        _write_trace(folder / "traces" / f"{index}.csv", 1200)
    trained = printed("train-predictor", "traces", "-o", "lstm.npz", "--epochs", 1)
    yield "train-predictor", [trained]
    outcomes = "".join(f"{episode},1\n" for episode in range(99))
    (folder / "a.csv").write_text(f"episode,success\n{outcomes}")
    yield (
        "accept",
        [
            printed("accept", "a.csv", "a.csv"),
            printed("accept", "a.csv", "a.csv", "--most-lost", 0.01, status=1),
        ],
    )
    yield "keys", [printed("keys", "KEYS", "--signer")]
    yield "sign", [printed("sign", "b", "--key", "KEYS/signer/key.pem")]
    yield "explain", [printed("explain", MODEL)]
    yield "cache", [printed("cache")]
    yield "cache --clear", [printed("cache", "--clear")]
    yield "devices", [printed("devices")]
    yield "models", [printed("models")]
    yield "profile", [printed("profile", "b", "--side", "edge", "--turns", 3, "-o", "c.json")]
    reported = printed("report", "b", "-o", "b.html", "--costs", "c.json", "--run", "r.npz")
    each = [_without(one, inspected) for one in reported["bundles"]]
    yield "report, each bundle beside what inspect has", [{**reported, "bundles": each}]
    yield "any command that fails", [printed("plan", MODEL, status=2)]


def _calibrated(folder: Path) -> tuple[object, ...]:
    """A policy whose observation is coded, and observations that calibrate that."""
    folder.mkdir()
    body = "f (float[1, 64] x) => (float[1, 64] y) { y = Tanh(x) }"
    model = onnx_text.write(folder / "f.onnx", body)
    numbers = np.random.default_rng(0)
    seen = numbers.standard_normal((40, 1, 64)).astype(np.float32)
    np.savez(folder / "seen.npz", x=seen)
    target = (*TARGET[:4], "--link", "10kB/s,1ms", "--pin", "*=cloud", "--codecs", "int8")
    return model, *target, "--calibration", folder / "seen.npz"


def _precise(folder: Path) -> tuple[object, ...]:
    """A policy that a robot with slow memory has in two precisions."""
    folder.mkdir()
    body = "f (float[1, 64] x) => (float[1, 64] y) { y = MatMul(x, w) }"
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    model = onnx_text.write(folder / "f.onnx", body, {"w": weights})
    target = ("--edge", slow_memory(folder), *TARGET[2:], "--pin", "*=edge")
    return model, *target, "--precisions", "int4"


def _loops(folder: Path) -> tuple[object, ...]:
    """A policy whose requests may overlap, and how to ask for that."""
    folder.mkdir()
    policy(folder)
    edge = slow_memory(folder)
    return folder, "--edge", edge, *TARGET[2:], "--pin", "*=edge", "--in-flight", "auto"


def _remembers(folder: Path) -> Path:
    """A policy with state."""
    folder.mkdir()
    body = "f (float[1, 8] x, float[1, 8] old) => (float[1, 8] y) { y = Add(x, old) }"
    onnx_text.write(folder / "f.onnx", body)
    phase = '[[phase]]\nname = "f"\nfile = "f.onnx"\n'
    (folder / "program.toml").write_text(f'outputs = ["y"]\nstate = {{ y = "old" }}\n{phase}')
    return folder


def _without(more: dict[str, Any], less: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in more.items() if key not in less}


def _record() -> BuildRecord:
    """A build's record, as a machine with TensorRT writes it."""
    engine = EngineRecord(
        *(1, "policy.0", "Orin", "TensorRT 10.3.0", "python", {"sm": "87"}, 1, "0", 1.0, 1, 1),
        *("golden", 0.0, 0.0, 1.0, True),
    )
    part = BuiltPart("policy.0", "0", True, engine)
    return BuildRecord(
        format=1, bundle="b", program="p", side=Side.EDGE, device="Orin",
        software="TensorRT 10.3.0", folder="engines", seconds=1.0, parts=(part,),
    )  # fmt: skip


def _served() -> tuple[subprocess.Popen[str], dict[str, Any]]:
    words = [
        sys.executable,
        "-m",
        "vlacut",
        "serve",
        "b",
        "--port",
        "0",
        "--metrics",
        "0",
        "--json",
    ]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    return server, json.loads(server.stdout.readline())


def _write_trace(file: Path, samples: int) -> None:
    file.parent.mkdir(exist_ok=True)
    rates = np.random.default_rng(samples).lognormal(2, 0.3, samples)
    rows = (f"{step / 10:.1f},{rate:.4f}" for step, rate in enumerate(rates))
    file.write_text("\n".join(("time_s,mbit_per_s", *rows)))


def test_the_reference_is_what_commands_print(
    vlacut: Vlacut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.chdir(tmp_path)
    names = registry.names
    small = {"models": ("vit-mlp",)}  # outlining all takes a minute
    monkeypatch.setattr(registry, "names", lambda group: small.get(group) or names(group))
    found = {title: shape_of(data, MAPS) for title, data in objects(vlacut, tmp_path)}
    text = README.read_text()
    written = {title: _LINE.findall(body) for title, body in _BLOCK.findall(text)}
    if pytestconfig.getoption("--bless"):
        README.write_text(_blessed(text, found, written))
        return
    listed = {title: {path: kind for path, kind, _ in lines} for title, lines in written.items()}
    for title, shape in found.items():
        assert listed.get(title, {}).keys() == shape.keys(), f"{title}: pytest --bless rewrites it"
        for path, kind in shape.items():
            assert _fits(kind, listed[title][path]), f"{title}: {path} is {kind} here"


def _fits(kind: str, listed: str) -> bool:
    """Whether a type is one of those listed; what is null hangs on the run."""
    return kind in ("null", "list") or {*kind.split(" or ")} - {"null"} <= {*listed.split(" or ")}


def _blessed(text: str, found: dict[str, Any], written: dict[str, Any]) -> str:
    made = []
    for title, shape in found.items():
        lines = written.get(title, ())
        notes = {path: note for path, _, note in lines}
        null = {path for path, kind, _ in lines if "null" in kind.split(" or ")}
        wide = max(map(len, shape), default=0)
        lines = [
            f"{path:{wide}}  {_or_null(kind, path in null):14}  # {notes.get(path, '')}"
            for path, kind in shape.items()
        ]
        body = "\n".join(line.removesuffix("# ").rstrip() for line in lines)
        made.append(f"### {title}\n\n```text\n{body}\n```\n")
    before, _, rest = text.partition("<!-- made by tests/cli/test_json_reference.py -->\n")
    after = rest.partition("<!-- end of what is made -->\n")[2]
    body = "\n".join(made)
    return (
        f"{before}<!-- made by tests/cli/test_json_reference.py -->\n\n{body}\n"
        f"<!-- end of what is made -->\n{after}"
    )


def _or_null(kind: str, null: bool) -> str:
    """What was null in some run stays so in the list."""
    return " or ".join(sorted({*kind.split(" or "), *(["null"] if null else [])}))


def test_every_command_is_listed() -> None:
    titles = {
        title.partition(" ")[0].rstrip(",") for title, _ in _BLOCK.findall(README.read_text())
    }
    assert set(commands.list_commands(click.Context(commands))) <= titles | ELSEWHERE
