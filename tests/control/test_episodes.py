"""Episodes: what a loop records comes back from the file, and other files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import Vlacut
from support.control import INPUTS, OBSERVATION, OUTPUT, TICK_NS, cycle_of
from support.deployments import serving_thread

from vlacut.api import serve
from vlacut.control.inferring.virtual import Course
from vlacut.control.recording.episodes import read_episodes, write_episodes
from vlacut.control.recording.recorder import Recorder
from vlacut.control.report import Route
from vlacut.control.timeline import TRACK, command_ages, command_slices
from vlacut.control.ways.chunk import ChunkReader, ChunkSpec
from vlacut.errors import InputError
from vlacut.runtime.edge.timeline import trace_json
from vlacut.tensor.npz import npz_bytes, read_npz


def recorded(path: Path, episodes: int = 2, most_bytes: int = 1 << 20) -> Recorder:
    """Some episodes of a cycle in virtual time, twenty ticks each."""
    reader = ChunkReader(ChunkSpec("action", switched=(2,)), OUTPUT, INPUTS, 0.05)
    recorder = Recorder(path, [Route("v0", "cut", "float32")], reader, 0.05, most_bytes)
    cycle = cycle_of(lambda *_: Course(0, 0.1))
    for tick in range(20 * episodes):
        now = (tick + 1) * TICK_NS
        if tick % 20 == 0:
            cycle.reset()
            recorder.reset()
        observation = {"image": np.full(4, tick, np.float32)}
        report = cycle.tick(observation, now, now - 7)
        recorder.tick(report, now - 7, observation, cycle.newest)
        recorder.sense([1.0, tick], None, [2.0], now)
    return recorder


def test_what_was_recorded_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "episodes.npz"
    recorded(path).write()
    read = read_episodes(path)
    assert read.bounds() == [(0, 20), (20, 40)]
    assert read.ticks == 40
    np.testing.assert_array_equal(read.observed(7)["image"], np.full(4, 7, np.float32))
    np.testing.assert_array_equal(read.captured_ns, read.tick_ns - 7)
    assert np.isnan(read.command[0]).all()
    played = read.inference >= 0
    chunk = {number: place for place, number in enumerate(read.chunk_number.tolist())}
    for tick in np.flatnonzero(played & ~read.starved):
        whole = read.chunk[chunk[int(read.inference[tick])]]
        np.testing.assert_array_equal(read.command[tick], whole[read.index[tick]])
    np.testing.assert_array_equal(read.q[:, 1], np.arange(40))
    assert np.isnan(read.qd).all()
    assert read.tau.shape == (40, 1)
    assert read.variants.tolist() == ["v0"]
    assert read.chunk_arrived_ns[0] - read.chunk_captured_ns[0] >= 2 * TICK_NS
    again = tmp_path / "again.npz"
    write_episodes(again, read)
    assert again.read_bytes() == path.read_bytes()


def test_a_recorder_that_is_full_says_so_and_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = recorded(tmp_path / "episodes.npz", most_bytes=10 * 16)
    assert caplog.text.count("no more is recorded") == 1
    assert recorder.episodes().ticks == 10


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("format", np.array(2)),
        ("tick_ns", np.zeros((2, 2))),
        ("captured_ns", np.zeros(3, int)),
        ("command", np.zeros((4, 2))),
        ("episode", np.array([0, 99])),
        ("chunk", np.zeros((9, 9))),
        ("chunk_variant", None),
        ("variants", np.array([1])),
        ("period_s", np.array(0.0)),
        ("observation/image", np.zeros(3)),
    ],
)
def test_files_that_are_none_are_refused(tmp_path: Path, name: str, array: Any) -> None:
    path = tmp_path / "episodes.npz"
    recorded(path).write()
    found = read_npz(path)
    if array is None:
        del found[name]
    else:
        found[name] = array
    path.write_bytes(npz_bytes(found))
    with pytest.raises(InputError, match="vlacut run --record"):
        read_episodes(path)
    path.write_text("no")
    with pytest.raises(InputError, match="cannot be read"):
        read_episodes(path)


def test_the_timeline_has_a_track_of_commands_and_their_ages() -> None:
    cycle = cycle_of(lambda *_: Course(0, 0.1))
    reports = [cycle.tick(OBSERVATION, i * TICK_NS, i * TICK_NS) for i in range(20)]
    trace = trace_json([], {TRACK: command_slices(reports)}, command_ages(reports))
    events = json.loads(trace)["traceEvents"]
    slices = [one for one in events if one["ph"] == "X"]
    assert [one["args"]["tick"] for one in slices] == list(range(2, 20))
    assert all(one["dur"] > 0 and one["name"].endswith("]") for one in slices)
    counters = [one for one in events if one["ph"] == "C"]
    assert [one["args"]["age ms"] for one in counters] == [
        pytest.approx(one["args"]["age_ms"]) for one in slices
    ]


def test_run_at_a_rate(vlacut: Vlacut, split_bundle: Path, tmp_path: Path) -> None:

    server = serve(split_bundle)
    cloud = "{}:{}".format(*server.address)
    episode, timeline = tmp_path / "episode.npz", tmp_path / "trace.json"
    with serving_thread(server):
        words = ["run", split_bundle, "--cloud", cloud, "--rate", 50, "--steps", 20]
        chunk = ["--chunk", "action,axis=1"]
        files = ["--record", episode, "--timeline", timeline]
        status, out, _ = vlacut(*words, *chunk, *files, "--json")
        assert status == 0
        loop = json.loads(out)["loop"]
        assert loop["ticks"] == loop["with_command"] == len(loop["commands"]) == 20
        assert loop["age_ms"]["p99"] > 0
        assert loop["commands"][0]["route"] == "cut"
        assert read_episodes(episode).ticks == 20
        names = {one["args"].get("name") for one in json.loads(timeline.read_text())["traceEvents"]}
        assert {"commands", "steps", "edge", "cloud"} <= names
        status, out, _ = vlacut(*words, *chunk, "--controller", "price")
        assert status == 0
        assert "20 ticks; age of their commands: mean" in out
        for more, said in (
            (["--controller", "risk"], "calibrate-actions"),
            (["--chunk", "acton"], "has no output"),
            (["--tables", tmp_path / "none.npz"], "cannot be read"),
            (["--record", tmp_path / "none" / "file.npz"], "there is no folder"),
        ):
            status, _, error = vlacut(*words, *chunk, *more)
            assert status == 2
            assert said in error
    assert vlacut("run", split_bundle, "--record", episode)[0] == 2
