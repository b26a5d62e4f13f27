"""Calibration of action errors: tables from scripted episodes, and from a bundle's own."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arm import TICK_S, chunks_of, episodes_of, script
from support.commands import Vlacut
from support.cutting import Reference
from support.deployments import serving_thread
from support.fake_machine import remembering
from support.programs import TARGET, looping_program

from vlacut.api import serve
from vlacut.compiler.driver import compile_program
from vlacut.control.recording.episodes import read_episodes
from vlacut.control.recording.replay import fit_motion, held_out
from vlacut.control.recording.staleness import ahead_of, ranges, staleness, variation
from vlacut.control.tables import read_tables, write_tables
from vlacut.control.ways.chunk import ChunkReader, parse_chunk
from vlacut.errors import InputError, unwatched
from vlacut.measurement.actions.binning import by_bin, conformal_quantile, edges_of
from vlacut.measurement.actions.calibrating import fit_tables
from vlacut.measurement.actions.chunks import Inferences
from vlacut.measurement.actions.fitting import auc, fit_logistic, threshold_of
from vlacut.tensor import TensorSpec

LENGTH = 16


def reader() -> ChunkReader:
    output = TensorSpec("action", "float64", (1, LENGTH, 8))
    return ChunkReader(parse_chunk("action,switched=7"), output, {}, TICK_S)


def test_staleness_is_the_old_chunk_s_command_against_the_new_one_s() -> None:
    chunks = np.random.default_rng(0).standard_normal((9, 4, 2))
    scale = np.array([1.0, 2.0])
    errors = staleness(chunks, scale, [(0, 5), (5, 9)], 1.0)
    assert errors[0].tolist()[0] == 0.0
    assert np.isnan(errors[0, 1:]).all()
    assert np.isnan(errors[5, 1:]).all()  # of another episode
    for tick, late in ((3, 1), (4, 3), (8, 2)):
        apart = np.abs(chunks[tick - late, late] - chunks[tick, 0]) / scale
        assert errors[tick, late] == pytest.approx(apart.mean())
    slower = staleness(chunks, scale, [(0, 9)], 2.0)  # a command lasts two ticks
    apart = np.abs(chunks[4, 1] - chunks[6, 0]) / scale
    assert slower[6, 2] == pytest.approx(apart.mean())
    moves = variation(chunks, scale, [(0, 5), (5, 9)])
    assert moves.shape == (7, 3)
    assert moves[0, 0] == pytest.approx((np.abs(chunks[0, 1] - chunks[1, 0]) / scale).mean())
    worst = ahead_of(errors, 1, 2, [(0, 5), (5, 9)])
    assert worst[1] == np.nanmax(errors[1:4, 1])
    assert worst[4] == errors[4, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.sampled_from((0.1, 0.3)))
def test_a_conformal_quantile_is_rarely_exceeded(errors: list[float], alpha: float) -> None:
    """Each of m + 1 exchangeable errors is above that of the others in at most alpha of the cases,
    where there are enough of them.
    """
    array = np.array(errors)
    beyond = [
        array[place] > conformal_quantile(np.delete(array, place), alpha)
        for place in range(len(array))
    ]
    if len(errors) > 1 / alpha:
        assert np.mean(beyond) <= alpha + 1e-9


def test_tables_do_not_fall_with_the_risk() -> None:
    numbers = np.random.default_rng(1)
    errors, bins = numbers.random(600), numbers.integers(0, 3, 600)
    assert (np.diff(by_bin(errors, bins, 3, 0.1)) >= 0).all()
    assert len(edges_of(numbers.random(250))) == 1  # of a half each, and so on
    assert len(edges_of(numbers.random(90))) == 0
    assert len(edges_of(numbers.random(5000))) == 5


def test_the_logistic_model_finds_what_tells() -> None:
    numbers = np.random.default_rng(2)
    features = numbers.standard_normal((800, 21))
    truth = 2.0 * features[:, 3] - 1.5 * features[:, 7] - 1
    critical = numbers.random(800) < 1 / (1 + np.exp(-truth))
    model = fit_logistic(features, critical)
    assert auc(model.risk(features), critical) > 0.85
    order = np.argsort(-np.abs(model.weights))
    assert set(order[:2].tolist()) == {3, 7}
    assert fit_logistic(features, np.zeros(800, bool)).risk(features).max() < 0.05
    assert auc(np.zeros(4), np.array([True, False, True, False])) == 0.5
    assert math.isnan(auc(np.zeros(2), np.ones(2, bool)))


def test_a_threshold_is_reached_by_the_runs_it_was_promised_for() -> None:
    numbers = np.random.default_rng(3)
    reached = []
    for _ in range(60):
        critical = np.zeros(400, bool)
        for start in range(0, 400, 10):
            critical[start : start + 3] = True
        scores = numbers.random(400) + critical * numbers.random(400)
        threshold, _ = threshold_of(scores[:200], critical[:200])
        tops = scores[200:].reshape(20, 10)[:, :3].max(axis=1)
        reached.append((tops >= threshold).mean())
    assert np.mean(reached) >= 0.95 - 0.02
    assert threshold_of(np.ones(3), np.zeros(3, bool))[0] == math.inf


def test_the_scale_of_scores_is_that_of_the_joints() -> None:
    episodes, _ = episodes_of(range(3))
    scale = fit_motion(episodes)
    accelerations = np.diff(episodes.qd, axis=0) * 500
    np.testing.assert_allclose(scale.acceleration, 1 / accelerations.std(axis=0), rtol=1e-3)
    assert scale.acceleration_floor > 0
    assert scale.torque_floor > 0
    assert scale.speed == pytest.approx(np.median(np.linalg.norm(episodes.qd, axis=1)))


def test_scripted_episodes(tmp_path: Path) -> None:
    """The learnt risk beats RAPID's score on episodes it has not seen, the variant that errs has
    its error in the tables, and both are larger where it is risky.
    """
    episodes, chunks = episodes_of(range(16))
    numbers = np.random.default_rng(0)
    count = len(range(0, episodes.ticks, 5))
    scale = ranges(chunks)
    apart = np.stack((np.abs(numbers.normal(0, 0.02, (count, 8))) * scale, np.zeros((count, 8))))
    tables, worth = fit_tables(episodes, reader(), chunks, ["edge", "cut"], apart, 5)
    assert worth.auc["risk"] > 0.8 > worth.auc["importance"]
    assert 0.3 < worth.redundant < 1
    assert tables.e_stale[8, -1] > 2 * tables.e_stale[8, 0] + 0.01
    assert 0.005 < tables.e_variant[0, -1] < 0.05
    assert (tables.e_variant[1] == 0).all()
    assert (np.diff(tables.e_stale, axis=0) >= 0).all()
    assert (tables.eps >= 0.01).all()
    assert held_out(episodes).sum() < episodes.ticks / 2
    write_tables(tmp_path / "a.npz", tables)
    assert read_tables(tmp_path / "a.npz").stale(0, 0.4) == tables.stale(0, 0.4)
    again, _ = fit_tables(episodes, reader(), chunks, ["edge", "cut"], apart, 5, eps=0.2)
    assert (again.eps == 0.2).all()


def test_a_new_episode_s_errors_are_within_the_tables_as_promised() -> None:
    episodes, chunks = episodes_of(range(20))
    apart = np.zeros((1, len(range(0, episodes.ticks, 5)), 8))
    tables, _ = fit_tables(episodes, reader(), chunks, ["edge"], apart, 5, alpha=0.1)
    beyond = []
    for seed in range(100, 110):
        fresh = chunks_of(script(seed), LENGTH)
        errors = staleness(fresh, tables.scale, [(0, len(fresh))], 1.0)
        beyond.append(errors[8:, 8] > tables.e_stale[8, -1])
    assert np.concatenate(beyond).mean() < 0.15  # of the riskiest bin, for 0.1


def test_a_bundle_calibrated_from_its_own_episode(
    vlacut: Vlacut, split_bundle: Path, tmp_path: Path
) -> None:
    server = serve(split_bundle)
    cloud = "{}:{}".format(*server.address)
    episode, tables, fresh = (tmp_path / f"{name}.npz" for name in ("episode", "tables", "fresh"))
    words = ["run", split_bundle, "--cloud", cloud, "--rate", 100, "--chunk", "action,axis=1"]
    with serving_thread(server):
        assert vlacut(*words, "--steps", 60, "--record", episode)[0] == 0
        status, out, _ = vlacut(
            "calibrate-actions", split_bundle, episode, "-o", tables, "--fresh", fresh, "--json"
        )
        assert status == 0
        made = json.loads(out)
        assert made["ticks"] == 60
        assert made["e_variant"] == {"chosen": [0.0]}  # in float32 a cut has the model's bits
        dense = read_episodes(fresh)
        assert dense.chunk.shape[0] == 60
        np.testing.assert_array_equal(dense.chunk[0], read_episodes(episode).chunk[0])
        used = ["--controller", "price", "--tables", tables]
        status, out, _ = vlacut(*words, "--steps", 20, *used, "--json")
        assert status == 0
        assert "no tables" not in out
        assert vlacut(*words, "--steps", 20, "--controller", "rapid", "--tables", tables)[0] == 0
    kept = compile_program(looping_program(), TARGET, tmp_path / "kept.vlacut", actions=tables)[1]
    assert kept.actions_path is not None
    assert read_tables(kept.actions_path).variants == ("chosen",)
    with pytest.raises(InputError, match="hold no variant"):
        read_tables(tables).check(["another"])
    status, out, _ = vlacut("calibrate-actions", split_bundle, episode, "-o", tables)
    assert status == 0
    assert "area under the curve" in out
    for path, bad, said in (
        (episode, tmp_path / "none" / "x.npz", "there is no folder"),
        (tables, tmp_path / "x.npz", "vlacut run --record"),
    ):
        status, _, error = vlacut("calibrate-actions", split_bundle, path, "-o", bad)
        assert status == 2
        assert said in error


def test_a_model_that_remembers_is_run_in_sequence_over_its_episodes(tmp_path: Path) -> None:
    """Every tick builds on the ticks of its episode before it, and on none of another's."""
    program = remembering(looping_program())
    bundle = compile_program(program, TARGET, tmp_path / "b.vlacut")[1]
    images = np.random.default_rng(5).standard_normal((11, 1, 64)).astype(np.float32)
    made, _ = episodes_of([0])
    first = {name: getattr(made, name)[:11] for name in ("tick_ns", "captured_ns")}
    episodes = replace(
        made, **first, declared="action,axis=1", episode=np.array([0, 6]),
        chunk=np.zeros((1, 64, 1)), observation={"image": images},
    )  # fmt: skip
    ran = Inferences(bundle, episodes)
    found = ran.references(unwatched)
    reference = Reference(program)
    for tick, image in enumerate(images):
        if tick in (0, 6):
            reference.reset()
        wanted = reference.step({"image": image})["action"]
        np.testing.assert_allclose(found[tick], wanted.T, rtol=1e-4, atol=1e-6)
    assert np.abs(found[7] - found[0]).max() > 0
    apart = ran.differences(found, range(0, 11, 3), unwatched)
    assert apart.shape == (len(bundle.plan.variants), 4, 1)
    np.testing.assert_array_equal(apart, 0.0)  # in float32 a cut has the model's bits
    assert ran.differences(found + 1, range(0, 11, 3), unwatched).min() > 0.9


def test_too_little_is_refused() -> None:
    episodes, chunks = episodes_of([0])
    short = replace(episodes, tick_ns=episodes.tick_ns[:9])
    with pytest.raises(InputError, match="too few"):
        fit_tables(short, reader(), chunks[:9], ["e"], chunks, 1)
