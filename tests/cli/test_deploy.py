"""`serve` and `run` as processes: keys, deadlines, kill -9 of either side, health, timelines."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.http import fetch
from support.proxy import Proxy, wait_until

import vlacut
from vlacut.runtime.edge.report import Source

VLACUT = [sys.executable, "-m", "vlacut"]

HEARS_INTERRUPTS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def serving(bundle: Path, *words: object) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A server, and what it says of itself; killed in the end."""
    command = [*VLACUT, "serve", str(bundle), "--port", "0", "--json", *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        try:
            yield child, json.loads(child.stdout.readline())
        finally:
            child.kill()


def run(*words: object) -> dict[str, Any]:
    """The object that a command prints with `--json`."""
    command = [*VLACUT, *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_keys_serve_run_with_tls_and_a_deadline(split_bundle: Path, tmp_path: Path) -> None:
    keys, timeline = tmp_path / "keys", tmp_path / "trace.json"
    made = run("keys", keys, "--robot", "arm")
    assert made["folders"] == [str(keys / name) for name in ("authority", "cloud", "arm")]
    words = ("--tls", keys / "cloud", "--metrics", "0", "--log-json")
    with serving(split_bundle, *words) as (child, said):
        ran = run(
            *("run", split_bundle, "--cloud", said["address"], "--tls", keys / "arm"),
            *("--steps", 3, "--deadline", "5s", "--timeline", timeline),
        )
        status, text = fetch(f"http://{said['metrics']}/metrics")
        assert (status, fetch(f"http://{said['metrics']}/healthz")) == (200, (200, "ok\n"))
        assert fetch(f"http://{said['metrics']}/")[0] == 404
        child.send_signal(signal.SIGTERM)
        _, log = child.communicate(timeout=20)
    assert child.returncode == 0
    assert said["robots"]["most"] == 64
    assert said["robots"]["bytes_each"] > ran["steps"][0]["bytes_up"]
    assert [step["source"] for step in ran["steps"]] == ["chosen"] * 3
    assert ran["max_abs_error"] == 0
    assert "vlacut_steps_total 3.0" in text
    assert 'vlacut_events_total{event="connected"} 1.0' in text
    up = sum(step["bytes_up"] for step in ran["steps"])
    assert float(re.findall(r'tensor_bytes_total{direction="up"} (\S+)', text)[0]) == up
    events = [json.loads(line) for line in log.splitlines()]
    assert [event["event"] for event in events] == ["connected", "left", "draining", "stopped"]
    assert [event["robot"].partition("@")[0] for event in events[:2]] == ["arm", "arm"]
    check_trace(json.loads(timeline.read_text()), ran["steps"])


def check_trace(trace: dict[str, Any], steps: list[dict[str, Any]]) -> None:
    events = trace["traceEvents"]
    tracks = {
        event["tid"]: event["args"]["name"].split()[0]
        for event in events
        if event["name"] == "thread_name"
    }
    shown = [event for event in events if event["ph"] == "X"]
    assert {tracks[event["tid"]] for event in shown} == set(tracks.values())
    whole = [event for event in shown if tracks[event["tid"]] == "steps"]
    assert [event["dur"] for event in whole] == pytest.approx(
        [step["latency_ms"] * 1e3 for step in steps], rel=1e-3
    )
    spent = sum(event["dur"] for event in shown if tracks[event["tid"]] == "cloud")
    assert spent == pytest.approx(1e3 * sum(sum(s["cloud_ms"].values()) for s in steps), rel=1e-3)


def test_kill_9_of_the_cloud(split_bundle: Path) -> None:
    """The robot repeats its last action while there is no cloud, and goes on with the next."""
    with Proxy(("127.0.0.1", 9)) as proxy:
        with serving(split_bundle) as (child, said):
            proxy.target = address(said)
            policy = vlacut.connect(split_bundle, f"127.0.0.1:{proxy.address[1]}", deadline=0.5)
            observed = policy.bundle.golden("observation")
            golden = policy.bundle.golden("action")
            check(policy.step(observed), golden)
            child.kill()
            child.wait()
        check(policy.step(observed), golden)
        assert policy.last.source is Source.STALE
        with serving(split_bundle) as (_, said):
            proxy.target = address(said)

            def made_anew() -> bool:
                check(policy.step(observed), golden)
                return policy.last.source is Source.CHOSEN

            assert wait_until(made_anew)
            policy.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_says_so_and_leaves_its_timeline(
    split_bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with serving(split_bundle, "--log-json", "--metrics", 0) as (child, said):
        words = ["run", str(split_bundle), "--cloud", said["address"], "--steps", "1000000"]
        command = [*VLACUT, *words, "--timeline", str(tmp_path / "t.json"), "--json"]
        # Under `nohup` or `&` tests inherit an ignored SIGINT, and would hand it on.
        with subprocess.Popen(
            [sys.executable, "-c", HEARS_INTERRUPTS, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as robot:
            assert child.stderr is not None
            assert json.loads(child.stderr.readline())["event"] == "connected"
            url = f"http://{said['metrics']}/metrics"
            # Ten are over on the robot too once the cloud has ended eleven.
            done = re.compile(r"^vlacut_steps_total (\S+)$", re.MULTILINE)
            assert wait_until(lambda: float(done.findall(fetch(url)[1])[0]) > 10)
            robot.send_signal(number)
            out, err = robot.communicate(timeout=30)
        assert json.loads(child.stderr.readline())["event"] == "left"
    assert robot.returncode == 1
    assert json.loads(out) == {
        "error": {"kind": "Interrupted", "message": "interrupted; nothing was half-written"}
    }
    assert err.strip() == "vlacut: interrupted; nothing was half-written"
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_kill_9_of_a_robot(split_bundle: Path) -> None:
    """Its session ends, and the next robot is served."""
    words = ("--robots", "1", "--log-json")
    with serving(split_bundle, *words) as (child, said):
        robot = [
            *VLACUT,
            "run",
            str(split_bundle),
            "--cloud",
            said["address"],
            "--steps",
            "1000000",
        ]
        with subprocess.Popen(robot, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
            assert child.stderr is not None
            assert json.loads(child.stderr.readline())["event"] == "connected"
            one.kill()
        assert json.loads(child.stderr.readline())["event"] in ("lost", "left")
        assert run("run", split_bundle, "--cloud", said["address"])["max_abs_error"] == 0


def address(said: dict[str, Any]) -> tuple[str, int]:
    host, _, port = str(said["address"]).partition(":")
    return host, int(port)


def check(action: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        np.testing.assert_array_equal(action[name], array)
